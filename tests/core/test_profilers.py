from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from hookloop.errors import MisconfigurationError
from hookloop.profilers import ActionTime, PassThroughProfiler, Profiler, SimpleProfiler, timed


def clock(*seconds: float) -> Callable[[], int]:
    """A clock that shows these times, one after the other."""
    times = iter(seconds)
    return lambda: round(next(times) * 1_000_000_000)


class Noting(Profiler):
    """Notes what it is told, and has a text to tell."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, name: str) -> None:
        self.notes.append(f"start {name}")

    def stop(self, name: str) -> None:
        self.notes.append(f"stop {name}")

    def summary(self) -> str:
        return "\n".join(self.notes)


# ------------------------------------------------------------------------------------------------- SimpleProfiler


def test_times_are_summed_per_action_and_time_inside_another_action_counts_for_both() -> None:
    profiler = SimpleProfiler(clock=clock(10, 11, 13, 14, 18, 20))
    with profiler.profile("epoch"):
        with profiler.profile("batch"):
            pass
        with profiler.profile("batch"):
            pass
    assert profiler.actions() == [
        ActionTime("epoch", calls=1, outermost=1, total=10.0, mean=10.0, percent=100.0, own=4.0),
        ActionTime("batch", calls=2, outermost=2, total=6.0, mean=3.0, percent=60.0, own=6.0),
    ]
    assert profiler.profiled_seconds == 10.0
    assert profiler.running() == []


def test_time_inside_a_nested_call_of_the_same_action_counts_once() -> None:
    # Starts inside do not read the clock: the first call starts at 0, three stops at 1, 2 and 3, the second is 4 to 8.
    profiler = SimpleProfiler(clock=clock(0, 1, 2, 3, 4, 8))

    def nest(depth: int) -> None:
        with profiler.profile("recursive"):
            if depth:
                nest(depth - 1)

    nest(2)
    nest(0)
    assert profiler.actions() == [
        ActionTime("recursive", calls=4, outermost=2, total=7.0, mean=3.5, percent=87.5, own=7.0),
    ]


def test_actions_need_not_be_nested_in_each_other() -> None:
    profiler = SimpleProfiler(clock=clock(0, 1, 4, 9))
    profiler.start("a")
    profiler.start("b")
    profiler.stop("a")
    profiler.stop("b")
    assert {action.name: action.total for action in profiler.actions()} == {"a": 4.0, "b": 8.0}
    # Of two that overlap, the time is that of the one that started last.
    assert {action.name: action.own for action in profiler.actions()} == {"a": 1.0, "b": 8.0}


def test_an_action_that_raises_is_measured_and_the_next_one_is_no_nested_one() -> None:
    profiler = SimpleProfiler(clock=clock(0, 2, 3, 4))
    with pytest.raises(ZeroDivisionError), profiler.profile("a"):
        _ = 1 / 0
    with profiler.profile("a"):
        pass
    assert profiler.actions() == [ActionTime("a", calls=2, outermost=2, total=3.0, mean=1.5, percent=75.0, own=3.0)]


def test_stopping_what_is_not_running_is_an_error_that_says_what_to_do() -> None:
    profiler = SimpleProfiler()
    message = (
        r"stop\('a'\): no action of that name is running on this thread\. Call start\('a'\) before it, or use `with"
    )
    with pytest.raises(MisconfigurationError, match=message):
        profiler.stop("a")
    with profiler.profile("a"):
        pass
    with pytest.raises(MisconfigurationError, match=message):
        profiler.stop("a")


def test_threads_do_not_nest_in_each_other_and_their_times_are_added() -> None:
    # Read by this thread at 0, by the other one at 1, 2 (the stop that fails) and 3, by this thread at 4.
    profiler = SimpleProfiler(clock=clock(0, 1, 2, 3, 4))
    failed: list[MisconfigurationError] = []

    def other() -> None:
        with profiler.profile("save"):
            try:
                profiler.stop("train")
            except MisconfigurationError as error:
                failed.append(error)

    profiler.start("save")
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert profiler.running() == ["save"]
    profiler.stop("save")
    assert len(failed) == 1
    assert profiler.actions() == [ActionTime("save", calls=2, outermost=2, total=6.0, mean=3.0, percent=150.0, own=6.0)]


def test_the_default_clock_is_the_wall_clock_and_another_one_can_be_given() -> None:
    wall, cpu = SimpleProfiler(), SimpleProfiler(clock=time.process_time_ns)
    begin_wall, begin_cpu = time.perf_counter(), time.process_time()
    with wall.profile("work"), cpu.profile("work"):
        sum(range(200_000))
    end_wall, end_cpu = time.perf_counter(), time.process_time()
    assert 0 < wall.actions()[0].total <= end_wall - begin_wall
    assert 0 < cpu.actions()[0].total <= end_cpu - begin_cpu


def test_memory_does_not_grow_with_the_number_of_calls() -> None:
    profiler = SimpleProfiler()

    def work(times: int) -> None:
        for _ in range(times):
            profiler.start("a")
            profiler.stop("a")

    work(10)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    work(20_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2_000


def test_the_summary_is_a_table_with_the_longest_total_first() -> None:
    profiler = SimpleProfiler(clock=clock(0, 1, 2.5, 3, 3.25, 4, 6, 8.5, 10, 10, 10.5))
    with profiler.profile("run"):
        for _ in range(2):
            with profiler.profile("[Callback]Timer.on_train_batch_end"):
                pass
        with profiler.profile("nested"), profiler.profile("nested"):
            pass
    with profiler.profile("after"):
        pass
    assert profiler.summary().splitlines() == [
        "SimpleProfiler: 10.5 s; the total of an action includes the actions inside it, self does not",
        "Part                               | Mean (s) | Calls | Self (s) | Total (s) |    %",
        "-----------------------------------+----------+-------+----------+-----------+-----",
        "run                                |       10 |     1 |     3.75 |        10 | 95.2",
        "nested                             |      4.5 |   2/1 |      4.5 |       4.5 | 42.9",
        "after                              |      0.5 |     1 |      0.5 |       0.5 |  4.8",
        "",
        "Hook                               | Mean (s) | Calls | Self (s) | Total (s) |    %",
        "-----------------------------------+----------+-------+----------+-----------+-----",
        "on_train_batch_end                 |    0.875 |     2 |     1.75 |      1.75 | 16.7",
        "",
        "Callback                           | Mean (s) | Calls | Self (s) | Total (s) |    %",
        "-----------------------------------+----------+-------+----------+-----------+-----",
        "[Callback]Timer                    |    0.875 |     2 |     1.75 |      1.75 | 16.7",
        "",
        "Hook of a callback                 | Mean (s) | Calls | Self (s) | Total (s) |    %",
        "-----------------------------------+----------+-------+----------+-----------+-----",
        "[Callback]Timer.on_train_batch_end |    0.875 |     2 |     1.75 |      1.75 | 16.7",
    ]
    profiler.extended = False
    assert profiler.summary().splitlines()[:4] == [
        "SimpleProfiler: 10.5 s; the total of an action includes the actions inside it",
        "Part                               | Mean (s) | Total (s)",
        "-----------------------------------+----------+----------",
        "run                                |       10 |        10",
    ]


def test_hooks_and_callbacks_are_summed_up_and_what_is_inside_counts_once() -> None:
    # One of two callbacks saves in the hook that both have: a part, and inside it another hook of its own.
    profiler = SimpleProfiler(clock=clock(0, 1, 2, 5, 6, 10, 11, 16))
    with (
        profiler.profile("[Callback]Saves.on_train_end"),  # 0 to 10
        profiler.profile("save_checkpoint"),  # 1 to 6
        profiler.profile("[Callback]Saves.on_save_checkpoint"),  # 2 to 5
    ):
        pass
    with profiler.profile("[Callback]Timer{'a.b': 1}.on_train_end"):  # 11 to 16
        pass
    assert profiler.parts() == [
        ActionTime("save_checkpoint", calls=1, outermost=1, total=5.0, mean=5.0, percent=31.25, own=2.0),
    ]
    assert profiler.hooks() == [
        ActionTime("on_train_end", calls=2, outermost=2, total=15.0, mean=7.5, percent=93.75, own=10.0),
        ActionTime("on_save_checkpoint", calls=1, outermost=1, total=3.0, mean=3.0, percent=18.75, own=3.0),
    ]
    assert profiler.callbacks() == [
        ActionTime("[Callback]Saves", calls=2, outermost=1, total=10.0, mean=10.0, percent=62.5, own=8.0),
        ActionTime("[Callback]Timer{'a.b': 1}", calls=1, outermost=1, total=5.0, mean=5.0, percent=31.25, own=5.0),
    ]
    assert sum(action.own for action in profiler.actions()) == 15.0


def test_what_is_still_running_is_named_and_does_not_count() -> None:
    profiler = SimpleProfiler(clock=clock(0, 1, 3, 5))
    profiler.start("run")
    with profiler.profile("step"):
        pass
    profiler.start("open")
    assert profiler.running() == ["open", "run"]
    assert [action.name for action in profiler.actions()] == ["step"]
    assert profiler.summary().splitlines()[-1] == "Not in the table, still running: open, run"


def test_a_profiler_that_measured_nothing_has_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    profiler = SimpleProfiler()
    assert profiler.summary() == ""
    assert profiler.actions() == []
    assert profiler.profiled_seconds == 0.0
    profiler.describe()
    assert capsys.readouterr().out == ""


# ----------------------------------------------------------------------------------------------------------- describe


@pytest.mark.parametrize(("local_rank", "printed"), [(None, True), (0, True), (1, False)])
def test_without_a_file_the_first_process_prints(
    capsys: pytest.CaptureFixture[str], local_rank: int | None, printed: bool
) -> None:
    profiler = Noting()
    profiler.setup("fit", local_rank, "logs")
    with profiler.profile("a"):
        pass
    profiler.describe()
    profiler.teardown("fit")
    assert capsys.readouterr().out == ("start a\nstop a\n" if printed else "")
    assert profiler.output_path is None


@pytest.mark.parametrize(
    ("dirpath", "filename", "local_rank", "log_dir", "expected"),
    [
        ("out", "times", 1, "logs", "out/fit-times-1.txt"),
        ("out", None, None, "logs", "out/fit-profile.txt"),
        (None, "times", 0, "logs", "logs/fit-times-0.txt"),
        (None, "times", None, None, "fit-times.txt"),
    ],
)
def test_every_process_writes_its_summary_into_a_file_of_its_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dirpath: str | None,
    filename: str | None,
    local_rank: int | None,
    log_dir: str | None,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    profiler = SimpleProfiler(dirpath, filename, extended=False, clock=clock(0, 2, 2, 4))
    profiler.setup("fit", local_rank, log_dir)
    profiler.describe()
    assert list(tmp_path.iterdir()) == []
    for total in (2, 4):
        with profiler.profile("a"):
            pass
        profiler.describe()
        assert (tmp_path / expected).read_text().splitlines()[-1] == f"a    |        2 |         {total}"
        assert len((tmp_path / expected).read_text().splitlines()) == 4
    assert capsys.readouterr().out == ""


def test_a_run_of_another_stage_gets_another_file_with_all_that_was_measured(tmp_path: Path) -> None:
    profiler = SimpleProfiler(tmp_path, "times", clock=clock(0, 1, 1, 3))
    for stage in ("fit", "test"):
        profiler.setup(stage)
        with profiler.profile(stage):
            pass
        profiler.describe()
        profiler.teardown(stage)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit-times.txt", "test-times.txt"]
    assert [line.split()[0] for line in (tmp_path / "test-times.txt").read_text().splitlines()[3:]] == ["test", "fit"]


def test_the_tilde_in_dirpath_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SimpleProfiler("~/times").output_path == tmp_path / "times" / "profile.txt"


# -------------------------------------------------------------------------------------------------------------- timed


def add(a: int, *, b: int = 0) -> int:
    """Adds."""
    if a < 0:
        raise ValueError("negative")
    return a + b


def test_a_call_that_nobody_times_stays_the_very_same_object() -> None:
    class Quiet(PassThroughProfiler):
        def summary(self) -> str:
            return "nothing"

    for profiler in (None, Profiler(), PassThroughProfiler(), Quiet()):
        assert timed(add, "add", profiler) is add


def test_a_timed_call_takes_and_gives_what_the_call_does() -> None:
    profiler = Noting()
    timed_add = timed(add, "sum", profiler)
    assert timed_add(2, b=3) == 5
    assert profiler.notes == ["start sum", "stop sum"]
    assert timed_add.__name__ == "add"
    assert timed_add.__doc__ == "Adds."


def test_a_timed_call_that_raises_is_stopped_and_raises_the_same() -> None:
    profiler = Noting()
    with pytest.raises(ValueError, match=r"^negative$"):
        timed(add, "sum", profiler)(-1)
    assert profiler.notes == ["start sum", "stop sum"]


def test_a_bound_method_can_be_timed() -> None:
    items: list[int] = []
    profiler = SimpleProfiler(clock=clock(0, 3))
    timed(items.append, "append", profiler)(7)
    assert items == [7]
    assert profiler.actions() == [ActionTime("append", 1, 1, 3.0, 3.0, 100.0, own=3.0)]


def test_overriding_only_start_or_only_stop_or_on_one_instance_is_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Starts(Profiler):
        count = 0

        def start(self, name: str) -> None:
            self.count += 1

    class Stops(PassThroughProfiler):
        count = 0

        def stop(self, name: str) -> None:
            self.count += 1

    starts, stops = Starts(), Stops()
    assert timed(timed(add, "x", starts), "y", stops)(1) == 1
    assert (starts.count, stops.count) == (1, 1)

    names: list[str] = []
    instance = PassThroughProfiler()
    monkeypatch.setattr(instance, "start", names.append)
    assert timed(add, "on the instance", instance)(1) == 1
    assert names == ["on the instance"]


# -------------------------------------------------------------------------------------------------------------- base


def test_the_pass_through_profiler_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiler = PassThroughProfiler(tmp_path, "times")
    profiler.setup("fit", 0, str(tmp_path))
    profiler.start("a")
    profiler.stop("never started")
    with profiler.profile("b"):
        pass
    profiler.describe()
    profiler.teardown("fit")
    assert profiler.summary() == ""
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ imports

IMPORTS = """
import sys
from hookloop import *
before = set(sys.modules)
import hookloop.profilers
print(*(name for name in set(sys.modules) - before if name.startswith("hookloop")))
from hookloop.profilers import SimpleProfiler
print(*({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
print("SimpleProfiler" in dir(hookloop.profilers))
"""


def test_importing_the_profilers_loads_no_profiler_and_the_simple_one_loads_no_library() -> None:
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=120, check=False)
    assert run.stderr == ""
    ours, libraries, listed = run.stdout.split("\n")[:3]
    assert set(ours.split()) <= {"hookloop.profilers"}
    assert set(libraries.split()) <= {"hookloop"}
    assert listed == "True"


def test_a_name_that_the_profilers_do_not_have_is_an_error_that_lists_those_they_have() -> None:
    import hookloop.profilers

    with pytest.raises(
        AttributeError, match=r"no attribute 'Simple'; it has ActionTime, AdvancedProfiler, PassThroughProfiler"
    ):
        _ = hookloop.profilers.Simple
