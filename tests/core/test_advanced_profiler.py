"""`AdvancedProfiler`: what cProfile saw of each action, whatever is inside of what, and on which thread."""

import copy
import cProfile
import pstats
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hookloop import LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.profilers import AdvancedProfiler

on_3_11 = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="from 3.12 on a profile that is interrupted closes its functions"
)
NAMES = ("leaf", "other", "inner", "outer", "around", "recursive")


def leaf() -> int:
    return sum(range(2000))


def other() -> int:
    return sum(range(2000))


def calls(profiler: AdvancedProfiler, action: str) -> dict[str, int]:
    """How often each of this file's functions above ran inside an action."""
    rows: dict[Any, Any] = profiler.stats(action).stats  # type: ignore[attr-defined]
    return {key[2]: row[1] for key, row in rows.items() if key[0] == __file__ and key[2] in NAMES}


def seconds(profiler: AdvancedProfiler, action: str, function: str) -> float:
    """Cumulative seconds of a function of this file inside an action."""
    rows: dict[Any, Any] = profiler.stats(action).stats  # type: ignore[attr-defined]
    [row] = [row for key, row in rows.items() if key[0] == __file__ and key[2] == function]
    return float(row[3])


def test_an_action_has_the_functions_that_ran_inside_it_and_no_others() -> None:
    profiler = AdvancedProfiler()
    leaf()
    with profiler.profile("first"):
        leaf()
        leaf()
    other()
    for _ in range(3):
        profiler.start("second")
        other()
        profiler.stop("second")
    assert calls(profiler, "first") == {"leaf": 2}
    assert calls(profiler, "second") == {"other": 3}


def test_an_action_has_what_ran_in_the_actions_inside_it_too() -> None:
    profiler = AdvancedProfiler()
    with profiler.profile("a"):
        leaf()
        with profiler.profile("b"):
            other()
            with profiler.profile("c"):
                leaf()
        leaf()
    assert calls(profiler, "a") == {"leaf": 3, "other": 1}
    assert calls(profiler, "b") == {"leaf": 1, "other": 1}
    assert calls(profiler, "c") == {"leaf": 1}


@on_3_11
@pytest.mark.parametrize("way", ["with", "start and stop"])
def test_a_function_around_a_nested_action_has_all_of_its_time(way: str) -> None:
    profiler = AdvancedProfiler()

    def inner() -> None:
        if way == "with":
            with profiler.profile("nested"):
                leaf()
        else:
            profiler.start("nested")
            leaf()
            profiler.stop("nested")
        other()

    def outer() -> None:
        for _ in range(50):
            inner()

    with profiler.profile("whole"):
        outer()
    assert calls(profiler, "whole") == {"outer": 1, "inner": 50, "leaf": 50, "other": 50}
    within = {name: seconds(profiler, "whole", name) for name in ("outer", "inner", "leaf", "other")}
    # Of what they call, and not only of what came before the nested action.
    assert within["inner"] >= within["leaf"] + within["other"]
    assert within["outer"] >= within["inner"]
    assert within["leaf"] == pytest.approx(seconds(profiler, "nested", "leaf"))


@on_3_11
def test_a_function_that_runs_around_an_action_and_inside_it_has_its_time_once() -> None:
    profiler = AdvancedProfiler()

    def recursive(depth: int) -> None:
        leaf()
        if depth:
            with profiler.profile("nested"):
                recursive(depth - 1)

    with profiler.profile("whole"):
        recursive(1)
    assert calls(profiler, "whole") == {"recursive": 2, "leaf": 2}
    assert calls(profiler, "nested") == {"recursive": 1, "leaf": 1}
    rows: dict[Any, Any] = profiler.stats("whole").stats  # type: ignore[attr-defined]
    [(primitive, ncalls, *_)] = [row for key, row in rows.items() if key[2] == "recursive"]
    assert (primitive, ncalls) == (1, 2)
    assert 0 < seconds(profiler, "nested", "leaf") <= seconds(profiler, "nested", "recursive")


def test_an_action_inside_itself_counts_each_call_once() -> None:
    profiler = AdvancedProfiler()

    def recursive(depth: int) -> None:
        with profiler.profile("again"):
            leaf()
            if depth:
                recursive(depth - 1)

    recursive(3)
    assert calls(profiler, "again") == {"leaf": 4, "recursive": 3}


def test_actions_that_overlap_have_what_ran_while_they_were_open() -> None:
    profiler = AdvancedProfiler()
    profiler.start("a")
    leaf()
    profiler.start("b")
    other()
    profiler.stop("a")
    leaf()
    other()
    profiler.stop("b")
    other()
    assert calls(profiler, "a") == {"leaf": 1, "other": 1}
    assert calls(profiler, "b") == {"leaf": 1, "other": 2}
    assert profiler.running() == []
    assert sys.getprofile() is None


