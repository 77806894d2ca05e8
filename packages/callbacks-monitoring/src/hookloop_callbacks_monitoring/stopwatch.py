"""`Stopwatch`: how long each stage of a run has lasted, over all the processes that it was run in."""

from collections.abc import Callable, Mapping
from typing import Any


class Stopwatch:
    """Adds up the seconds of stages, which begin and end, and begin again.

    Args:
        clock: seconds since some moment; it never goes back.

    Attributes:
        started: when a stage last began, by the clock.
        ended: when it last ended; a stage that is going on is not in it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before: dict[str, float] = {}
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def start(self, stage: str) -> None:
        """A stage begins."""
        self.stop(stage)
        self._before[stage] = self.elapsed(stage)
        self.started[stage] = self._clock()
        self.ended.pop(stage, None)

    def stop(self, *stages: str) -> None:
        """These stages end; all that are going on if none is named."""
        for stage in stages or tuple(self.started):
            if stage in self.started and stage not in self.ended:
                self.ended[stage] = self._clock()

    def elapsed(self, stage: str) -> float:
        """Seconds of a stage, the running ones included; 0 if it never began."""
        before = self._before.get(stage, 0.0)
        if stage not in self.started:
            return before
        return before + self.ended.get(stage, self._clock()) - self.started[stage]

    def forget(self) -> None:
        """Nothing has begun."""
        self._before, self.started, self.ended = {}, {}, {}

    def seconds(self) -> dict[str, float]:
        """The seconds of every stage that ever began, for a checkpoint."""
        return {stage: self.elapsed(stage) for stage in {**self._before, **self.started}}

    def go_on(self, seconds: Mapping[str, Any]) -> None:
        """Take over what `seconds` gave."""
        self.forget()
        self._before = {str(stage): float(value) for stage, value in seconds.items()}
