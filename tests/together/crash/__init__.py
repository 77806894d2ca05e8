"""Training that is killed again and again, and started again, ends as training that never was."""
