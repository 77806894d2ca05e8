"""What a bar costs a step that draws nothing: Python calls, which are the same in every run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hookloop import Callback, Trainer
from hookloop_callbacks_progress import TQDMProgressBar

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Model

    Loader = Callable[[int], DataLoader[Any]]


def calls(*callbacks: Callback, model: Model, batches: DataLoader[Any]) -> int:
    """Python calls of a fit."""
    run = Trainer(callbacks=list(callbacks), registered_callbacks=False, logger=False, max_epochs=1)
    count = 0

    def listen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(listen)
    try:
        run.fit(model, batches)
    finally:
        sys.setprofile(before)
    return count


def test_a_step_that_draws_nothing_makes_at_most_three_more_calls(
    pipe: io.StringIO, model: Model, loader: Loader
) -> None:
    def of_a_step(*callbacks: Callback) -> float:
        fifty, hundred = (calls(*callbacks, model=type(model)(), batches=loader(batches)) for batches in (50, 100))
        return (hundred - fifty) / 50

    calls(model=model, batches=loader(2))  # what is done once in a process

    # The hook, the question whether it is time, and perhaps the dispatcher.
    assert 0 < round(of_a_step(TQDMProgressBar()) - of_a_step(), 1) <= 3
