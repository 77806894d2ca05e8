"""Who is torn down after an error, what can still be done meanwhile, and what is put back."""

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LambdaCallback, LightningModule

from .planted_world import (
    EPOCHS,
    assert_clean_run,
    assert_failed,
    assert_the_next_runs_work,
    fail,
    world_with,
)
from .planting import Fault, Module, NormalWitness, Trace, breaking


class OnlyTeardown(Callback):
    """Has no setup of its own: it is set up when its turn has come."""

    def __init__(self, name: str, trace: Trace) -> None:
        self.name = name
        self.trace = trace

    def teardown(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        self.trace.append((self.name, "teardown"))


def test_a_callback_without_a_setup_counts_as_set_up_once_its_turn_has_passed(tmp_path: Path) -> None:
    trace: Trace = []
    extra = (OnlyTeardown("earlier", trace), OnlyTeardown("later", trace))
    fault = Fault(ValueError("planted"))
    world = world_with(tmp_path, "fit", {("planted", "setup"): fault}, extra=extra)
    with pytest.raises(ValueError, match=r"^planted$"):
        world.run("fit")
    assert trace == [("earlier", "teardown")]
    fault.armed = False
    del trace[:]
    world.run("fit")
    assert trace == [("earlier", "teardown"), ("later", "teardown")]


def test_a_callback_of_the_module_is_told_and_torn_down_too(tmp_path: Path) -> None:
    trace: Trace = []
    configured = NormalWitness("configured", trace)

    class Configuring(Module):
        def configure_callbacks(self) -> list[Callback]:
            return [configured]

    fault = Fault(ValueError("planted"))
    world = world_with(tmp_path, "fit", {("planted", "on_train_start"): fault})
    world.module = Configuring(world.trace)
    world.note_modes()
    with pytest.raises(ValueError, match=r"^planted$"):
        world.run("fit")
    assert [event for event in trace if event[1] in ("setup", "on_exception", "teardown")] == [
        ("configured", "setup"),
        ("configured", "on_exception"),
        ("configured", "teardown"),
    ]


# What can still be done while an error is handled.


def test_a_callback_can_save_a_checkpoint_in_on_exception_and_the_run_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "rescued.ckpt"

    def save(trainer: Any, pl_module: LightningModule, exception: BaseException) -> None:
        trainer.save_checkpoint(path)

    first = Fault(ValueError("the first"))
    world = world_with(
        tmp_path, "fit", {("planted", "on_train_end"): first}, extra=(LambdaCallback(on_exception=save),)
    )
    fail(world, first, "fit")
    assert not hasattr(first.error, "__notes__")
    assert [name for name, hook in world.trace[first.struck_at :] if hook == "on_checkpoint_saved"] == [
        "after",
        "saver",
    ]
    trained = {name: tensor.clone() for name, tensor in world.module.state_dict().items()}
    resumed = world_with(tmp_path / "resumed", "fit", {}, epochs=EPOCHS)
    with pytest.warns(UserWarning, match="nothing to train"):
        resumed.run("resume", path)
    assert resumed.trainer.global_step == world.trainer.global_step == 4
    for name, tensor in resumed.module.state_dict().items():
        assert torch.equal(tensor, trained[name]), name


@pytest.mark.parametrize("hook", ["on_exception", "teardown"])
def test_the_running_state_can_be_read_while_an_error_is_handled(hook: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int, bool]] = []

    def read(trainer: Any, *arguments: Any) -> None:
        seen.append((trainer.current_epoch, trainer.global_step, "train_loss" in trainer.callback_metrics))

    fault = Fault(ValueError("planted"))
    world = world_with(
        tmp_path, "fit", {("planted", "on_validation_start"): fault}, extra=(LambdaCallback(**{hook: read}),)
    )
    fail(world, fault, "fit")
    assert seen == [(0, 2, True)]


