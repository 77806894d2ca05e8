"""How long saving a checkpoint holds training up, and how long loading one takes."""
