"""Misspelt hooks and hooks with a wrong signature are errors at the start of a run, before any hook ran."""

from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import HookError, MisconfigurationError

from .recording import Batch, QuietModule, RecordingCallback, RecordingModule, Trace, loader, make_trainer

ENTRY_POINTS = ("fit", "validate", "test", "predict")


class Witness(RecordingCallback):
    """Listed before the broken callback: what it hears is what ran."""

    def __init__(self, trace: Trace) -> None:
        super().__init__("C", trace)


def run_and_expect(
    tmp_path: Path, error: str, *callbacks: Callback, module: Any = None, entry_point: str = "fit"
) -> None:
    """Run into a HookError that matches, and check that nobody had been called until then."""
    trace = Trace()
    module = RecordingModule(trace) if module is None else module
    trainer: Trainer = make_trainer(tmp_path, [Witness(trace), *callbacks], max_epochs=1)
    with pytest.raises(HookError, match=error):
        getattr(trainer, entry_point)(module)
    # The module is asked for its callbacks, which are checked as well; others may hear of the error. Nobody was set up.
    assert [name for name in trace.names if name not in ("M.configure_callbacks", "C.on_exception")] == []


def test_a_hook_error_is_a_misconfiguration_and_a_value_error() -> None:
    assert issubclass(HookError, MisconfigurationError)
    assert issubclass(HookError, ValueError)


class PluralHook(Callback):
    def on_train_batch_ends(self, *args: Any) -> None: ...


class MissingLetter(Callback):
    def on_train_bach_start(self, *args: Any) -> None: ...


class PastTense(Callback):
    def on_validation_epoch_ended(self, *args: Any) -> None: ...


class DerivedFromPlural(PluralHook):
    def on_train_start(self, *args: Any) -> None: ...


@pytest.mark.parametrize(
    ("callback", "error"),
    [
        (PluralHook(), r"PluralHook.*on_train_batch_ends.*on_train_batch_end\b"),
        (MissingLetter(), r"MissingLetter.*on_train_bach_start.*on_train_batch_start\b"),
        (PastTense(), r"PastTense.*on_validation_epoch_ended.*on_validation_epoch_end\b"),
        (DerivedFromPlural(), r"DerivedFromPlural.*on_train_batch_ends.*on_train_batch_end\b"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Callback) else "",
)
def test_a_misspelt_hook_names_the_class_the_method_and_the_hook_that_was_meant(
    tmp_path: Path, callback: Callback, error: str
) -> None:
    run_and_expect(tmp_path, error, callback)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_misspelt_hook_is_found_by_every_entry_point(tmp_path: Path, entry_point: str) -> None:
    error = r"PluralHook.*on_train_batch_ends.*on_train_batch_end\b"
    run_and_expect(tmp_path, error, PluralHook(), entry_point=entry_point)


def test_a_misspelt_hook_of_the_module_is_an_error_too(tmp_path: Path) -> None:
    class PluralModule(QuietModule):
        def on_train_epoch_ends(self) -> None: ...

    run_and_expect(tmp_path, r"PluralModule.*on_train_epoch_ends.*on_train_epoch_end\b", module=PluralModule())


def test_a_misspelt_hook_of_a_callback_that_the_module_brings_is_an_error_too(tmp_path: Path) -> None:
    class BringsPlural(QuietModule):
        def configure_callbacks(self) -> list[Callback]:
            return [PluralHook()]

    run_and_expect(tmp_path, r"PluralHook.*on_train_batch_ends.*on_train_batch_end\b", module=BringsPlural())


def test_private_methods_attributes_and_submodules_may_be_called_what_they_like(tmp_path: Path) -> None:
    class Careful(Callback):
        on_train_batch_ends = 3

        def _on_train_batch_ends(self) -> None: ...

        def train_batch_ends(self) -> None: ...

        @property
        def on_gpu(self) -> bool:
            return False

    class CarefulModule(QuietModule):
        def __init__(self) -> None:
            super().__init__()
            self.on_train_epoch_ends = True

        @property
        def on_gpu(self) -> bool:
            raise RuntimeError("a property of the user is not to be read")

    trainer = make_trainer(tmp_path, [Careful()], max_epochs=1)
    trainer.fit(CarefulModule())
    assert trainer.global_step == 3


# ----------------------------------------------------------------------------------------------- wrong signatures


class TooFew(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any) -> None: ...  # type: ignore[override]


class TooMany(Callback):
    def on_train_start(self, trainer: Any, pl_module: Any, batch: Any) -> None: ...  # type: ignore[override]


class WithoutTrainer(Callback):
    def on_fit_end(self) -> None: ...  # type: ignore[override]


class KeywordOnly(Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any, *, verbose: bool) -> None: ...  # type: ignore[override]


class WithoutStage(Callback):
    def setup(self, trainer: Any, pl_module: Any) -> None: ...  # type: ignore[override]


class WithoutPath(Callback):
    def on_checkpoint_saved(self, trainer: Any, pl_module: Any) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("callback", "error"),
    [
        (TooFew(), r"TooFew.*on_train_batch_end.*trainer, pl_module, outputs, batch, batch_idx"),
        (TooMany(), r"TooMany.*on_train_start.*trainer, pl_module"),
        (WithoutTrainer(), r"WithoutTrainer.*on_fit_end.*trainer, pl_module"),
        (KeywordOnly(), r"KeywordOnly.*on_train_epoch_end.*trainer, pl_module"),
        (WithoutStage(), r"WithoutStage.*setup.*trainer, pl_module, stage"),
        (WithoutPath(), r"WithoutPath.*on_checkpoint_saved.*trainer, pl_module, path"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Callback) else "",
)
def test_a_wrong_signature_names_the_class_the_hook_and_the_arguments_that_it_gets(
    tmp_path: Path, callback: Callback, error: str
) -> None:
    run_and_expect(tmp_path, error, callback)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_wrong_signature_is_found_by_every_entry_point(tmp_path: Path, entry_point: str) -> None:
    run_and_expect(tmp_path, r"TooMany.*on_train_start", TooMany(), entry_point=entry_point)


class OldEpochEnd(QuietModule):
    def on_train_epoch_end(self, outputs: Any) -> None: ...  # type: ignore[override]


class WithTrainer(QuietModule):
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None: ...  # type: ignore[override]


class WithoutBatchIdx(QuietModule):
    def on_train_batch_start(self, batch: Batch) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (OldEpochEnd(), r"OldEpochEnd.*on_train_epoch_end"),
        (WithTrainer(), r"WithTrainer.*on_fit_start"),
        (WithoutBatchIdx(), r"WithoutBatchIdx.*on_train_batch_start.*batch, batch_idx"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, QuietModule) else "",
)
def test_a_wrong_signature_of_the_module_names_the_class_and_the_hook(
    tmp_path: Path, module: QuietModule, error: str
) -> None:
    run_and_expect(tmp_path, error, module=module)


