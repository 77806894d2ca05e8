"""An error is planted in every hook in turn; each time the whole promise about exceptions is checked.

The promise: the very same exception object reaches the caller; `on_exception` reaches every callback and then the
datamodule, once; teardown reaches everything whose setup had completed, once, in the order of setup; loggers are
finalized once; what else is raised becomes a note on the first exception; and the next run with the same objects works.
"""

import inspect
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import nn

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule, Order

from .planted_world import EPOCHS, World, check_error, check_error_in_teardown, world_with
from .planting import CALLBACK_HOOKS, KINDS, Fault

# The hooks, written by hand: `test_the_lists_of_hooks_are_those_of_the_public_api` compares them with the classes, so
# that neither a hook without a planted error nor a hook that vanished goes unnoticed.

MODULE_HOOKS = (
    "configure_callbacks",
    "prepare_data",
    "setup",
    "teardown",
    "configure_model",
    "configure_optimizers",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "training_step",
    "validation_step",
    "test_step",
    "predict_step",
    "on_fit_start",
    "on_fit_end",
    "on_train_start",
    "on_train_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_validation_model_zero_grad",
    "on_test_start",
    "on_test_end",
    "on_test_epoch_start",
    "on_test_epoch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_test_model_eval",
    "on_test_model_train",
    "on_predict_start",
    "on_predict_end",
    "on_predict_epoch_start",
    "on_predict_epoch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
    "on_predict_model_eval",
    "on_predict_model_train",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "optimizer_step",
    "on_after_optimizer_step",
    "lr_scheduler_step",
    "on_save_checkpoint",
    "on_load_checkpoint",
)

# torch's own methods that take part in every checkpoint, and the forward pass: no hooks, and user code all the same.
MODULE_METHODS = ("forward", "state_dict", "load_state_dict")

DATAMODULE_HOOKS = (
    "prepare_data",
    "setup",
    "teardown",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "on_exception",
    "state_dict",
    "load_state_dict",
)

CALLBACK_METHODS_THAT_ARE_NO_HOOKS = {"log", "log_dict", "migrate_state", "named_weights", "resolve_checkpoint"}


@dataclass(frozen=True)
class Plant:
    """Where the error goes: into which part, and which entry point reaches it."""

    part: str
    hook: str
    entry: str
    order: Order = Order.NORMAL

    def __str__(self) -> str:
        order = f"-{self.order.name}" if self.part == "planted" else ""
        return f"{self.part}.{self.hook}-{self.entry}{order}"


def entries_of(hook: str) -> tuple[str, ...]:
    """The entry points that reach a hook."""
    if hook in ("setup", "teardown", "prepare_data", "configure_model", "configure_callbacks", "forward") or (
        "batch_transfer" in hook or "batch_to_device" in hook
    ):
        return ("fit", "validate", "test", "predict")
    if hook in ("on_load_checkpoint", "load_state_dict"):
        return ("resume", "validate-checkpoint")
    if hook == "on_validation_model_zero_grad":
        return ("fit",)
    if "sanity" in hook:
        return ("sanity",)
    if "validation" in hook or hook == "val_dataloader":
        return ("sanity", "fit", "validate")
    if "test" in hook:
        return ("test",)
    if "predict" in hook:
        return ("predict",)
    return ("fit",)


# on_exception is reached after another error: see test_exceptions_that_follow.py; on_preemption after a signal: below.
REACHED_BY_OTHERS = {"on_exception", "on_preemption"}

CALLBACK_PLANTS = [
    Plant("planted", hook, entry)
    for hook in CALLBACK_HOOKS
    if hook not in REACHED_BY_OTHERS
    for entry in entries_of(hook)
] + [
    Plant("planted", hook, "fit", order)
    for hook in ("setup", "teardown", "on_train_batch_end", "on_validation_end", "on_train_epoch_end", "state_dict")
    for order in (Order.FIRST, Order.MONITOR, Order.LAST)
]
MODULE_PLANTS = [
    Plant("module", hook, entry) for hook in (*MODULE_HOOKS, *MODULE_METHODS) for entry in entries_of(hook)
]
DATAMODULE_PLANTS = [
    Plant("data", hook, entry)
    for hook in DATAMODULE_HOOKS
    if hook not in REACHED_BY_OTHERS
    for entry in entries_of(hook)
]


def world_for(folder: Path, plant: Plant, fault: Fault, epochs: int = EPOCHS) -> World:
    """A world with one error planted in it."""
    world = world_with(
        folder,
        plant.entry,
        {(plant.part, plant.hook): fault},
        order=plant.order,
        own_data=plant.part == "module" and plant.hook.endswith("_dataloader"),
        epochs=epochs,
    )
    if plant.hook.endswith("_model_train"):
        # A module that overrides it decides about its modes itself, and this one puts all of it into train mode.
        world.module.train()
        world.note_modes()
    return world


def checkpoint_for(plant: Plant, folder: Path) -> Path | None:
    """A checkpoint of one epoch, written by objects of the same kinds, where the entry point starts from one."""
    if plant.entry not in ("resume", "validate-checkpoint"):
        return None
    earlier = world_for(folder / "earlier", plant, Fault(RuntimeError(), armed=False), epochs=1)
    earlier.run("fit")
    return earlier.checkpoint


def completed_setups(world: World, plant: Plant) -> list[str]:
    """Whose setup had completed when the error struck, worked out from the documented order."""
    if plant.hook in ("configure_callbacks", "prepare_data"):
        return []
    if plant.hook != "setup":
        return world.setup_order
    return world.setup_order[: world.setup_order.index(plant.part)]


