"""Rules: a callback works in every entry point, and with every kind of run that users have."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from hookloop import Callback, LightningModule
from hookloop.errors import CallbackContractError, HookError, MisconfigurationError
from hookloop.testing.runs import Subject, broken, needed, told, trainer_of
from hookloop.testing.tiny import TinyDataModule


def _stepping_by_itself(module: LightningModule) -> LightningModule:
    """The module with manual optimization, and an optimizer for each half of its parameters."""
    made = type(module)

    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        output = made.training_step(self, batch, batch_idx)
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(output["loss"] if isinstance(output, Mapping) else output)
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self: Any) -> Any:
        parameters = list(self.parameters())
        return [torch.optim.SGD(half, lr=0.05) for half in (parameters[::2], parameters[1::2])]

    members = {"training_step": training_step, "configure_optimizers": configure_optimizers}
    module.__class__ = type(made.__name__, (made,), members)
    module.automatic_optimization = False
    return module


def _without_validation(module: LightningModule) -> LightningModule:
    made = type(module)
    module.__class__ = type(made.__name__, (made,), {"validation_step": LightningModule.validation_step})
    return module


def works_in_fit(subject: Subject) -> None:
    """A fit of two epochs with a validation and a logger."""
    _works(subject, "a fit", _fit)


def works_in_validate(subject: Subject) -> None:
    """`trainer.validate` on its own."""
    _works(subject, "trainer.validate", _entry_point("validate"))


def works_in_test(subject: Subject) -> None:
    """`trainer.test` on its own."""
    _works(subject, "trainer.test", _entry_point("test"))


def works_in_predict(subject: Subject) -> None:
    """`trainer.predict` on its own."""
    _works(subject, "trainer.predict", _entry_point("predict"))


def works_in_a_fast_dev_run(subject: Subject) -> None:
    """A trial run of one batch of each kind, which leaves no files."""

    def trial(subject: Subject, callback: Callback) -> None:
        trainer = trainer_of(subject, [callback], fast_dev_run=True)
        trainer.fit(subject.module(), datamodule=TinyDataModule())
        left = sorted(str(file.relative_to(subject.folder)) for file in subject.folder.rglob("*") if file.is_file())
        if left:
            raise broken(
                callback,
                f"left files in a fast_dev_run: {', '.join(left)}.",
                "Write nothing if trainer.fast_dev_run is true: a trial run leaves nothing behind.",
            )

    _works_as_others_do(subject, "a fit with fast_dev_run=True", trial)


def works_without_a_logger(subject: Subject) -> None:
    """Every entry point with `logger=False`, where trainer.logger is None."""

    def run(subject: Subject, callback: Callback) -> None:
        _in_every_entry_point(subject, callback, logger=False)

    _works_as_others_do(subject, "runs with logger=False", run)


def works_with_several_loaders(subject: Subject) -> None:
    """Every entry point with two loaders, so that hooks of evaluation get a dataloader_idx."""

    def run(subject: Subject, callback: Callback) -> None:
        _in_every_entry_point(subject, callback, loaders=2)

    _works_as_others_do(subject, "runs with two loaders in each stage", run)


def works_with_manual_optimization(subject: Subject) -> None:
    """A fit of a module that steps two optimizers by itself."""

    def run(subject: Subject, callback: Callback) -> None:
        trainer_of(subject, [callback]).fit(_stepping_by_itself(subject.module()), datamodule=TinyDataModule())

    _works_as_others_do(subject, "a fit with manual optimization and two optimizers", run)


def works_without_validation(subject: Subject) -> None:
    """A fit of a module that has no validation."""

    def run(subject: Subject, callback: Callback) -> None:
        module = _without_validation(subject.module())
        trainer_of(subject, [callback]).fit(module, TinyDataModule().train_dataloader())

    _works_as_others_do(subject, "a fit of a module that has no validation", run)


def _fit(subject: Subject, callback: Callback) -> None:
    trainer_of(subject, [callback]).fit(subject.module(), datamodule=TinyDataModule())


def _in_every_entry_point(subject: Subject, callback: Callback, loaders: int = 1, **arguments: Any) -> None:
    trainer, module, data = trainer_of(subject, [callback], **arguments), subject.module(), TinyDataModule(4, loaders)
    for name in ("fit", "validate", "test", "predict"):
        getattr(trainer, name)(module, datamodule=data)


def _entry_point(name: str) -> Callable[[Subject, Callback], None]:
    def run(subject: Subject, callback: Callback) -> None:
        getattr(trainer_of(subject, [callback]), name)(subject.module(), datamodule=TinyDataModule())

    return run


def _works(subject: Subject, what: str, run: Callable[[Subject, Callback], None]) -> None:
    callback = subject.make()
    try:
        run(subject, callback)
    except CallbackContractError:
        raise
    except Exception as error:
        mend = "Look whether what it uses is there; what a callback may ask is in hookloop.view.TrainerView."
        raise broken(callback, f"made {what} fail: {told(error, callback)}.", mend) from error


def _works_as_others_do(subject: Subject, what: str, run: Callable[[Subject, Callback], None]) -> None:
    """The same for a kind of run that a callback may refuse, with a MisconfigurationError that says why."""
    callback = subject.make()
    try:
        run(subject, callback)
    except CallbackContractError:
        raise
    except Exception as error:
        if isinstance(error, MisconfigurationError) and not isinstance(error, HookError):
            return
        needed(lambda: _in_every_entry_point(subject, subject.make()), callback)
        mend = (
            "Look whether what it uses is there. What cannot work in such a run is refused with a "
            "hookloop.errors.MisconfigurationError that says why."
        )
        raise broken(callback, f"made {what} fail: {told(error, callback)}.", mend) from error
