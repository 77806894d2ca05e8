"""What a step costs over a plain PyTorch loop: microseconds of CPU time, and calls."""
