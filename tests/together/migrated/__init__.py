"""Five scripts for Lightning as people write them, and what Lightning computes with them."""
