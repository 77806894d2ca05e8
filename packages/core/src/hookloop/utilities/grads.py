"""Where Lightning's users look for `grad_norm`."""

from hookloop.gradients import grad_norm

__all__ = ["grad_norm"]