def test_an_action_may_start_in_one_function_and_stop_in_another() -> None:
    profiler = AdvancedProfiler()

    def inner() -> None:
        profiler.start("batch")
        leaf()

    def outer() -> None:
        other()
        profiler.stop("batch")

    with profiler.profile("whole"):
        inner()
        leaf()
        outer()
        leaf()
    assert calls(profiler, "batch") == {"leaf": 2, "outer": 1, "other": 1}
    assert calls(profiler, "whole") == {"inner": 1, "outer": 1, "leaf": 3, "other": 1}


def test_an_action_in_a_context_manager_of_the_users() -> None:
    profiler = AdvancedProfiler()

    @contextmanager
    def around() -> Iterator[None]:
        profiler.start("mine")
        yield
        profiler.stop("mine")

    with profiler.profile("whole"):
        for _ in range(3):
            with around():
                leaf()
            other()
    assert calls(profiler, "mine")["leaf"] == 3
    assert "other" not in calls(profiler, "mine")
    assert {name: calls(profiler, "whole")[name] for name in ("leaf", "other")} == {"leaf": 3, "other": 3}


def test_an_action_that_raises_ends_and_the_ones_around_it_go_on() -> None:
    profiler = AdvancedProfiler()
    with profiler.profile("whole"):
        with pytest.raises(ZeroDivisionError), profiler.profile("fails"):
            _ = leaf() / 0
        other()
    assert calls(profiler, "fails") == {"leaf": 1}
    assert calls(profiler, "whole") == {"leaf": 1, "other": 1}
    assert profiler.running() == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on one thread can be profiled at a time")
def test_threads_are_profiled_beside_each_other_and_added_up() -> None:
    profiler = AdvancedProfiler()
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with profiler.profile("work"):
            other()
            inside.set()
            go_on.wait(30)
            other()

    thread = threading.Thread(target=work)
    with profiler.profile("main"), profiler.profile("work"):
        thread.start()
        inside.wait(30)
        leaf()
        go_on.set()
        thread.join()
    assert calls(profiler, "main") == {"leaf": 1}
    assert calls(profiler, "work") == {"leaf": 1, "other": 2}


def test_who_profiled_the_program_before_does_so_afterwards() -> None:
    seen: list[str] = []

    def listen(frame: Any, event: str, argument: object) -> None:
        if event == "call":
            seen.append(frame.f_code.co_name)

    profiler = AdvancedProfiler()
    sys.setprofile(listen)
    try:
        with profiler.profile("a"):
            leaf()
        other()
    finally:
        sys.setprofile(None)
    assert "leaf" not in seen
    assert "other" in seen


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on one profile can be enabled at a time")
def test_a_program_under_cprofile_goes_on_being_profiled() -> None:
    profiler, program = AdvancedProfiler(), cProfile.Profile()
    program.enable()
    with profiler.profile("a"):
        leaf()
    other()
    program.disable()
    program.create_stats()
    assert {key[2] for key in program.stats if key[0] == __file__} >= {"other"}
    assert calls(profiler, "a") == {"leaf": 1}


def test_stopping_what_is_not_running_is_an_error_that_says_what_to_do() -> None:
    profiler = AdvancedProfiler()
    with pytest.raises(MisconfigurationError, match=r"AdvancedProfiler\.stop\('a'\): no action of that name is"):
        profiler.stop("a")
    with profiler.profile("b"):
        leaf()
    with pytest.raises(MisconfigurationError, match=r"stats\('a'\): no such action was measured\. There are b\."):
        profiler.stats("a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"line_count_restriction": 0},
            r"line_count_restriction=0\): it must be a whole number of functions, or a fr",
        ),
        ({"line_count_restriction": 1.5}, r"line_count_restriction=1\.5\): it must be"),
        ({"line_count_restriction": -0.1}, r"line_count_restriction=-0\.1\): it must be"),
        ({"line_count_restriction": float("nan")}, r"line_count_restriction=nan\): it must be"),
        ({"line_count_restriction": True}, r"line_count_restriction=True\): it must be"),
        ({"line_count_restriction": "all"}, r"line_count_restriction='all'\): it must be"),
        ({"dump_stats": 1}, r"dump_stats=1\): it must be True or False"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        AdvancedProfiler(**arguments)


def test_the_summary_has_a_table_for_each_action_of_as_many_functions_as_asked_for() -> None:
    profiler = AdvancedProfiler(line_count_restriction=1)
    assert profiler.summary() == ""
    with profiler.profile("a"):
        leaf()
    with profiler.profile("empty"):
        pass
    first, second = profiler.summary().split("Action: ")[1:]
    assert first.startswith("a\n")
    assert second.startswith("empty\n")
    assert re.search(r"2 function calls in \d", first)  # leaf and sum
    assert len(re.findall(r"^ +1 .*\(leaf\)$", first, re.MULTILINE)) == 1
    assert "built-in method builtins.sum" not in first


def test_what_is_still_running_is_named_and_goes_on_being_measured() -> None:
    profiler = AdvancedProfiler()
    with profiler.profile("open"):
        leaf()
        assert profiler.summary().splitlines()[-1].endswith("calls that have not returned are not counted: open")
        leaf()
    assert calls(profiler, "open")["leaf"] == 2


def test_a_copy_has_the_settings_and_no_measurements() -> None:
    profiler = AdvancedProfiler(line_count_restriction=3)
    with profiler.profile("a"):
        leaf()
    copied = copy.deepcopy(profiler)
    assert (copied.line_count_restriction, copied.summary()) == (3, "")
    assert calls(profiler, "a") == {"leaf": 1}


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        with self.trainer.profiler.profile("mine"):
            leaf()
        other()
        loss: Tensor = self.layer(batch).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches() -> torch.utils.data.DataLoader[Tensor]:
    return torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2)  # type: ignore[arg-type]


