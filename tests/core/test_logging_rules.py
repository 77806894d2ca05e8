"""Where `self.log` may be called, with which settings, and what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError


def loader(batches: int = 2) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(2 * batches)), batch_size=2)


class Everything(LightningModule):
    """Has data, every step, an optimizer and a scheduler, so that every hook runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight * batch[0].mean()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return None

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return None

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch[0]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader()

    def test_dataloader(self) -> Any:
        return loader()

    def predict_dataloader(self) -> Any:
        return loader()


def trainer(root: Path, **arguments: Any) -> Trainer:
    chosen: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
        "gradient_clip_val": 1.0,
    }
    return Trainer(**(chosen | arguments))


def run(entry: str, model: LightningModule, root: Path, **arguments: Any) -> Trainer:
    runner = trainer(root, **arguments)
    getattr(runner, entry)(model)
    return runner


def speaking_module(hook: str, speak: Callable[[Any], None]) -> Everything:
    """A module that calls `speak(module)` before and after what it does in `hook`.

    After too, because hooks run inside each other: when an inner one has ended, the outer one is the one that logs.
    """

    def overridden(self: Any, *arguments: Any, **named: Any) -> Any:
        speak(self)
        result = getattr(Everything, hook)(self, *arguments, **named)
        speak(self)
        return result

    made = type("Speaking", (Everything,), {hook: overridden})()
    assert isinstance(made, Everything)
    return made


def speaking_callback(hook: str, speak: Callable[[Any], None]) -> Callback:
    def overridden(self: Any, *arguments: Any, **named: Any) -> Any:
        speak(self)

    made = type("Speaking", (Callback,), {hook: overridden})()
    assert isinstance(made, Callback)
    return made


# Every hook with the entry point that reaches it. A hook stands in one table, under what may be logged there; this is
# what users of PyTorch Lightning rely on.
STEP_HOOKS = {
    "on_train_batch_start": "fit",
    "on_train_batch_end": "fit",
    "on_before_backward": "fit",
    "on_after_backward": "fit",
    "on_before_optimizer_step": "fit",
    "on_after_optimizer_step": "fit",
    "on_before_zero_grad": "fit",
}
MODULE_STEP_HOOKS = STEP_HOOKS | {
    "training_step": "fit",
    "backward": "fit",
    "optimizer_step": "fit",
    "optimizer_zero_grad": "fit",
    "configure_gradient_clipping": "fit",
}
EVALUATION_HOOKS = {
    "on_validation_batch_start": "fit",
    "on_validation_batch_end": "validate",
    "on_test_batch_start": "test",
    "on_test_batch_end": "test",
}
MODULE_EVALUATION_HOOKS = EVALUATION_HOOKS | {"validation_step": "fit", "test_step": "test"}
EPOCH_HOOKS = {
    "on_train_start": "fit",
    "on_train_epoch_start": "fit",
    "on_train_epoch_end": "fit",
    "on_validation_start": "fit",
    "on_validation_epoch_start": "fit",
    "on_validation_epoch_end": "validate",
    "on_test_start": "test",
    "on_test_epoch_start": "test",
    "on_test_epoch_end": "test",
}
FORBIDDEN_HOOKS = {
    "setup": "fit",
    "teardown": "fit",
    "on_fit_start": "fit",
    "on_fit_end": "fit",
    "on_train_end": "fit",
    "on_validation_end": "fit",
    "on_test_end": "test",
    "on_predict_start": "predict",
    "on_predict_end": "predict",
    "on_predict_epoch_start": "predict",
    "on_predict_epoch_end": "predict",
    "on_predict_batch_start": "predict",
    "on_predict_batch_end": "predict",
}
CALLBACK_FORBIDDEN_HOOKS = FORBIDDEN_HOOKS | {"on_sanity_check_start": "fit", "on_sanity_check_end": "fit"}
MODULE_FORBIDDEN_HOOKS = FORBIDDEN_HOOKS | {
    "predict_step": "predict",
    "prepare_data": "fit",
    "configure_callbacks": "fit",
    "configure_model": "fit",
    "configure_optimizers": "fit",
    "train_dataloader": "fit",
    "val_dataloader": "fit",
    "test_dataloader": "test",
    "predict_dataloader": "predict",
    "on_before_batch_transfer": "fit",
    "transfer_batch_to_device": "fit",
    "on_after_batch_transfer": "fit",
    "lr_scheduler_step": "fit",
    "on_validation_model_zero_grad": "fit",
    "on_validation_model_eval": "fit",
    "on_validation_model_train": "fit",
    "on_test_model_eval": "test",
    "on_test_model_train": "test",
    "on_predict_model_eval": "predict",
}
# Hooks around errors and checkpoints, with tests of their own below.
ELSEWHERE = {
    "on_exception",
    "state_dict",
    "load_state_dict",
    "on_save_checkpoint",
    "on_load_checkpoint",
    "on_checkpoint_saved",
    "on_preemption",
}