def test_signatures_that_can_be_called_are_all_fine(tmp_path: Path) -> None:
    calls: list[str] = []

    class Generous(Callback):
        def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
            calls.append("star")

        def on_train_batch_end(self, a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
            calls.append("renamed")

        def on_train_start(self, trainer: Any, pl_module: Any, extra: int = 3, *, more: int = 4) -> None:
            calls.append("defaults")

        @staticmethod
        def on_train_end(trainer: Any, pl_module: Any) -> None:
            calls.append("static")

        @classmethod
        def on_fit_end(cls, trainer: Any, pl_module: Any) -> None:
            calls.append("class")

    make_trainer(tmp_path, [Generous()], max_epochs=1, limit_val_batches=0).fit(QuietModule(train_batches=1))
    assert calls == ["defaults", "star", "renamed", "static", "class"]


class OneLoader(Callback):
    """Knows nothing of several loaders."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.calls.append(batch_idx)


def test_an_evaluation_hook_without_dataloader_idx_is_fine_with_one_loader(tmp_path: Path) -> None:
    callback = OneLoader()
    make_trainer(tmp_path, [callback]).validate(QuietModule(), loader(3))
    assert callback.calls == [0, 1, 2]


def test_an_evaluation_hook_without_dataloader_idx_is_an_error_with_several_loaders(tmp_path: Path) -> None:
    callback = OneLoader()
    with pytest.raises(HookError, match=r"OneLoader.*on_validation_batch_end.*dataloader_idx"):
        make_trainer(tmp_path, [callback]).validate(QuietModule(), [loader(3), loader(1)])
    assert callback.calls == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_train_batch_ends", "on_train_batch_end"),
        ("on_train_begin", "on_train_start"),
        ("on_validation_begin", "on_validation_start"),
        ("on_train_epoch_begin", "on_train_epoch_start"),
        ("on_test_batch_begin", "on_test_batch_start"),
        ("on_val_start", "on_validation_start"),
        ("on_val_epoch_end", "on_validation_epoch_end"),
        ("on_eval_end", "on_validation_end"),
        ("on_epoch_begin", "on_train_epoch_start"),
        ("on_epoch_end", "on_train_epoch_end"),
        ("on_batch_end", "on_train_batch_end"),
        ("on_step_begin", "on_train_batch_start"),
        ("on_train_step_end", "on_train_batch_end"),
        ("on_validation_step_end", "on_validation_batch_end"),
        ("on_keyboard_interrupt", "on_exception"),
        ("training_epoch_end", "on_train_epoch_end"),
    ],
)
def test_a_hook_by_the_name_that_another_framework_gives_it_is_told_its_name_here(
    name: str, meant: str, tmp_path: Path
) -> None:
    kind = type("Mistaken", (Callback,), {name: lambda self, *args: None})
    trainer = Trainer(callbacks=[kind()], logger=False, registered_callbacks=False, default_root_dir=tmp_path)

    with pytest.raises(HookError, match=rf"Mistaken\.{name} is no hook.*Rename it to {meant},"):
        trainer.predict(LightningModule(), [1])


def test_a_hook_of_modules_that_lightning_has_given_up_is_told_its_name_here(tmp_path: Path) -> None:
    module = type("Sharded", (Echo,), {"configure_sharded_model": lambda self: None})()
    trainer = Trainer(logger=False, registered_callbacks=False, default_root_dir=tmp_path)

    with pytest.raises(HookError, match=r"Sharded\.configure_sharded_model is no hook.*Rename it to configure_model,"):
        trainer.predict(module, [[1]])


def test_a_helper_that_resembles_no_hook_may_be_called_on_something(tmp_path: Path) -> None:
    kind = type("Uploading", (Callback,), {"on_upload_finished": lambda self: None})
    trainer = Trainer(callbacks=[kind()], logger=False, registered_callbacks=False, default_root_dir=tmp_path)

    assert trainer.predict(Echo(), [[1, 2]]) == [1, 2]


class Echo(LightningModule):
    def predict_step(self, batch: int, batch_idx: int) -> int:
        return batch
