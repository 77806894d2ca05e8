"""Who is called: callbacks that join or leave during a run, that the module brings, that are made of functions."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LambdaCallback, LightningModule, Order, Trainer
from hookloop.errors import HookError, HookloopError, SIGTERMException
from hookloop.view import TrainerView

from .recording import (
    CALLBACK_HOOKS,
    Batch,
    FirstRecorder,
    LastRecorder,
    MonitorRecorder,
    QuietModule,
    RecordingCallback,
    RecordingModule,
    Saver,
    Trace,
    lines,
    make_trainer,
)

ONE_BATCH: dict[str, Any] = {"max_epochs": 1, "num_sanity_val_steps": 0, "limit_val_batches": 0}

# What a callback hears of a fit of one batch without validation, from the beginning.
ONE_BATCH_FIT = """
setup
on_fit_start
on_train_start
on_train_epoch_start
on_train_batch_start
on_before_zero_grad
on_before_backward
on_after_backward
on_before_optimizer_step
on_after_optimizer_step
on_train_batch_end
on_train_epoch_end
on_train_end
on_fit_end
teardown
"""


class Appends(RecordingCallback):
    """Appends a callback to the trainer's in one of its hooks."""

    def __init__(self, trace: Trace, hook: str, joining: Callback) -> None:
        super().__init__("A", trace)
        self.joining = joining

        def append(trainer: TrainerView, *args: Any) -> None:
            trace.add("A", hook)
            trainer.callbacks.append(joining)

        setattr(self, hook, append)


@pytest.mark.parametrize(
    ("hook", "heard"),
    [
        (
            "on_train_start",
            """setup on_train_epoch_start on_train_batch_start on_before_zero_grad on_before_backward on_after_backward
            on_before_optimizer_step on_after_optimizer_step on_train_batch_end on_train_epoch_end on_train_end
            on_fit_end teardown""",
        ),
        (
            "on_train_batch_start",
            """setup on_before_zero_grad on_before_backward on_after_backward on_before_optimizer_step
            on_after_optimizer_step on_train_batch_end on_train_epoch_end on_train_end on_fit_end teardown""",
        ),
        (
            "on_before_backward",
            """setup on_after_backward on_before_optimizer_step on_after_optimizer_step on_train_batch_end
            on_train_epoch_end on_train_end on_fit_end teardown""",
        ),
        ("on_train_epoch_end", "setup on_train_end on_fit_end teardown"),
        ("on_fit_end", "setup teardown"),
    ],
)
def test_a_callback_appended_in_a_hook_is_set_up_and_joins_from_the_next_hook_on(
    tmp_path: Path, hook: str, heard: str
) -> None:
    trace = Trace()
    joining = RecordingCallback("N", trace)
    make_trainer(tmp_path, [Appends(trace, hook, joining)], **ONE_BATCH).fit(RecordingModule(trace, 1))
    assert trace.of("N") == lines(heard)
    assert trace.calls("N", "setup")[0][2] == "fit"
    assert trace.of("A") == lines(ONE_BATCH_FIT)


def test_a_callback_appended_while_others_are_set_up_is_set_up_once_and_hears_everything(tmp_path: Path) -> None:
    trace = Trace()
    appending = Appends(trace, "setup", RecordingCallback("N", trace))
    make_trainer(tmp_path, [appending], **ONE_BATCH).fit(QuietModule(train_batches=1))
    assert trace.of("N") == lines(ONE_BATCH_FIT)


def test_a_callback_that_joins_is_set_up_before_the_next_hook_and_not_called_in_the_running_one(tmp_path: Path) -> None:
    trace = Trace()
    appending = Appends(trace, "on_train_start", RecordingCallback("N", trace))
    make_trainer(tmp_path, [appending, RecordingCallback("C", trace)], **ONE_BATCH).fit(RecordingModule(trace, 1))
    start = trace.names.index("A.on_train_start")
    heard = trace.names[start : start + 8]
    # Whether the setup comes before or after the rest of the running hook is left open.
    assert heard.index("N.setup") in (1, 2, 3)
    heard.remove("N.setup")
    assert heard == lines("""
        A.on_train_start C.on_train_start M.on_train_start
        A.on_train_epoch_start C.on_train_epoch_start N.on_train_epoch_start M.on_train_epoch_start
    """)