def makers(module_hooks: dict[str, str], callback_hooks: dict[str, str]) -> list[Any]:
    """One parameter set for each hook of the module and of a callback: who, hook, entry point."""
    return [
        *(pytest.param("module", hook, entry, id=f"module-{hook}") for hook, entry in module_hooks.items()),
        *(pytest.param("callback", hook, entry, id=f"callback-{hook}") for hook, entry in callback_hooks.items()),
    ]


def speak_in(who: str, hook: str, entry: str, speak: Callable[[Any], None], root: Path) -> Trainer:
    """Runs `entry` with a module or a callback that calls `speak(self)` in `hook`."""
    spoken: list[str] = []

    def speak_and_count(speaker: Any) -> None:
        spoken.append(hook)
        speak(speaker)

    arguments: dict[str, Any] = {"num_sanity_val_steps": 1} if "sanity" in hook else {}
    if who == "callback":
        arguments["callbacks"] = [speaking_callback(hook, speak_and_count)]
        model = Everything()
    else:
        model = speaking_module(hook, speak_and_count)
    try:
        return run(entry, model, root, **arguments)
    finally:
        assert spoken, f"{hook} of the {who} was never called, so that this test would prove nothing"


def test_the_tables_name_every_hook_of_a_callback() -> None:
    hooks = {name for name in dir(Callback) if callable(getattr(Callback, name)) and not name.startswith("_")}
    hooks -= {"log", "log_dict", "migrate_state", "named_weights", "resolve_checkpoint"}

    tables = STEP_HOOKS.keys() | EVALUATION_HOOKS.keys() | EPOCH_HOOKS.keys() | CALLBACK_FORBIDDEN_HOOKS.keys()
    assert tables | ELSEWHERE == hooks