def test_an_error_while_saving_outside_a_run_reaches_the_caller_alone_and_leaves_no_file(tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"), armed=False)
    world = world_with(tmp_path, "fit", {("planted", "state_dict"): fault})
    world.run("fit")
    fault.armed = True
    del world.trace[:]
    target = tmp_path / "later" / "model.ckpt"
    with pytest.raises(ValueError, match=r"^planted$") as caught:
        world.trainer.save_checkpoint(target)
    assert caught.value is fault.error
    assert not [event for event in world.trace if event[1] in ("on_exception", "teardown", "failed")]
    assert not target.parent.exists() or not list(target.parent.iterdir())
    assert world.trainer.state.status == "finished"
    fault.armed = False
    world.trainer.save_checkpoint(target)
    assert target.is_file()


# What a run changes in the process or in the trainer is put back.


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_gradients_stay_off_after_an_error_where_they_were_off_before(entry: str, tmp_path: Path) -> None:
    hook = {"validate": "validation_step"}.get(entry, f"{entry}_step")
    fault = Fault(ValueError("planted"))
    world = world_with(tmp_path, entry, {("module", hook): fault})
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"^planted$"):
            world.run(entry)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_a_request_to_stop_does_not_outlive_the_run_that_failed(tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"))

    def stop(trainer: Any, pl_module: LightningModule) -> None:
        if fault.armed:
            trainer.should_stop = True

    world = world_with(
        tmp_path, "fit", {("planted", "on_train_start"): fault}, extra=(LambdaCallback(on_train_start=stop),)
    )
    with pytest.raises(ValueError, match=r"^planted$"):
        world.run("fit")
    fault.armed = False
    world.run("fit")
    assert world.trainer.current_epoch == EPOCHS
    assert world.trainer.global_step == 4


@pytest.mark.parametrize("hook", ["setup", "on_train_batch_end", "on_validation_epoch_end", "state_dict", "teardown"])
def test_the_module_and_the_callbacks_can_be_used_by_another_trainer_after_an_error(hook: str, tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"))
    world = world_with(tmp_path, "fit", {("planted", hook): fault})
    with pytest.raises(ValueError, match=r"^planted$"):
        world.run("fit")
    fault.armed = False
    world.make_trainer()
    assert_clean_run(world, "fit")
    assert world.trainer.current_epoch == EPOCHS
    assert world.trainer.global_step == 4


def test_an_error_in_a_run_outside_the_main_thread_reaches_its_caller(tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"))
    world = world_with(tmp_path, "fit", {("module", "training_step"): fault})
    caught: list[BaseException] = []

    def run() -> None:
        try:
            world.run("fit")
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [error is fault.error for error in caught] == [True]
    assert_failed(world, fault, "fit")
    fault.armed = False
    assert_the_next_runs_work(world, "fit")


@pytest.mark.parametrize("hook", ["setup", "on_train_batch_start", "on_validation_end", "teardown"])
def test_an_error_that_was_caught_keeps_nothing_of_the_run_alive(hook: str, tmp_path: Path) -> None:
    class Large:
        pass

    alive: list[weakref.ref[Large]] = []

    def fail_with_a_local(*arguments: Any) -> None:
        large = Large()
        alive.append(weakref.ref(large))
        raise ValueError("planted")

    world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(**{hook: fail_with_a_local}),))
    for witness in world.witnesses:
        world.trainer.callbacks.remove(witness)  # they keep the exception, and its traceback the frames
    world.data = None
    # Without the collector: references in a circle would keep batches, loader workers and GPU memory for a while.
    gc.collect()
    gc.disable()
    try:
        try:
            world.run("fit")
        except ValueError:
            assert alive[0]() is not None
        assert alive[0]() is None
    finally:
        gc.enable()


# The callbacks of a run may change.


def test_a_callback_that_was_removed_during_the_run_is_torn_down_all_the_same(tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"))

    def remove(trainer: Any, pl_module: LightningModule) -> None:
        trainer.callbacks.remove(next(c for c in trainer.callbacks if getattr(c, "name", "") == "before"))

    world = world_with(
        tmp_path,
        "fit",
        {("planted", "on_train_epoch_end"): fault},
        extra=(LambdaCallback(on_train_start=remove),),
    )
    with pytest.raises(ValueError, match=r"^planted$"):
        world.run("fit")
    torn_down = [name for name, hook in world.trace if hook == "teardown"]
    assert sorted(torn_down) == sorted(world.setup_order)


def test_a_callback_that_was_added_during_the_run_is_told_and_torn_down(tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"))
    newcomer = NormalWitness("newcomer", [])

    def add(trainer: Any, pl_module: LightningModule) -> None:
        trainer.callbacks.append(newcomer)

    world = world_with(
        tmp_path, "fit", {("planted", "on_train_epoch_end"): fault}, extra=(LambdaCallback(on_train_start=add),)
    )
    with pytest.raises(ValueError, match=r"^planted$"):
        world.run("fit")
    assert newcomer.trace == [("newcomer", "setup"), ("newcomer", "on_exception"), ("newcomer", "teardown")]
    assert newcomer.exceptions[0][2] is fault.error


def test_an_error_in_the_setup_of_a_callback_that_is_added_during_the_run_reaches_everyone_else(tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"))
    good = NormalWitness("good", [])
    bad = breaking(NormalWitness, "bad", {("bad", "setup"): fault})("bad", [])

    def add(trainer: Any, pl_module: LightningModule) -> None:
        trainer.callbacks.extend([good, bad])

    world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(on_train_start=add),))
    fail(world, fault, "fit")
    assert_failed(world, fault, "fit")
    assert [name for name, hook in world.trace if hook == "teardown"] == world.setup_order
    assert [hook for _, hook in good.trace] == ["setup", "teardown"]
    assert bad.trace == []
    assert not [callback for callback in world.trainer.callbacks if callback in (good, bad)]


@pytest.mark.parametrize("hook", ["configure_model", "training_step", "on_train_batch_end", "validation_step"])
def test_the_default_dtype_is_put_back_after_an_error_under_double_precision(hook: str, tmp_path: Path) -> None:
    fault = Fault(ValueError("planted"), late=True)
    world = world_with(tmp_path, "fit", {("module", hook): fault}, precision="64-true")
    fail(world, fault, "fit")
    assert torch.get_default_dtype() is torch.float32
    fault.armed = False
    assert_the_next_runs_work(world, "fit")


def test_an_epoch_that_had_ended_when_the_error_came_is_not_trained_again(tmp_path: Path) -> None:
    # Saving is the last thing that an epoch does: all its steps are taken and its schedulers have stepped.
    fault = Fault(OSError("disk full"))
    world = world_with(tmp_path, "fit", {("last", "on_train_epoch_end"): fault})
    fail(world, fault, "fit")
    assert world.trainer.global_step == 2
    fault.armed = False
    assert_clean_run(world, "fit")
    assert world.trainer.current_epoch == EPOCHS
    assert world.trainer.global_step == 4
