"""How many floating-point operations a model takes, counted by torch."""

from collections.abc import Callable

from torch import Tensor, nn

from hookloop.errors import MisconfigurationError


def measure_flops(
    model: nn.Module, forward_fn: Callable[[], Tensor], loss_fn: Callable[[Tensor], Tensor] | None = None
) -> int:
    """Count the floating-point operations of a forward pass, or of a forward and a backward pass.

    A model made under `torch.device("meta")` is counted without computing anything.

    Args:
        model: the module that is counted; its parameters' gradients are as before when this returns.
        forward_fn: runs the model and returns its output.
        loss_fn: makes a scalar loss of that output; with it, the backward pass is counted too.

    Returns:
        The number of operations of matrix products, convolutions and attention; torch counts no others.

    Raises:
        MisconfigurationError: forward_fn or loss_fn is no function.
    """
    for name, function in (("forward_fn", forward_fn), ("loss_fn", loss_fn)):
        if not callable(function) and not (name == "loss_fn" and function is None):
            raise MisconfigurationError(
                f"measure_flops({name}={function!r}): pass a function, such as `lambda: model(x)` for forward_fn."
            )
    from torch.utils.flop_counter import FlopCounterMode  # it takes long to load

    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with FlopCounterMode(display=False) as counter:
            output = forward_fn()
            if loss_fn is not None:
                for parameter, _ in gradients:
                    parameter.grad = None  # so that backward makes new ones, and adds nothing to the old
                loss_fn(output).backward()
        return int(counter.get_total_flops())
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