def check_planted_error(plant: Plant, error: BaseException, folder: Path) -> None:
    """The whole promise, for one error in one hook."""
    checkpoint = checkpoint_for(plant, folder)
    fault = Fault(error)
    world = world_for(folder, plant, fault)
    if plant.hook == "teardown":
        check_error_in_teardown(world, fault, plant.part, plant.entry)
    else:
        check_error(world, fault, plant.entry, torn_down=completed_setups(world, plant), checkpoint=checkpoint)


def methods_of(cls: type, stop: tuple[type, ...]) -> set[str]:
    """Public methods that a class and its bases define, up to the bases in `stop`."""
    return {
        name
        for base in cls.__mro__
        if base is not object and not any(issubclass(other, base) for other in stop)
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def test_the_lists_of_hooks_are_those_of_the_public_api() -> None:
    assert len(CALLBACK_HOOKS) == len(set(CALLBACK_HOOKS)) == 42
    assert methods_of(Callback, ()) - CALLBACK_METHODS_THAT_ARE_NO_HOOKS == set(CALLBACK_HOOKS)
    others = {"setup", "teardown", "prepare_data", "backward", "transfer_batch_to_device", "optimizer_zero_grad"}
    assert {
        name
        for name in methods_of(LightningModule, (nn.Module,))
        if name in others or name.startswith(("on_", "configure_")) or name.endswith(("_step", "_dataloader"))
    } == set(MODULE_HOOKS)
    no_hooks = {"from_datasets", "save_hyperparameters", "remove_ignored_hparams"}
    assert methods_of(LightningDataModule, ()) - no_hooks == set(DATAMODULE_HOOKS)


@pytest.mark.parametrize("plant", CALLBACK_PLANTS, ids=str)
def test_an_error_in_any_hook_of_a_callback_reaches_everyone_once(plant: Plant, tmp_path: Path) -> None:
    check_planted_error(plant, ValueError(f"planted in {plant.hook}"), tmp_path)


@pytest.mark.parametrize("plant", MODULE_PLANTS, ids=str)
def test_an_error_in_any_hook_of_the_module_reaches_everyone_once(plant: Plant, tmp_path: Path) -> None:
    check_planted_error(plant, ValueError(f"planted in {plant.hook}"), tmp_path)


@pytest.mark.parametrize("plant", DATAMODULE_PLANTS, ids=str)
def test_an_error_in_any_hook_of_the_datamodule_reaches_everyone_once(plant: Plant, tmp_path: Path) -> None:
    check_planted_error(plant, ValueError(f"planted in {plant.hook}"), tmp_path)


@pytest.mark.parametrize(
    "plant",
    [plant for plant in MODULE_PLANTS if plant.hook.endswith(("_model_eval", "_model_train", "_start", "_step"))],
    ids=str,
)
def test_an_error_at_the_end_of_a_hook_of_the_module_reaches_everyone_once(plant: Plant, tmp_path: Path) -> None:
    fault = Fault(ValueError(f"planted at the end of {plant.hook}"), late=True)
    check_error(world_for(tmp_path, plant, fault), fault, plant.entry)


@pytest.mark.parametrize("hook", [hook for hook in CALLBACK_HOOKS if "train" in hook])
def test_an_error_in_a_lambda_callback_reaches_everyone_once(hook: str, tmp_path: Path) -> None:
    fault = Fault(ValueError(hook))
    world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(**{hook: lambda *arguments: fault.strike()}),))
    fault.trace = world.trace
    check_error(world, fault, "fit")


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize(
    ("entry", "hook"),
    [
        ("fit", "on_train_batch_start"),
        ("fit", "on_validation_batch_start"),
        ("sanity", "on_validation_batch_end"),
        ("validate", "on_validation_batch_start"),
        ("test", "on_test_batch_start"),
        ("predict", "on_predict_batch_end"),
    ],
)
def test_an_error_while_the_process_is_being_ended_reaches_everyone_once(
    entry: str, hook: str, order: Order, tmp_path: Path
) -> None:
    fault = Fault(ValueError("planted in on_preemption"))

    def terminate(*arguments: object) -> None:
        if fault.armed:
            signal.raise_signal(signal.SIGTERM)

    faults = {("planted", "on_preemption"): fault}
    world = world_with(tmp_path, entry, faults, order=order, extra=(LambdaCallback(**{hook: terminate}),))
    check_error(world, fault, entry)


KIND_PLANTS = [
    Plant("planted", "setup", "fit"),
    Plant("planted", "on_train_batch_end", "fit"),
    Plant("planted", "on_before_optimizer_step", "fit"),
    Plant("planted", "state_dict", "fit"),
    Plant("planted", "teardown", "fit"),
    Plant("planted", "on_validation_batch_start", "sanity"),
    Plant("module", "configure_optimizers", "fit"),
    Plant("module", "training_step", "fit"),
    Plant("module", "backward", "fit"),
    Plant("module", "optimizer_step", "fit"),
    Plant("module", "on_train_batch_start", "fit"),
    Plant("module", "validation_step", "validate"),
    Plant("module", "predict_step", "predict"),
    Plant("module", "on_load_checkpoint", "resume"),
    Plant("planted", "load_state_dict", "resume"),
    Plant("data", "prepare_data", "fit"),
    Plant("data", "train_dataloader", "fit"),
    Plant("data", "teardown", "test"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plant", KIND_PLANTS, ids=str)
def test_any_kind_of_exception_is_treated_alike(plant: Plant, kind: str, tmp_path: Path) -> None:
    check_planted_error(plant, KINDS[kind](), tmp_path)


def test_system_exit_keeps_its_code(tmp_path: Path) -> None:
    fault = Fault(SystemExit(3))
    world = world_with(tmp_path, "fit", {("module", "training_step"): fault})
    with pytest.raises(SystemExit) as caught:
        world.run("fit")
    assert caught.value.code == 3
