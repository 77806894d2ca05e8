"""Checkpoints that Lightning wrote, and what they were written with: `python dev.py bench lightning_files`."""
