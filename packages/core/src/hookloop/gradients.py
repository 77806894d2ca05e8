"""How large gradients are, by parameter and all together, and the ways to clip them."""

import math
from enum import StrEnum

import torch
from torch import Tensor, nn

from hookloop.errors import MisconfigurationError


class GradClipAlgorithmType(StrEnum):
    """What the Trainer's `gradient_clip_algorithm` may be."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(val: str) -> bool:
        """Whether `val` is one of them."""
        return val in GradClipAlgorithmType.supported_types()

    @staticmethod
    def supported_types() -> list[str]:
        """Their values."""
        return [algorithm.value for algorithm in GradClipAlgorithmType]


CLIP_ALGORITHMS = tuple(GradClipAlgorithmType)
"""The same as a tuple, in which a plain string is found too."""


def grad_norm(module: nn.Module, norm_type: float | int | str, group_separator: str = "/") -> dict[str, Tensor]:
    """The norm of every parameter's gradient, and of all of them as one vector.

    `self.log_dict(grad_norm(self.layer, norm_type=2))` in `on_before_optimizer_step` logs them before they are clipped.

    Args:
        module: whose parameters; those without a gradient are left out.
        norm_type: p of the p-norm, a positive number, or "inf" for the largest absolute value.
        group_separator: stands between the name of the norm and that of the parameter; loggers group by "/".

    Returns:
        Scalars on their gradients' devices: `grad_2.0_norm/weight` for each parameter, and `grad_2.0_norm_total`; empty
        without any gradient.

    Raises:
        MisconfigurationError: the norm_type is no positive number.
    """
    try:
        order = float(norm_type)
    except (TypeError, ValueError):
        order = math.nan
    if not order > 0:
        raise MisconfigurationError(
            f'grad_norm(norm_type={norm_type!r}): it must be a positive number, or "inf" (largest value).'
        )
    norms = {
        f"grad_{order}_norm{group_separator}{name}": torch.linalg.vector_norm(parameter.grad.detach(), order)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        first = next(iter(norms.values()))
        each = [norm.to(first.device) for norm in norms.values()]  # a model may lie on several devices
        dtype = max((norm.dtype for norm in each), key=lambda dtype: torch.finfo(dtype).bits)
        together = torch.stack([norm.to(dtype) for norm in each])
        norms[f"grad_{order}_norm_total"] = torch.linalg.vector_norm(together, order)
    return norms
