"""What a callback adds to a training step, in Python calls, which are the same on every machine."""

from typing import Any

from hookloop import Callback
from hookloop.testing.counting import SETTLED, calls_between
from hookloop.testing.runs import NotTriedError, Subject, broken, needed, trainer_of
from hookloop.testing.tiny import TinyDataModule

_BATCHES = SETTLED + 40


class _Listens(Callback):
    """Overrides the hooks of a step, each with nothing.

    The first one who listens to a hook has the loop make a call that it leaves out where nobody does. It is the loop's,
    so it is there with and without the callback that is counted.
    """

    def on_train_batch_start(self, *arguments: Any) -> None: ...

    def on_before_zero_grad(self, *arguments: Any) -> None: ...

    def on_before_backward(self, *arguments: Any) -> None: ...

    def on_after_backward(self, *arguments: Any) -> None: ...

    def on_before_optimizer_step(self, *arguments: Any) -> None: ...

    def on_after_optimizer_step(self, *arguments: Any) -> None: ...

    def on_train_batch_end(self, *arguments: Any) -> None: ...


def added_calls(subject: Subject) -> float:
    """Python calls that a training step has more with the callback than without it: the mean of 40 steps.

    Another callback listens to every hook of a step meanwhile, so that nobody is counted who only happens to be the
    first: a hook costs the call of itself and what it calls.

    A `NotTriedError` tells that a run with it fails, or ends before.
    """
    callback = subject.make()
    with_it, without = _calls(subject, callback), _calls(subject, Callback())
    steps = min(len(with_it), len(without))
    if steps <= SETTLED:
        raise NotTriedError(f"it ended training after {len(with_it) + 1} steps, before there was anything to count")
    return (sum(with_it[SETTLED:steps]) - sum(without[SETTLED:steps])) / (steps - SETTLED)


def costs_no_more_than_allowed(subject: Subject) -> float:
    """What it adds to a training step is not more than `max_calls_per_step`, if that is set; returns what it adds."""
    added = added_calls(subject)
    if subject.max_calls_per_step is not None and added > subject.max_calls_per_step:
        raise broken(
            subject.make(),
            f"adds {added:g} Python calls to a training step, and {subject.max_calls_per_step:g} are allowed.",
            "Do in setup what is the same for every batch, and most of the rest every n batches.",
        )
    return added


def _calls(subject: Subject, callback: Callback) -> list[int]:
    module = subject.module()
    trainer = trainer_of(subject, [callback, _Listens()], max_epochs=1)

    def run() -> None:
        needed(lambda: trainer.fit(module, datamodule=TinyDataModule(_BATCHES)), callback)

    return calls_between(type(module).training_step, run)
