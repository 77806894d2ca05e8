"""The command `hookloop`: `main` takes it apart, and each command is a file of its own."""
