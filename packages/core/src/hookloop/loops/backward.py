"""Backward that a module asks for, and what is said of a loss that no gradient can be computed from."""

from typing import Any

from torch import Tensor

from hookloop.errors import MisconfigurationError
from hookloop.run import Run


def backward_by_hand(run: Run, loss: Tensor, *args: Any, **kwargs: Any) -> None:
    """What `manual_backward` does: scale the loss, and compute its gradients with the hooks around it.

    Args:
        run: the run.
        loss: what `manual_backward` was called with.
        *args: for `Tensor.backward`.
        **kwargs: the same.

    Raises:
        MisconfigurationError: it is no tensor, or no gradient can be computed from it.
        AnomalyError: it is NaN or infinite, and anomalies are looked for.
    """
    where = f"{type(run.module).__name__}.manual_backward() was called with"
    if not isinstance(loss, Tensor):
        raise MisconfigurationError(
            f"{where} {loss!r} ({type(loss).__name__}), and a tensor is needed: the loss as it was computed."
        )
    if run.detect_anomaly:
        from hookloop.loops.anomalies import look_at  # only for those who look for one

        called = f"The loss that {type(run.module).__name__}.manual_backward() was called with"
        look_at(run, loss, called, run.recorder.batch, run.progress.batch)
    hooks, precision = run.hooks, run.strategy.precision
    scaled = precision.scale(loss)
    hooks.on_before_backward(scaled)
    try:
        hooks.own.backward(scaled, *args, **kwargs)
    except RuntimeError as error:
        explain_failed_backward(error, where, loss, has_gradient=bool(args) or kwargs.get("gradient") is not None)
        raise
    hooks.on_after_backward()


def explain_failed_backward(error: RuntimeError, where: str, loss: Tensor, has_gradient: bool = False) -> None:
    """Say what is wrong with a loss whose backward raised, if that is known. Asked afterwards, it costs nothing before.

    Args:
        error: what backward raised.
        where: the beginning of the sentence: who gave this loss.
        loss: the loss.
        has_gradient: whether backward was given the gradient of a loss with several elements.

    Raises:
        MisconfigurationError: the loss has no gradient, several elements, or is complex.
    """
    if not loss.requires_grad:
        raise MisconfigurationError(
            f"{where} a loss that no gradient can be computed from (requires_grad is False). Either it was cut off "
            "from the computation by .detach(), .item(), torch.tensor(...) or torch.no_grad(), or nothing that it was "
            "computed from requires a gradient: frozen parameters, an optimizer that is not toggled, an operation that "
            "has none (argmax, a comparison). Use the loss as it comes out of the computation."
        ) from error
    if (loss.numel() != 1 or loss.is_complex()) and not has_gradient:
        raise MisconfigurationError(
            f"{where} a loss of shape {tuple(loss.shape)} and dtype {loss.dtype}, and a loss is one real number. "
            "Reduce it: loss.mean() or loss.sum()."
        ) from error
    if "second time" in str(error):
        error.add_note(
            "hookloop: with automatic optimization the trainer calls backward on what training_step returns, so "
            "training_step must not do so too. With manual optimization, pass retain_graph=True to the first of two "
            "calls of self.manual_backward that share a graph, and use no tensor of an earlier batch undetached."
        )
