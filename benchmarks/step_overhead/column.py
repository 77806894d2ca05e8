"""The columns of the table: what is asked of a loop besides training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """What a subject's loop does.

    Attributes:
        title: heads the column.
        meaning: what the title stands for, unless it says so itself.
        target: hookloop's overhead in microseconds a step, as PERFORMANCE.md sets it.
        callbacks: how many callbacks there are.
        hooks: whether each of them has an empty hook before and one after the batch.
        log: whether the loss is logged per step and per epoch.
        bar: whether the default progress bar is drawn.
        clip: largest norm of the gradients.
        accumulate: batches for an optimizer step.
    """

    title: str
    target: int
    meaning: str = ""
    callbacks: int = 0
    hooks: bool = False
    log: bool = False
    bar: bool = False
    clip: float | None = None
    accumulate: int = 1


COLUMNS = (
    Column("bare", target=15),
    Column(
        "10 x 2 hooks",
        target=25,
        meaning="ten callbacks with an empty hook before and one after each batch",
        callbacks=10,
        hooks=True,
    ),
    Column("10 idle", target=15, meaning="ten callbacks without a hook", callbacks=10),
    Column("log", target=30, meaning="self.log of the loss, on_step and on_epoch", log=True),
    Column("bar", target=40, meaning="the default progress bar on a terminal", bar=True),
    Column(
        "clip + acc. 4",
        target=15,
        meaning="clipping by norm, four batches for an optimizer step",
        clip=1.0,
        accumulate=4,
    ),
)
