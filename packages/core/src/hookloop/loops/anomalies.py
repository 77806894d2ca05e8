"""What `detect_anomaly=True` adds to a fit: a loss or a gradient that is NaN or infinite ends it, and says where."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from hookloop.batches import map_batch
from hookloop.errors import AnomalyError
from hookloop.run import Run

_NAMED = 3
"""How many of the tensors that hold NaN or infinity an error names: where it began is among them or it is nowhere."""


def watched(run: Run, training_step: Callable[..., Any]) -> Callable[..., Any]:
    """The training step, with a look at its loss: reading it waits for the device in each step.

    Raises:
        AnomalyError: the loss is NaN or infinite; the message names epoch, batch and step, and what else is.
    """

    @wraps(training_step)
    def step(batch: Any, batch_idx: int, *more: Any) -> Any:
        output = training_step(batch, batch_idx, *more)
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if isinstance(loss, Tensor):
            look_at(run, loss, f"The loss of {type(run.module).__name__}.training_step", batch, batch_idx)
        return output

    return step


def look_at(run: Run, loss: Tensor, which: str, batch: Any, batch_idx: int) -> None:
    """Look at a loss; reading it waits for the device.

    Args:
        run: the run.
        loss: the loss.
        which: the beginning of the sentence: what it is.
        batch: the running batch, in which the NaN may be already.
        batch_idx: its index in the epoch.

    Raises:
        AnomalyError: it is NaN or infinite.
    """
    if not bool(torch.isfinite(loss).all()):
        raise AnomalyError(f"{which} is {_shown(loss)} {_where(run, batch_idx)}. {_suspects(run, batch)}")


@contextmanager
def naming_the_batch(run: Run) -> Iterator[None]:
    """Around training: what torch's anomaly mode finds in a backward pass says in which batch that was.

    Raises:
        AnomalyError: in place of torch's RuntimeError, which it is raised from.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, AnomalyError) or "returned nan values" not in str(error):
            raise
        raise AnomalyError(
            f"A gradient is NaN {_where(run, run.progress.batch)}: {str(error).rstrip('.')}. Above this error torch "
            f"printed the line of the forward pass that this operation comes from. {_suspects(run, None)}"
        ) from error


def _where(run: Run, batch_idx: int) -> str:
    progress = run.progress
    return f"in batch {batch_idx} of epoch {progress.epoch} (global_step={progress.global_step})"


def _shown(loss: Tensor) -> str:
    return str(loss.item()) if loss.numel() == 1 else f"not finite everywhere (shape {tuple(loss.shape)})"


def _suspects(run: Run, batch: Any) -> str:
    """Where else there is NaN or infinity: it came from there, or else from the computation itself."""
    shapes: list[tuple[int, ...]] = []

    def look(tensor: Tensor) -> Tensor:
        if _broken(tensor):
            shapes.append(tuple(tensor.shape))
        return tensor

    map_batch(look, batch)
    if shapes:
        return f"The batch holds NaN or infinity, so look at the data: a tensor of shape {shapes[0]} does."
    weights = _names(run.module.named_parameters())
    if weights:
        return (
            f"Weights hold NaN or infinity: {weights}. An optimizer step before this one broke them: lower the "
            "learning rate, or clip gradients with gradient_clip_val."
        )
    buffers = _names(run.module.named_buffers())
    if buffers:
        return f"Buffers hold NaN or infinity: {buffers}."
    return (
        "The batch and the weights are finite, so it comes from the computation: a division by zero, a logarithm or a "
        "root of nothing, an overflow."
    )


def _names(tensors: Iterable[tuple[str, Tensor]]) -> str:
    names = [name for name, tensor in tensors if _broken(tensor)]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _broken(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return not bool(torch.isfinite(tensor.detach()).all())