class Counting:
    """Logs 1, 2, 3, ... with the settings that it was given, so that the last value and the mean differ."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.logged = 0.0

    def __call__(self, speaker: Any) -> None:
        self.logged += 1.0
        speaker.log("value", self.logged, **self.settings)

    @property
    def mean(self) -> float:
        return (1.0 + self.logged) / 2


def logged_by(ran: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in ran.callback_metrics.items()}


@pytest.mark.parametrize(("who", "hook", "entry"), makers(MODULE_STEP_HOOKS, STEP_HOOKS))
def test_hooks_of_a_training_batch_log_by_step_unless_told_otherwise(
    who: str, hook: str, entry: str, tmp_path: Path
) -> None:
    counting = Counting()
    ran = speak_in(who, hook, entry, counting, tmp_path)

    assert counting.logged > 1
    assert logged_by(ran) == {"value": counting.logged}


@pytest.mark.parametrize(("who", "hook", "entry"), makers(MODULE_STEP_HOOKS, STEP_HOOKS))
def test_hooks_of_a_training_batch_may_log_by_epoch(who: str, hook: str, entry: str, tmp_path: Path) -> None:
    by_epoch = Counting(on_step=False, on_epoch=True)
    ran = speak_in(who, hook, entry, by_epoch, tmp_path)
    assert logged_by(ran) == {"value": by_epoch.mean}

    by_both = Counting(on_epoch=True)
    ran = speak_in(who, hook, entry, by_both, tmp_path)
    assert logged_by(ran) == {"value": by_both.mean, "value_step": by_both.logged, "value_epoch": by_both.mean}


@pytest.mark.parametrize(("who", "hook", "entry"), makers(MODULE_EVALUATION_HOOKS, EVALUATION_HOOKS))
def test_hooks_of_an_evaluation_batch_log_by_epoch_unless_told_otherwise(
    who: str, hook: str, entry: str, tmp_path: Path
) -> None:
    counting = Counting()
    ran = speak_in(who, hook, entry, counting, tmp_path)

    assert counting.logged > 1
    assert logged_by(ran) == {"value": counting.mean}


@pytest.mark.parametrize(("who", "hook", "entry"), makers(MODULE_EVALUATION_HOOKS, EVALUATION_HOOKS))
def test_hooks_of_an_evaluation_batch_may_log_by_step(who: str, hook: str, entry: str, tmp_path: Path) -> None:
    by_step = Counting(on_step=True, on_epoch=False)
    assert logged_by(speak_in(who, hook, entry, by_step, tmp_path)) == {}

    by_both = Counting(on_step=True)
    ran = speak_in(who, hook, entry, by_both, tmp_path)
    assert logged_by(ran) == {"value": by_both.mean, "value_epoch": by_both.mean}


@pytest.mark.parametrize(("who", "hook", "entry"), makers(EPOCH_HOOKS, EPOCH_HOOKS))
def test_hooks_of_a_whole_epoch_log_by_epoch_and_refuse_to_log_by_step(
    who: str, hook: str, entry: str, tmp_path: Path
) -> None:
    for counting in (Counting(), Counting(on_epoch=True), Counting(on_step=False)):
        ran = speak_in(who, hook, entry, counting, tmp_path)
        assert logged_by(ran) == {"value": counting.mean}

    for refused_settings in ({"on_step": True}, {"on_step": True, "on_epoch": True}):
        with pytest.raises(MisconfigurationError, match=rf"(?s)\"value\".*on_step=True.*`{hook}`"):
            speak_in(who, hook, entry, Counting(**refused_settings), tmp_path)
    with pytest.raises(MisconfigurationError, match=rf"(?s)\"value\".*on_epoch=False.*`{hook}`"):
        speak_in(who, hook, entry, Counting(on_epoch=False), tmp_path)


@pytest.mark.parametrize(("who", "hook", "entry"), makers(MODULE_FORBIDDEN_HOOKS, CALLBACK_FORBIDDEN_HOOKS))
def test_hooks_outside_the_epochs_refuse_to_log(who: str, hook: str, entry: str, tmp_path: Path) -> None:
    def speak(speaker: Any) -> None:
        speaker.log("value", 1.0)

    # Some of these are asked for data or settings before a run has begun; the message then knows no hook.
    with pytest.raises(
        MisconfigurationError, match=rf'log\("value".*(in `{hook}`|outside of every hook), where nothing'
    ):
        speak_in(who, hook, entry, speak, tmp_path)


@pytest.mark.parametrize(("who", "hook"), [("module", "on_save_checkpoint"), ("callback", "on_save_checkpoint")])
def test_saving_a_checkpoint_refuses_to_log(who: str, hook: str, tmp_path: Path) -> None:
    def speak(speaker: Any) -> None:
        speaker.log("value", 1.0)

    class Saving(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    callbacks: list[Callback] = [Saving()]
    model = speaking_module(hook, speak) if who == "module" else Everything()
    if who == "callback":
        callbacks.append(speaking_callback(hook, speak))

    with pytest.raises(MisconfigurationError, match=f"(?s)log.*{hook}"):
        run("fit", model, tmp_path, callbacks=callbacks)


@pytest.mark.parametrize("who", ["module", "callback"])
def test_loading_a_checkpoint_refuses_to_log(who: str, tmp_path: Path) -> None:
    path = tmp_path / "saved.ckpt"
    run("fit", Everything(), tmp_path).save_checkpoint(path)

    def speak(speaker: Any) -> None:
        speaker.log("value", 1.0)

    hook = "on_load_checkpoint"
    model = speaking_module(hook, speak) if who == "module" else Everything()
    callbacks = [speaking_callback(hook, speak)] if who == "callback" else []
    with pytest.raises(MisconfigurationError, match=f"(?s)log.*{hook}"):
        trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(model, ckpt_path=path)


def test_an_exception_hook_that_logs_is_noted_on_the_first_exception(tmp_path: Path) -> None:
    class Failing(Everything):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ArithmeticError("the first exception")

    def speak(speaker: Any) -> None:
        speaker.log("value", 1.0)

    with pytest.raises(ArithmeticError, match="the first exception") as raised:
        run("fit", Failing(), tmp_path, callbacks=[speaking_callback("on_exception", speak)])

    assert any("on_exception" in note for note in raised.value.__notes__)


def test_a_hook_that_runs_inside_another_gives_the_name_back(tmp_path: Path) -> None:
    class Nested(Everything):
        """optimizer_step runs the closure, and so training_step and the hooks around backward."""

        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            self.log("value", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            self.log("value", 10.0, on_step=False, on_epoch=True, reduce_fx="sum")

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("inner", 100.0, on_step=True, on_epoch=False)
            return super().training_step(batch, batch_idx)

        def on_before_backward(self, loss: Tensor) -> None:
            self.log("inner", 1000.0, on_step=True, on_epoch=True)

    ran = run("fit", Nested(), tmp_path)

    assert ran.callback_metrics["value"].item() == 22.0


def test_a_hook_may_log_after_it_has_saved_a_checkpoint(tmp_path: Path) -> None:
    class Saving(Everything):
        def on_train_epoch_end(self) -> None:
            self.trainer.save_checkpoint(tmp_path / "saved.ckpt")
            self.log("saved", 1.0)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["mine"] = 1

    assert run("fit", Saving(), tmp_path).callback_metrics["saved"].item() == 1.0


# ------------------------------------------------------------------------------------------------- settings and values


class Logging(Everything):
    """Logs in training_step what it is told to."""

    def __init__(self, speak: Callable[[Any], None]) -> None:
        super().__init__()
        self.speak = speak

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.speak(self)
        return super().training_step(batch, batch_idx)


def refused(speak: Callable[[Any], None], message: str, root: Path) -> None:
    with pytest.raises(MisconfigurationError, match=f"(?s){message}"):
        run("fit", Logging(speak), root)


def test_a_value_for_neither_step_nor_epoch_is_refused(tmp_path: Path) -> None:
    refused(lambda m: m.log("value", 1.0, on_step=False, on_epoch=False), "value.*on_step.*on_epoch", tmp_path)
    refused(lambda m: m.log("value", 1.0, on_step=False), "value.*on_step.*on_epoch", tmp_path)


@pytest.mark.parametrize(
    "reduction", ["median", "std", 3, torch.median, sorted], ids=["median", "std", "number", "torch.median", "sorted"]
)
def test_an_unknown_reduction_is_refused(reduction: Any, tmp_path: Path) -> None:
    refused(lambda m: m.log("value", 1.0, reduce_fx=reduction), "value.*reduce_fx.*mean.*sum.*min.*max", tmp_path)


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3), (2, 1, 1)], ids=str)
def test_a_tensor_of_other_than_one_element_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"\"value\".*{re.escape(str(shape))}.*one is needed"):
        run("fit", Logging(lambda m: m.log("value", torch.zeros(shape))), tmp_path)


@pytest.mark.parametrize(
    "value",
    ["text", {"a": 1.0}, {"a": {"b": 1.0}}, [1.0], (1.0, 2.0), None, object(), nn.Linear(1, 1)],
    ids=["text", "dictionary", "nested dictionary", "list", "tuple", "None", "object", "module"],
)
def test_what_is_no_number_tensor_or_metric_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"(?s)value.*{type(value).__name__}"):
        run("fit", Logging(lambda m: m.log("value", value)), tmp_path)


def test_log_dict_refuses_a_dictionary_inside_the_dictionary(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)outer.*dict"):
        run("fit", Logging(lambda m: m.log_dict({"outer": {"inner": 1.0}})), tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"on_epoch": True},
        {"on_step": False, "on_epoch": True},
        {"prog_bar": True},
        {"logger": False},
        {"reduce_fx": "sum"},
    ],
    ids=["by both", "by epoch", "on the bar", "not in the logger", "another reduction"],
)
def test_one_name_with_other_settings_in_the_same_hook_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    def speak(module: Any) -> None:
        module.log("value", 1.0)
        module.log("value", 1.0, **other)

    refused(speak, f"value.*training_step.*{next(iter(other))}|value.*{next(iter(other))}.*training_step", tmp_path)


def test_one_name_with_other_settings_in_a_later_batch_is_refused(tmp_path: Path) -> None:
    def speak(module: Any) -> None:
        module.log("value", 1.0, prog_bar=module.global_step > 0)

    refused(speak, "value.*prog_bar", tmp_path)


def test_one_name_with_the_same_settings_may_be_logged_again(tmp_path: Path) -> None:
    def speak(module: Any) -> None:
        module.log("value", 1.0, on_epoch=True, reduce_fx="avg")
        module.log("value", 2.0, on_step=True, on_epoch=True, reduce_fx="mean", logger=True)

    assert run("fit", Logging(speak), tmp_path).callback_metrics["value_epoch"].item() == 1.5


class TwoLoaders(Everything):
    """Logs in a validation step of two loaders what it is told to."""

    def __init__(self, speak: Callable[[Any], None]) -> None:
        super().__init__()
        self.speak = speak
        self.names: list[str] = []

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.speak(self)

    def val_dataloader(self) -> Any:
        return [loader(), loader()]


def test_a_dataloader_suffix_written_by_hand_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"(?s)v/dataloader_idx_0.*add_dataloader_idx"):
        run("validate", TwoLoaders(lambda m: m.log("v/dataloader_idx_0", 1.0)), tmp_path)


def test_a_dataloader_suffix_written_by_hand_is_accepted_when_none_is_added(tmp_path: Path) -> None:
    def speak(module: Any) -> None:
        index = len(module.names)
        module.names.append(f"v/dataloader_idx_{index}")
        module.log(module.names[-1], 1.0 + index, add_dataloader_idx=False)

    results = trainer(tmp_path, limit_val_batches=1).validate(TwoLoaders(speak), verbose=False)

    assert results == [{"v/dataloader_idx_0": 1.0}, {"v/dataloader_idx_1": 2.0}]


def test_what_a_hook_calls_follows_the_rules_of_that_hook(tmp_path: Path) -> None:
    class Helper(nn.Module):
        """Logs through a module that it was given, from wherever it is called."""

        def forward(self, module: Any) -> None:
            module.log("value", 1.0)

    helper = Helper()
    ran = run("fit", Logging(lambda m: helper(m)), tmp_path)
    assert ran.callback_metrics["value"].item() == 1.0

    with pytest.raises(MisconfigurationError, match="predict_step"):
        run("predict", speaking_module("predict_step", lambda m: helper(m)), tmp_path)


@pytest.mark.parametrize("argument", ["on_step", "on_epoch"])
@pytest.mark.parametrize("value", ["x", "False", 2, []])
def test_what_is_neither_yes_nor_no_is_refused_with_what_is_allowed(argument: str, value: Any, tmp_path: Path) -> None:
    class Logging(Everything):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("value", 1.0, **{argument: value})

    allowed = rf"{argument}={re.escape(repr(value))}\) in `training_step`: {argument} must be True, False, or None"
    with pytest.raises(MisconfigurationError, match=allowed):
        trainer(tmp_path, max_epochs=1).fit(Logging())
