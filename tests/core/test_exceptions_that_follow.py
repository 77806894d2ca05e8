"""Errors that follow a first one: they stop nobody, and become notes on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hookloop import LambdaCallback, LightningModule

from .planted_world import (
    World,
    assert_failed,
    assert_idle,
    assert_the_next_runs_work,
    check_error,
    fail,
    world_with,
)
from .planting import KINDS, Fault


def notes_of(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def assert_notes(world: World, first: BaseException, later: Mapping[tuple[str, str], Fault]) -> None:
    """One note for each later error, in the order of `later`: who, where and what."""
    notes = notes_of(first)
    assert len(notes) == len(later), notes
    for note, ((name, hook), fault) in zip(notes, later.items(), strict=True):
        assert f"Broken{name.title()}" in note or f"witness-{name}" in note, note
        assert hook in note
        assert str(fault.error) in note
        assert type(fault.error).__name__ in note
        assert fault.strikes == 1


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("name", ["first", "before", "after", "monitor", "last", "saver", "data"])
def test_an_error_in_on_exception_stops_nobody_and_becomes_a_note(name: str, entry: str, tmp_path: Path) -> None:
    step = {"fit": "training_step", "validate": "validation_step"}.get(entry, f"{entry}_step")
    first = Fault(ValueError("the first"))
    later = {(name, "on_exception"): Fault(RuntimeError("a later one"))}
    world = world_with(tmp_path, entry, {("module", step): first, **later})
    fail(world, first, entry)
    assert world.trace[first.struck_at :] == [
        *((other, "on_exception") for other in world.exception_order if other != name),
        *((other, "teardown") for other in world.setup_order),
        ("logger", "failed"),
    ]
    assert_notes(world, first.error, later)
    for fault in (first, *later.values()):
        fault.armed = False
    assert_the_next_runs_work(world, entry)


@pytest.mark.parametrize("kind", ["StopIteration", "KeyboardInterrupt", "SystemExit", "GeneratorExit", "BaseException"])
def test_whatever_follows_the_first_error_it_stays_the_one_that_the_user_sees(kind: str, tmp_path: Path) -> None:
    first = Fault(ValueError("the first"))
    # Insertion order is the documented order: callbacks' on_exception, the datamodule's, teardown as setup, loggers.
    later = {
        ("first", "on_exception"): Fault(KINDS[kind]()),
        ("planted", "on_exception"): Fault(KINDS[kind]()),
        ("last", "on_exception"): Fault(KINDS[kind]()),
        ("data", "on_exception"): Fault(KINDS[kind]()),
        ("data", "teardown"): Fault(KINDS[kind]()),
        ("first", "teardown"): Fault(KINDS[kind]()),
        ("after", "teardown"): Fault(KINDS[kind]()),
        ("module", "teardown"): Fault(KINDS[kind]()),
        ("monitor", "teardown"): Fault(KINDS[kind]()),
        ("last", "teardown"): Fault(KINDS[kind]()),
        ("alpha", "finalize"): Fault(KINDS[kind]()),
        ("gamma", "finalize"): Fault(KINDS[kind]()),
    }
    world = world_with(
        tmp_path, "fit", {("module", "training_step"): first, **later}, loggers=("alpha", "beta", "gamma")
    )
    fail(world, first, "fit")
    assert world.trace[first.struck_at :] == [
        ("before", "on_exception"),
        ("after", "on_exception"),
        ("monitor", "on_exception"),
        ("saver", "on_exception"),
        ("before", "teardown"),
        ("planted", "teardown"),
        ("saver", "teardown"),
        ("beta", "failed"),
    ]
    assert_notes(world, first.error, later)
    assert world.trainer.state.status == "interrupted"
    assert_idle(world)
    for fault in (first, *later.values()):
        fault.armed = False
    assert_the_next_runs_work(world, "fit")


def test_of_several_errors_in_teardown_the_first_one_surfaces_with_the_others_as_notes(tmp_path: Path) -> None:
    first = Fault(ValueError("the first"))
    later = {
        ("after", "teardown"): Fault(RuntimeError("second")),
        ("module", "teardown"): Fault(KeyboardInterrupt("third")),
        ("last", "teardown"): Fault(OSError("fourth")),
    }
    world = world_with(tmp_path, "fit", {("planted", "teardown"): first, **later})
    fail(world, first, "fit")
    assert [name for name, hook in world.trace if hook == "teardown"] == ["data", "first", "before", "monitor", "saver"]
    assert_notes(world, first.error, later)
    assert_failed(world, first, "fit")
    for fault in (first, *later.values()):
        fault.armed = False
    assert_the_next_runs_work(world, "fit")


def test_an_error_of_on_exception_after_an_error_of_teardown_becomes_a_note(tmp_path: Path) -> None:
    first = Fault(ValueError("the first"))
    later = {("before", "on_exception"): Fault(RuntimeError("second"))}
    world = world_with(tmp_path, "fit", {("planted", "teardown"): first, **later})
    fail(world, first, "fit")
    assert [name for name, hook in world.trace if hook == "teardown"] == [
        name for name in world.setup_order if name != "planted"
    ]
    assert [name for name, hook in world.trace if hook == "on_exception"] == [
        name for name in world.exception_order if name != "before"
    ]
    assert_notes(world, first.error, later)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_later_error_that_cannot_be_printed_stops_nobody(tmp_path: Path) -> None:
    first = Fault(ValueError("the first"))
    later = {("first", "on_exception"): Fault(UnprintableError()), ("data", "teardown"): Fault(UnprintableError())}
    world = world_with(tmp_path, "fit", {("module", "training_step"): first, **later})
    fail(world, first, "fit")
    assert world.trace[first.struck_at :] == [
        *((name, "on_exception") for name in world.exception_order if name != "first"),
        *((name, "teardown") for name in world.setup_order if name != "data"),
        ("logger", "failed"),
    ]
    assert ["UnprintableError" in note for note in notes_of(first.error)] == [True, True]


def test_a_callback_may_raise_the_same_exception_again(tmp_path: Path) -> None:
    def raise_again(trainer: Any, pl_module: LightningModule, exception: BaseException) -> None:
        raise exception

    first = Fault(ValueError("the first"))
    world = world_with(
        tmp_path,
        "fit",
        {("module", "training_step"): first},
        extra=(LambdaCallback(on_exception=raise_again),),
    )
    check_error(world, first, "fit")


def test_a_note_that_the_user_added_stays(tmp_path: Path) -> None:
    first = Fault(ValueError("the first"))
    first.error.add_note("from the user")
    later = {("last", "teardown"): Fault(RuntimeError("second"))}
    world = world_with(tmp_path, "fit", {("module", "training_step"): first, **later})
    fail(world, first, "fit")
    assert notes_of(first.error)[0] == "from the user"
    assert len(notes_of(first.error)) == 2


def test_an_error_that_has_a_cause_keeps_it(tmp_path: Path) -> None:
    cause = KeyError("the cause")

    def fail_with_cause(trainer: Any, pl_module: LightningModule) -> None:
        raise ValueError("the first") from cause

    world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(on_train_start=fail_with_cause),))
    with pytest.raises(ValueError, match=r"^the first$") as caught:
        world.run("fit")
    assert caught.value.__cause__ is cause
