"""Runs of the job that are ended by signals at random moments, and started again until they are through."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from hookloop.checkpoint_file import verify_checkpoint

from .job import train
from .process import Process

DEADLINE_S = 60
"""For what takes seconds: a process that is still there then hangs."""

STARTS_WITHOUT_PROGRESS = 25
"""A killed start gains nothing if the moment comes before its first save; so many in a row do not happen by chance."""


class BrokenPromiseError(AssertionError):
    """A killed job left something that it must not leave, or did not go on as it must."""


@dataclass
class End:
    """How one start of the job ended.

    Attributes:
        run: index of the run that it belongs to, whose folder is run0, run1, ....
        resumed: the optimizer step at which it began to train; None if it did not come so far.
        aim: "anywhere", or "in a save": what the moment of the signal was drawn for; "" for none.
        plan: how the moment was drawn, so that it can be repeated by hand.
        to_group: whether its workers got the signal too.
        last: the last event that was heard of it.
        step: the last optimizer step that was heard of.
        in_save: whether the signal came in the middle of a save.
        left_behind: whether it left the file of an unfinished save.
        exit_code: as `Process.exit_code`.
    """

    run: int
    resumed: int | None
    aim: str
    plan: str
    to_group: bool
    last: str
    step: int
    in_save: bool
    left_behind: bool
    exit_code: int

    def __str__(self) -> str:
        began = "before training" if self.resumed is None else f"from step {self.resumed}"
        moment = f" {self.plan}, after {self.last!r}{' IN A SAVE' if self.in_save else ''}" if self.aim else ""
        reach = "with its workers" if self.to_group else "alone"
        return f"run {self.run}: {began} to step {self.step}; exit code {self.exit_code} {reach}{moment}"


@dataclass
class Result:
    """All starts of all runs. Every run has its final.ckpt."""

    seed: int
    folders: list[str] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    @property
    def killed(self) -> list[End]:
        """The starts that a signal ended."""
        return [end for end in self.ends if end.aim and end.exit_code != 0]

    @property
    def killed_in_saves(self) -> list[End]:
        """Those of them that were in the middle of a save."""
        return [end for end in self.killed if end.in_save]

    def as_dict(self) -> dict[str, Any]:
        """The same for a JSON file."""
        return asdict(self)


@dataclass
class Pace:
    """How long things take here, as it was seen in the last starts of the job: moments are drawn from it."""

    until_training_s: float
    save_s: float
    between_saves_s: float

    @classmethod
    def of(cls, process: Process) -> "Pace":
        """That of a start which was not killed."""
        training = next(when for when, event in process.events if event.startswith("training"))
        saves = [(when, event.split()[0]) for when, event in process.events if event.startswith("sav")]
        begun = [when for when, kind in saves if kind == "saving"]
        # A file may have two names, and each is told to be there.
        lengths = [end - begin for (begin, kind), (end, then) in pairwise(saves) if (kind, then) == ("saving", "saved")]
        return cls(training - process.began, sorted(lengths)[len(lengths) // 2], (begun[-1] - begun[0]) / len(begun))


@dataclass
class Course:
    """What the job does if nobody ends it.

    Attributes:
        folder: its files.
        batches: after each batch (optimizer step, epoch, index), a digest of the weights.
        pace: how long things take.
    """

    folder: Path
    batches: dict[tuple[str, ...], str]
    pace: Pace


def uninterrupted(folder: Path) -> Course:
    """Run the job without a signal."""
    ours = folder / "never-killed"
    ours.mkdir()
    process = Process(partial(train, ours), folder / "log.txt")
    if process.wait(DEADLINE_S) != 0:
        raise BrokenPromiseError(f"The job fails by itself:\n{(folder / 'log.txt').read_text()}")
    return Course(ours, _batches(process), Pace.of(process))


def _batches(process: Process) -> dict[tuple[str, ...], str]:
    return {tuple(place): digest for _, *place, digest in process.told("batch")}


def interrupted(
    folder: Path,
    course: Course,
    signals: int,
    seed: int,
    signum: signal.Signals = signal.SIGKILL,
    say: Callable[[End], None] = lambda end: None,
) -> Result:
    """Run the job, one run after the other, until so many signals have ended a start of it, half of them in a save.

    The last run is left alone until it is through, so that every run ends. After each signal it is checked that no file
    is damaged, that the next start goes on with the newest save that was told to be complete, or a newer one, and that
    the weights after each batch are those of the job that nobody ended.

    Args:
        folder: for the runs.
        course: what the job does if nobody ends it.
        signals: how many.
        seed: of the moments.
        signum: which signal.
        say: is told of each start that has ended.

    Raises:
        BrokenPromiseError: one of them does not hold.
        TimeoutError: the job hangs.
    """
    draw, result = random.Random(seed), Result(seed)
    while len(result.killed) < signals or len(result.killed_in_saves) < signals // 2:
        ours = folder / f"run{len(result.folders)}"
        ours.mkdir()
        result.folders.append(str(ours))
        promised, barren = 0, 0
        while not (ours / "final.ckpt").exists():
            left, saves_left = signals - len(result.killed), signals // 2 - len(result.killed_in_saves)
            aim = "in a save" if saves_left > 0 and (saves_left >= left or draw.random() < 0.5) else "anywhere"
            if max(left, saves_left) <= 0:
                aim = ""
            end, saved = _start(ours, result, course, aim, draw, signum)
            result.ends.append(end)
            say(end)
            if end.resumed is not None and end.resumed < promised:
                raise BrokenPromiseError(f"Step {promised} had been saved, and the next start forgot it. {end}")
            barren = 0 if saved > promised else barren + 1
            promised = max(promised, saved)
            if barren > STARTS_WITHOUT_PROGRESS:
                raise BrokenPromiseError(f"{barren} starts in a row saved nothing new. {end}")
    return result


def _start(
    ours: Path, result: Result, course: Course, aim: str, draw: random.Random, signum: signal.Signals
) -> tuple[End, int]:
    """Start the job once, and have it end; returns how it ended, and the newest step that it told to be saved."""
    to_group = draw.random() < 0.5
    before = set(ours.rglob(".*.partial"))
    process = Process(partial(train, ours), ours.parent / "log.txt")
    plan, in_save = "", False
    if aim:
        plan = _wait_for_the_moment(process, course.pace, aim, draw)
        process.send(signum, to_group=to_group)
        in_save = process.is_saving
    code = process.wait(DEADLINE_S)
    in_save = in_save and process.is_saving if signum == signal.SIGKILL else in_save
    log = ours.parent / "log.txt"
    if code != 0 and not (aim and code in (-signum, 128 + signum)):
        raise BrokenPromiseError(f"The job failed with exit code {code}:\n{log.read_text()[-4000:]}")
    for path in ours.rglob("*.ckpt"):
        verify_checkpoint(path)
    for place, digest in _batches(process).items():
        if course.batches[place] != digest:
            raise BrokenPromiseError(f"After batch {place} the weights are others. {process.events}")
    trained = process.told("training")
    steps = [int(event.split()[1]) for _, event in process.events if event.split()[0] in ("training", "batch")]
    saved = max((int(words[1]) for words in process.told("saved")), default=0)
    end = End(
        run=len(result.folders) - 1,
        resumed=int(trained[0][1]) if trained else None,
        aim=aim,
        plan=plan,
        to_group=to_group,
        last=process.events[-1][1] if process.events else "",
        step=max(steps, default=0),
        in_save=in_save and code != 0,
        left_behind=bool(set(ours.rglob(".*.partial")) - before),
        exit_code=code,
    )
    return end, saved


def _wait_for_the_moment(process: Process, pace: Pace, aim: str, draw: random.Random) -> str:
    """Listen until the moment for a signal has come; returns which one it is.

    A random moment is what is tested, and nothing is waited for by letting time pass: a save is waited for by its
    event. The time from there on, a part of what a save takes, decides where in the save the signal comes; if it comes
    before or after, that is a moment like any other, and the next one is drawn.
    """
    if aim == "anywhere":
        delay = draw.uniform(0, pace.until_training_s + 4 * pace.between_saves_s)
        _listen(process, process.began + delay)
        return f"{delay * 1e3:.1f} ms after its start"
    nth, delay = draw.randint(1, 4), draw.uniform(0, 1.2) * pace.save_s
    event: str | None = ""
    while len(process.told("saving")) < nth and event is not None:
        event = process.listen(time.perf_counter() + DEADLINE_S)
    # From when it was heard: what it does until then is the beginning of the save.
    _listen(process, time.perf_counter() + delay)
    return f"{delay * 1e3:.1f} ms after save number {nth} began"


def _listen(process: Process, until: float) -> None:
    while process.listen(until) is not None:
        pass


def sorted_files(folder: Path) -> Iterator[Path]:
    """The checkpoints in a folder of a run, as paths in it."""
    return (path.relative_to(folder) for path in sorted(folder.rglob("*.ckpt")))