def test_a_callback_whose_setup_fails_does_not_join(tmp_path: Path) -> None:
    class FailsToSetUp(RecordingCallback):
        def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
            super().setup(trainer, pl_module, stage)
            raise RuntimeError("planted")

    class AppendsCarefully(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            with pytest.raises(RuntimeError, match="planted"):
                trainer.callbacks.append(joining)

    trace = Trace()
    joining = FailsToSetUp("N", trace)
    trainer = make_trainer(tmp_path, [AppendsCarefully()], **ONE_BATCH)
    trainer.fit(QuietModule(train_batches=1))
    assert trace.of("N") == ["setup"]
    assert joining not in trainer.callbacks


def test_a_callback_that_joins_takes_the_place_of_its_order(tmp_path: Path) -> None:
    trace = Trace()
    joining = [MonitorRecorder("O", trace), FirstRecorder("F", trace), LastRecorder("L", trace)]

    class AppendsAll(RecordingCallback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            trainer.callbacks.extend(joining)

    callbacks: list[Callback] = [LastRecorder("L0", trace), AppendsAll("C", trace)]
    make_trainer(tmp_path, callbacks, **ONE_BATCH).fit(RecordingModule(trace, 1))
    heard = [str(event) for event in trace.events if event.hook == "on_train_epoch_end"]
    assert [name.partition(".")[0] for name in heard] == ["F", "C", "M", "O", "L0", "L"]


def test_a_callback_that_joined_stays_for_the_next_run_and_is_set_up_once_in_it(tmp_path: Path) -> None:
    trace = Trace()
    appending = Appends(trace, "on_train_start", RecordingCallback("N", trace))
    trainer = make_trainer(tmp_path, [appending], **ONE_BATCH)
    trainer.fit(QuietModule(train_batches=1))
    trace.events.clear()
    trainer.test(QuietModule())
    assert trace.of("N") == lines("""
        setup on_test_start on_test_epoch_start on_test_batch_start on_test_batch_end on_test_epoch_end on_test_end
        teardown
    """)


def test_a_callback_that_joins_hears_of_an_error_and_is_torn_down(tmp_path: Path) -> None:
    class FailingModule(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            raise RuntimeError("planted")

    trace = Trace()
    joining = RecordingCallback("N", trace)
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer(tmp_path, [Appends(trace, "on_train_batch_start", joining)], **ONE_BATCH).fit(FailingModule())
    assert trace.of("N") == ["setup", "on_exception", "teardown"]


def test_a_callback_with_a_misspelt_hook_is_an_error_when_it_joins(tmp_path: Path) -> None:
    class Misspelt(Callback):
        def on_train_batch_ends(self, *args: Any) -> None: ...

    trace = Trace()
    with pytest.raises(HookError, match=r"Misspelt.*on_train_batch_ends.*on_train_batch_end\b"):
        make_trainer(tmp_path, [Appends(trace, "on_train_start", Misspelt())], **ONE_BATCH).fit(QuietModule())
    assert trace.of("A")[-2:] == ["on_exception", "teardown"]


def test_a_callback_that_is_removed_hears_nothing_more_but_its_teardown(tmp_path: Path) -> None:
    class Leaves(RecordingCallback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            super().on_train_start(trainer, pl_module)
            trainer.callbacks.remove(self)

    trace = Trace()
    make_trainer(tmp_path, [Leaves("N", trace), RecordingCallback("C", trace)], **ONE_BATCH).fit(
        QuietModule(train_batches=1)
    )
    assert trace.of("N") == ["setup", "on_fit_start", "on_train_start", "teardown"]
    assert trace.of("C") == lines(ONE_BATCH_FIT)


def test_callbacks_that_are_taken_away_and_put_back_are_set_up_and_torn_down_once(tmp_path: Path) -> None:
    class Hides(Callback):
        def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.hidden = list(trainer.callbacks)
            trainer.callbacks[:] = [self]

        def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
            trainer.callbacks[:] = self.hidden

    trace = Trace()
    callbacks = [Hides(), RecordingCallback("C", trace)]
    make_trainer(tmp_path, [*callbacks], **ONE_BATCH).fit(QuietModule(train_batches=1))
    # What runs already runs to its end: both changes hold from the next hook on.
    assert trace.of("C") == lines("setup on_fit_start on_train_epoch_end on_train_end on_fit_end teardown")


def test_the_list_of_the_user_is_copied_and_never_changed(tmp_path: Path) -> None:
    trace = Trace()
    mine: list[Callback] = [Appends(trace, "on_train_start", RecordingCallback("N", trace))]
    before = list(mine)

    class BringsCallbacks(QuietModule):
        def configure_callbacks(self) -> Sequence[Callback]:
            return [LastRecorder("B", trace)]

    trainer = make_trainer(tmp_path, mine, **ONE_BATCH)
    trainer.fit(BringsCallbacks(train_batches=1))
    assert mine == before
    assert len(trainer.callbacks) == 3

    mine.append(RecordingCallback("late", trace))
    trace.events.clear()
    trainer.validate(QuietModule())
    assert trace.of("late") == []
    assert trace.of("N")[0] == "setup"


def test_a_lone_callback_needs_no_list(tmp_path: Path) -> None:
    trace = Trace()
    trainer = Trainer(
        callbacks=RecordingCallback("C", trace),
        accelerator="cpu",
        logger=False,
        default_root_dir=tmp_path,
        registered_callbacks=False,
        **ONE_BATCH,
    )
    trainer.fit(QuietModule(train_batches=1))
    assert trace.of("C") == lines(ONE_BATCH_FIT)


# ------------------------------------------------------------------------------------------- configure_callbacks


class Other(RecordingCallback):
    """Not related to those that follow."""


class Named(RecordingCallback):
    """What the module brings, and the user may have passed."""


class NamedSub(Named):
    """Derived from it."""


class Brings(QuietModule):
    """Brings new instances at each run, named after their position in all that it ever brought."""

    def __init__(self, trace: Trace, *kinds: type[RecordingCallback]) -> None:
        super().__init__(trace, train_batches=1)
        self.kinds = kinds
        self.brought = 0

    def configure_callbacks(self) -> Sequence[Callback]:
        callbacks = []
        for kind in self.kinds:
            self.brought += 1
            callbacks.append(kind(f"module{self.brought}", self.trace))
        return callbacks


def who_ran(trace: Trace) -> list[str]:
    """Everybody in the order of their `setup`."""
    return [event.who for event in trace.events if event.hook == "setup"]


def test_a_callback_of_the_module_replaces_the_one_of_the_same_type_and_comes_after_the_others(tmp_path: Path) -> None:
    trace = Trace()
    callbacks: list[Callback] = [Named("user", trace), Other("C", trace)]
    trainer = make_trainer(tmp_path, callbacks, **ONE_BATCH)
    trainer.fit(Brings(trace, Named))
    assert who_ran(trace) == ["C", "module1"]
    assert trace.of("user") == []
    assert [type(callback) for callback in trainer.callbacks] == [Other, Named]


def test_a_callback_of_the_module_replaces_the_one_of_its_base_class(tmp_path: Path) -> None:
    trace = Trace()
    make_trainer(tmp_path, [Named("user", trace), LambdaCallback()], **ONE_BATCH).fit(Brings(trace, NamedSub))
    assert who_ran(trace) == ["module1"]


def test_a_callback_of_the_module_does_not_replace_one_of_a_derived_class(tmp_path: Path) -> None:
    trace = Trace()
    make_trainer(tmp_path, [NamedSub("user", trace)], **ONE_BATCH).fit(Brings(trace, Named))
    assert who_ran(trace) == ["user", "module1"]


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_callbacks_of_the_module_do_not_grow_in_a_second_fit(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(tmp_path, [Other("C", trace), Named("user", trace)], **ONE_BATCH)
    module = Brings(trace, Named)
    trainer.fit(module)
    trace.events.clear()
    trainer.fit(module)
    assert who_ran(trace) == ["C", "module2"]
    assert len(trainer.callbacks) == 2


def test_callbacks_of_the_module_keep_the_order_of_their_groups(tmp_path: Path) -> None:
    trace = Trace()
    callbacks: list[Callback] = [LastRecorder("L", trace), Named("N", trace), FirstRecorder("F", trace)]

    class ModuleFirst(RecordingCallback):
        order = Order.FIRST

    class BringsFirst(RecordingModule):
        def configure_callbacks(self) -> Sequence[Callback]:
            return [Other("module_normal", trace), ModuleFirst("module_first", trace)]

    make_trainer(tmp_path, callbacks, **ONE_BATCH).fit(BringsFirst(trace, 1))
    assert who_ran(trace) == ["F", "module_first", "N", "module_normal", "M", "L"]


def test_a_plain_callback_with_hooks_on_its_instance_is_the_base_of_all_and_replaced_by_none(tmp_path: Path) -> None:
    trace = Trace()
    plain = Callback()
    plain.setup = lambda *args: trace.add("plain", "setup")  # type: ignore[method-assign]
    make_trainer(tmp_path, [plain], **ONE_BATCH).fit(Brings(trace, Named))
    assert who_ran(trace) == ["plain", "module1"]


def test_configure_callbacks_may_return_a_lone_callback(tmp_path: Path) -> None:
    trace = Trace()

    class BringsOne(QuietModule):
        def configure_callbacks(self) -> Callback:
            return RecordingCallback("module", trace)

    make_trainer(tmp_path, [], **ONE_BATCH).fit(BringsOne(train_batches=1))
    assert trace.of("module") == lines(ONE_BATCH_FIT)


# ---------------------------------------------------------------------------------- overridden on the instance


def test_a_hook_that_is_set_on_the_instance_is_called_like_one_of_the_class(tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    callback = Callback()
    callback.on_train_epoch_end = lambda trainer, pl_module: calls.append((trainer, pl_module))  # type: ignore[method-assign]
    trainer = make_trainer(tmp_path, [callback], **ONE_BATCH)
    module = QuietModule(train_batches=1)
    trainer.fit(module)
    assert len(calls) == 1
    assert calls[0][0] is trainer
    assert calls[0][1] is module


def test_a_hook_that_is_set_on_the_instance_of_a_module_is_called(tmp_path: Path) -> None:
    calls: list[int] = []
    module = QuietModule()
    module.on_train_batch_end = lambda outputs, batch, batch_idx: calls.append(batch_idx)  # type: ignore[method-assign]
    make_trainer(tmp_path, [], **ONE_BATCH).fit(module)
    assert calls == [0, 1, 2]


def test_a_mock_can_stand_for_a_hook(tmp_path: Path) -> None:
    callback = Callback()
    callback.on_train_start = Mock()  # type: ignore[method-assign]
    trainer = make_trainer(tmp_path, [callback], **ONE_BATCH)
    module = QuietModule(train_batches=1)
    trainer.fit(module)
    callback.on_train_start.assert_called_once_with(trainer, module)


def test_a_hook_that_is_overridden_for_the_next_run_is_found_by_it(tmp_path: Path) -> None:
    calls: list[str] = []
    callback = Callback()
    trainer = make_trainer(tmp_path, [callback], **ONE_BATCH)
    trainer.fit(QuietModule(train_batches=1))
    callback.on_test_end = lambda *args: calls.append("test end")  # type: ignore[method-assign]
    trainer.test(QuietModule())
    assert calls == ["test end"]


# ------------------------------------------------------------------------------------------------ LambdaCallback


def recording_functions(trace: Trace) -> dict[str, Any]:
    def function(hook: str) -> Any:
        return lambda *args: trace.add("Lambda", hook, *args)

    return {hook: function(hook) for hook in CALLBACK_HOOKS}


def test_a_lambda_callback_with_every_hook_hears_what_a_class_with_every_hook_hears(tmp_path: Path) -> None:
    class FailingModule(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            raise RuntimeError("planted")

    trace = Trace()
    saver = Saver(trace, tmp_path)
    by_class = RecordingCallback("C", trace)
    callbacks: list[Callback] = [LambdaCallback(**recording_functions(trace)), by_class, saver]
    trainer = make_trainer(tmp_path, callbacks, max_epochs=1)
    trainer.fit(QuietModule())
    for entry_point in ("validate", "test", "predict"):
        getattr(trainer, entry_point)(QuietModule(), ckpt_path=saver.path(0))
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer(tmp_path, callbacks, max_epochs=1).fit(FailingModule())
    terminate = LambdaCallback(on_train_start=lambda *args: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SIGTERMException):
        make_trainer(tmp_path, [*callbacks, terminate], max_epochs=1).fit(QuietModule())

    of_class = [hook for hook in trace.of("C") if hook not in ("state_dict", "load_state_dict")]
    assert trace.of("Lambda") == of_class
    assert set(trace.of("Lambda")) == set(CALLBACK_HOOKS)
    for hook in set(of_class):
        assert trace.calls("Lambda", hook) == trace.calls("C", hook)


def test_a_lambda_callback_leaves_a_hook_that_is_none_alone(tmp_path: Path) -> None:
    calls: list[str] = []
    callback = LambdaCallback(on_train_start=None, on_train_end=lambda trainer, pl_module: calls.append("end"))
    make_trainer(tmp_path, [callback], **ONE_BATCH).fit(QuietModule(train_batches=1))
    assert calls == ["end"]


def test_a_lambda_callback_names_what_is_no_hook() -> None:
    with pytest.raises(HookloopError, match=r"on_train_batch_ends.*no hook.*on_train_batch_end\b"):
        LambdaCallback(on_train_batch_ends=lambda *args: None)


def test_a_lambda_callback_refuses_what_cannot_be_called() -> None:
    with pytest.raises(HookloopError, match=r"on_train_start=3.*cannot be called"):
        LambdaCallback(on_train_start=3)  # type: ignore[arg-type]


def test_a_lambda_with_the_wrong_number_of_arguments_is_an_error_before_any_hook(tmp_path: Path) -> None:
    trace = Trace()
    callback = LambdaCallback(on_train_epoch_end=lambda trainer: None)
    with pytest.raises(HookError, match=r"LambdaCallback.*on_train_epoch_end"):
        make_trainer(tmp_path, [callback, RecordingCallback("C", trace)], **ONE_BATCH).fit(QuietModule())
    assert trace.of("C") == []


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
def test_a_callback_of_order_last_that_joins_in_a_hook_hears_of_the_next_one_on(hook: str, tmp_path: Path) -> None:
    heard: list[str] = []

    class Saving(Callback):
        order = Order.LAST

    newcomer = Saving()
    for name in ("on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end"):
        setattr(newcomer, name, lambda *args, name=name: heard.append(name))

    def join(trainer: Any, *args: Any) -> None:
        trainer.callbacks.append(newcomer)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.weight * 1.0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    one_batch = DataLoader(TensorDataset(torch.zeros(1)))
    Trainer(
        max_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[LambdaCallback(**{hook: join})],
        logger=False,
        registered_callbacks=False,
        default_root_dir=tmp_path,
    ).fit(Module(), one_batch, one_batch)

    order = ["on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end"]
    assert heard == order[order.index(hook) + 1 :]
