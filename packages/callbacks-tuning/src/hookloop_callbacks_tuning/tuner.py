"""`Tuner`: finds a rate or a size before a run, and runs nothing else."""

from typing import Any, Literal

from hookloop import Callback, LightningDataModule, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers.dummy import DummyLogger
from hookloop.stage import TrainerStatus
from hookloop_callbacks_tuning.curve import LearningRateCurve, Method, Mode
from hookloop_callbacks_tuning.rate_finder import LearningRateFinder
from hookloop_callbacks_tuning.size_finder import BatchSizeFinder

EntryPoint = Literal["fit", "validate", "test", "predict"]


class Tuner:
    """Finds what a Trainer trains with.

        tuner = Tuner(trainer)
        tuner.scale_batch_size(model)
        tuner.lr_find(model)
        trainer.fit(model)

    The model's attribute is set; nothing is trained.

    Args:
        trainer: whose settings hold.

    Raises:
        MisconfigurationError: it is no Trainer.
    """

    def __init__(self, trainer: Trainer) -> None:
        if not isinstance(trainer, Trainer):
            raise MisconfigurationError(f"Tuner({trainer!r}) needs a hookloop.Trainer.")
        self._trainer = trainer

    def lr_find(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        method: Literal["fit"] = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: Mode = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
        *,
        suggest: Method = "steepest",
    ) -> LearningRateCurve | None:
        """Find a learning rate; see `LearningRateFinder`.

        Args:
            model: whose attribute is set.
            train_dataloaders: see `Trainer.fit`.
            val_dataloaders: see `Trainer.fit`.
            dataloaders: for other entry points, which have no rate: leave it out.
            datamodule: see `Trainer.fit`.
            method: "fit".
            min_lr: see `LearningRateFinder`, as are the following.
            max_lr: the last rate.
            num_training: its `num_training_steps`.
            mode: how rates rise.
            early_stop_threshold: when the test ends early.
            update_attr: whether the attribute is set.
            attr_name: its name.
            suggest: its `method`.

        Returns:
            The curve; None in a trial run (`fast_dev_run`).

        Raises:
            MisconfigurationError: the trainer has such a finder, an argument is wrong, or what the finder raises.
        """
        if method != "fit":
            raise MisconfigurationError(f"lr_find(method={method!r}) must be 'fit': nothing else has a learning rate.")
        finder = LearningRateFinder(
            min_lr, max_lr, num_training, mode, early_stop_threshold, update_attr, attr_name, method=suggest
        )
        self._run(finder, "fit", model, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        return finder.optimal_lr

    def scale_batch_size(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        method: EntryPoint = "fit",
        mode: Literal["power", "binsearch"] = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
        *,
        max_memory: int | None = None,
    ) -> int | None:
        """Find a batch size; see `BatchSizeFinder`.

        Args:
            model: the model.
            train_dataloaders: see `Trainer.fit`; loaders that are passed have a size already, which is an error.
            val_dataloaders: see `Trainer.fit`.
            dataloaders: see `Trainer.validate`.
            datamodule: see `Trainer.fit`.
            method: "fit", "validate", "test" or "predict".
            mode: see `BatchSizeFinder`, as are the following.
            steps_per_trial: steps for each size.
            init_val: the first size.
            max_trials: sizes to try.
            batch_arg_name: name of the attribute.
            margin: how much smaller it is made.
            max_val: the largest size.
            max_memory: a budget in bytes.

        Returns:
            The size; None in a trial run (`fast_dev_run`).

        Raises:
            MisconfigurationError: the trainer has such a finder, an argument is wrong, or what the finder raises.
        """
        finder = BatchSizeFinder(
            mode, steps_per_trial, init_val, max_trials, batch_arg_name, margin, max_val, max_memory=max_memory
        )
        self._run(finder, method, model, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        return finder.optimal_batch_size

    def _run(
        self,
        finder: Callback,
        method: str,
        model: LightningModule,
        train_dataloaders: Any,
        val_dataloaders: Any,
        dataloaders: Any,
        datamodule: LightningDataModule | None,
    ) -> None:
        if method not in ("fit", "validate", "test", "predict"):
            raise MisconfigurationError(f"method={method!r} must be 'fit', 'validate', 'test' or 'predict'.")
        wrong = {"dataloaders": dataloaders} if method == "fit" else {"train_dataloaders": train_dataloaders}
        wrong |= {} if method == "fit" else {"val_dataloaders": val_dataloaders}
        for name, value in wrong.items():
            if value is not None:
                other = "train_dataloaders and val_dataloaders" if method == "fit" else "dataloaders"
                raise MisconfigurationError(f"With method={method!r}, pass {other}, and not {name}.")
        kind = type(finder).__name__
        if any(isinstance(one, type(finder)) for one in self._trainer.callbacks):
            raise MisconfigurationError(
                f"The Trainer has a {kind}, which finds by itself where a run begins. Remove it to use the Tuner."
            )
        trainer, before, loggers = self._trainer, list(self._trainer.callbacks), self._trainer.loggers
        trainer.callbacks = [finder, _Ends()]
        if loggers:  # they would make their folders
            trainer.loggers = [DummyLogger()]
        try:
            if method == "fit":
                trainer.fit(model, train_dataloaders, val_dataloaders, datamodule)
            else:
                getattr(trainer, method)(model, dataloaders, datamodule=datamodule)
        except _FoundError:
            trainer.state.status = TrainerStatus.FINISHED
        finally:
            trainer.callbacks, trainer.loggers = before, loggers


class _FoundError(Exception):
    """The finder is through; nothing else is to be run."""


class _Ends(Callback):
    """Ends a run after the finders, before anything else has begun."""

    def on_fit_start(self, trainer: Any, pl_module: LightningModule) -> None:
        raise _FoundError

    def on_validation_start(self, trainer: Any, pl_module: LightningModule) -> None:
        raise _FoundError

    def on_test_start(self, trainer: Any, pl_module: LightningModule) -> None:
        raise _FoundError

    def on_predict_start(self, trainer: Any, pl_module: LightningModule) -> None:
        raise _FoundError