def fit(profiler: AdvancedProfiler | str, folder: Path, module: LightningModule | None = None) -> None:
    Trainer(profiler=profiler, max_epochs=2, default_root_dir=folder, logger=False, registered_callbacks=False).fit(
        module or Line(), batches()
    )


def test_a_run_has_every_call_in_every_action_around_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiler = AdvancedProfiler()
    fit(profiler, tmp_path)
    for action in (
        *("trainer.fit", "run_training_epoch", "run_training_batch"),
        "[Strategy]SingleDeviceStrategy.training_step",
    ):
        assert calls(profiler, action) == {"leaf": 6, "other": 6}, action
    assert calls(profiler, "mine") == {"leaf": 6}
    rows: dict[Any, Any] = profiler.stats("run_training_batch").stats  # type: ignore[attr-defined]
    assert {key[2]: row[1] for key, row in rows.items() if key[2] in ("train_batch", "training_step")} == {
        "train_batch": 6,
        "training_step": 6,
    }
    assert "Action: run_training_batch" in capsys.readouterr().out
    assert profiler.running() == []


def test_every_action_has_a_file_that_pstats_reads(tmp_path: Path) -> None:
    profiler = AdvancedProfiler(tmp_path / "out", "times", dump_stats=True)
    fit(profiler, tmp_path)
    assert "Action: trainer.fit" in (tmp_path / "out" / "fit-times.txt").read_text(encoding="utf-8")
    dumped = pstats.Stats(str(tmp_path / "out" / "fit-times-[Strategy]SingleDeviceStrategy.training_step.prof"))
    rows: dict[Any, Any] = dumped.stats  # type: ignore[attr-defined]
    assert {key[2]: row[1] for key, row in rows.items() if key[0] == __file__} == {
        "training_step": 6,
        "leaf": 6,
        "other": 6,
    }
    assert len(list((tmp_path / "out").glob("*.prof"))) == profiler.summary().count("\nAction: ")


def test_names_that_no_file_can_have_are_changed_and_stay_different(tmp_path: Path) -> None:
    profiler = AdvancedProfiler(tmp_path, "times", dump_stats=True)
    for name in ("a/b: c", "x" * 400 + "1", "x" * 400 + "2"):
        with profiler.profile(name):
            leaf()
    profiler.describe()
    files = [path.name for path in tmp_path.glob("*.prof")]
    assert "times-a_b_ c.prof" in files
    assert len(files) == 3


def test_a_run_that_fails_ends_its_actions_and_tells_what_there_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(Line):
        def on_after_backward(self) -> None:
            raise RuntimeError("planted")

    profiler = AdvancedProfiler()
    with pytest.raises(RuntimeError, match="planted"):
        fit(profiler, tmp_path, Fails())
    assert profiler.running() == []
    assert sys.getprofile() is None
    assert "Action: [LightningModule]Fails.on_after_backward" in capsys.readouterr().out


def test_a_second_run_goes_on_with_what_was_measured(tmp_path: Path) -> None:
    profiler = AdvancedProfiler(tmp_path)
    for _ in range(2):
        fit(profiler, tmp_path)
    assert calls(profiler, "mine") == {"leaf": 12}


def test_advanced_is_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit("advanced", tmp_path)
    assert capsys.readouterr().out.startswith("AdvancedProfiler: each action's functions")
