"""`Trainer`: validates its arguments, puts a Run together, and hands it to the functions of the entry points."""

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch.nn.parameter import is_lazy

from hookloop.accelerators import Accelerator, select_accelerator
from hookloop.callback import Callback
from hookloop.callback_list import CallbackList, as_callbacks, merge_module_callbacks
from hookloop.checkpoint_io import CheckpointIO
from hookloop.checkpoint_io.saves import Saves
from hookloop.datamodule import LightningDataModule
from hookloop.errors import MisconfigurationError, PausedException
from hookloop.hook_checks import overrides
from hookloop.hooks import CompiledHooks
from hookloop.limits import Limits
from hookloop.loaders import Loaders, Source
from hookloop.loggers import Logger
from hookloop.metrics import NullRecorder, Recorder
from hookloop.module import LightningModule
from hookloop.module.compiled import from_compiled, untraced
from hookloop.module.compiled_names import is_compiled
from hookloop.optimizers import Optimization
from hookloop.options import TrainerOptions
from hookloop.precision import Precision
from hookloop.profilers import Profiler, timed
from hookloop.profilers.timing import listens
from hookloop.progress import Progress
from hookloop.run import Run
from hookloop.stage import RunningStage, TrainerFn, TrainerState, TrainerStatus
from hookloop.strategies import Strategy, select_strategy
from hookloop.trainer.arguments import (
    check_barebones,
    check_clipping,
    check_max_time,
    check_processes,
    check_strategy,
    check_switches,
    choose_loggers,
    choose_profiler,
    choose_root,
    validation_interval,
)
from hookloop.trainer.attributes import TrainerAttributes
from hookloop.trainer.keywords import known_keywords
from hookloop.trainer.reproducibility import check_torch_switches, torch_switches
from hookloop.view import TrainerView
from hookloop.warning_categories import PossibleUserWarning

if TYPE_CHECKING:
    from hookloop.discovery import Provenance
    from hookloop.loops import Closing

T = TypeVar("T")


class Trainer(TrainerAttributes):
    """Trains, validates, tests and predicts with a LightningModule.

    What can be asked of it stands in `hookloop.view.TrainerView`.

    Args:
        max_epochs: training ends after so many epochs; -1 is no limit. Without max_epochs and max_steps: 1000.
        min_epochs: `should_stop` is not obeyed before so many epochs.
        max_steps: training ends after so many optimizer steps; -1 is no limit.
        min_steps: `should_stop` is not obeyed before so many optimizer steps.
        max_time: a limit on the time of training; needs the package hookloop-callbacks-monitoring.
        accelerator: "auto" (CUDA where there is a device, else the CPU), "cpu", "cuda" or "gpu", or an Accelerator.
        devices: "auto" (one), a number, a list of indices; today hookloop trains on one.
        strategy: "auto", "single_device", or a Strategy.
        num_nodes: machines to train on; today hookloop trains on one.
        sync_batchnorm: batch norm over all processes; today there is one, which has nothing to synchronize.
        precision: "32-true" (None), "64-true", "16-true", "bf16-true", "16-mixed" or "bf16-mixed".
        callbacks: one callback or several. The list is copied.
        logger: None or True for a CSVLogger in default_root_dir, False for none, a logger or several.
        default_root_dir: where files go for which no other place was given; the working directory by default.
        enable_checkpointing: None: as installed packages have it; False: no checkpoint callback; True: there has to be
            one.
        enable_progress_bar: the same for a progress bar.
        enable_model_summary: the same for a summary of the model.
        accumulate_grad_batches: batches whose gradients make one optimizer step. The epoch's last window is scaled by
            its real size; of a loader without a length, its gradients are rescaled when the end is known. A window that
            is open when training stops, or when on_train_batch_start returns -1, is dropped.
        gradient_clip_val: the largest total norm, or absolute value, of the gradients; None clips nothing.
        gradient_clip_algorithm: "norm" (None) or "value".
        log_every_n_steps: optimizer steps between rows of the loggers; 0 logs no step.
        limit_train_batches: batches of a training epoch, or a fraction of them.
        limit_val_batches: the same for each validation loader.
        limit_test_batches: the same for each test loader.
        limit_predict_batches: the same for each predict loader.
        val_check_interval: training batches between validations, or a fraction of the epoch, or the time between them:
            "DD:HH:MM:SS", a timedelta, or a dict of its arguments.
        check_val_every_n_epoch: epochs between validations; None counts batches across epochs.
        num_sanity_val_steps: validation batches before training, to find errors early; -1 runs all.
        fast_dev_run: run one batch (True), or that many, of everything, and leave no files.
        inference_mode: evaluate under torch.inference_mode rather than torch.no_grad; not inside a fit.
        deterministic: True: operations that could differ from run to run take another way, or are an error where there
            is none; "warn": a warning there; False: as fast as can be; None leaves torch as it is. Holds while an entry
            point runs. Seeds are `seed_everything`'s.
        benchmark: whether cuDNN measures which of its algorithms is the fastest; None leaves torch as it is, but
            deterministic=True switches it off. Holds while an entry point runs.
        detect_anomaly: find the operation whose gradient is NaN, and stop at a loss that is NaN or infinite; slow.
        barebones: nothing but training, for measuring it: no logging, no registered callbacks, no sanity check.
        overfit_batches: use the same batches, so many or this fraction of them, in every epoch, without shuffling: can
            the model learn them by heart? In place of limit_train_batches and limit_val_batches; validation uses its
            own loader. Samplers that may shuffle are replaced, with a warning. 0 is off.
        reload_dataloaders_every_n_epochs: ask module or datamodule for the training and the validation loaders anew
            after so many epochs; 0 asks once.
        use_distributed_sampler: give each process its own part of the samples. It matters with several processes only;
            today a run has one, which gets all of them.
        profiler: None, "simple", "advanced", "pytorch", or a Profiler; is told of every part of the loops and of every
            hook of every callback.
        plugins: a Precision, a CheckpointIO, or both, of hookloop.plugins: how numbers are represented, in place of
            `precision`, and where checkpoints are written and read.
        registered_callbacks: True for the callbacks that installed packages register, False for none, or the names of
            the entry points or distributions to use.
        on_interrupt: "raise": after a Ctrl-C everything is torn down, then KeyboardInterrupt reaches the caller;
            "return": the entry point returns, and `trainer.interrupted` is True.

    Raises:
        MisconfigurationError: an argument is of the wrong type or out of range, or two contradict each other.
        CallbackFactoryError: an installed package's factory is broken; the message says how to go on without it.
    """

    @known_keywords
    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: str | timedelta | dict[str, int] | None = None,
        accelerator: str | Accelerator = "auto",
        devices: int | str | list[int] = "auto",
        strategy: str | Strategy = "auto",
        num_nodes: int = 1,
        sync_batchnorm: bool = False,
        precision: str | int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        logger: bool | Logger | Sequence[Logger] | None = None,
        default_root_dir: str | Path | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
        log_every_n_steps: int = 50,
        limit_train_batches: int | float = 1.0,
        limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0,
        limit_predict_batches: int | float = 1.0,
        val_check_interval: int | float | str | timedelta | dict[str, int] = 1.0,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int = 2,
        fast_dev_run: bool | int = False,
        inference_mode: bool = True,
        deterministic: bool | str | None = None,
        benchmark: bool | None = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        overfit_batches: int | float = 0.0,
        reload_dataloaders_every_n_epochs: int = 0,
        use_distributed_sampler: bool = True,
        profiler: str | Profiler | None = None,
        plugins: Precision | CheckpointIO | Sequence[Precision | CheckpointIO] | None = None,
        registered_callbacks: bool | Sequence[str] = True,
        on_interrupt: str = "raise",
    ) -> None:
        # Not by every import.
        from hookloop.discovery import registered_callbacks as discover_callbacks
        from hookloop.trainer.plugins import sort_plugins

        self._suppliers: dict[int, tuple[Callback, Provenance | str]] = {}
        passed = CallbackList(as_callbacks(callbacks), partial(_supplier, self._suppliers))
        self._options = TrainerOptions(
            max_epochs=max_epochs,
            min_epochs=min_epochs,
            max_steps=max_steps,
            min_steps=min_steps,
            max_time=max_time,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            num_nodes=num_nodes,
            sync_batchnorm=sync_batchnorm,
            precision=precision,
            callbacks=tuple(passed),
            logger=logger,
            default_root_dir=default_root_dir,
            enable_checkpointing=enable_checkpointing,
            enable_progress_bar=enable_progress_bar,
            enable_model_summary=enable_model_summary,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
            log_every_n_steps=log_every_n_steps,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            val_check_interval=val_check_interval,
            check_val_every_n_epoch=check_val_every_n_epoch,
            num_sanity_val_steps=num_sanity_val_steps,
            fast_dev_run=fast_dev_run,
            inference_mode=inference_mode,
            deterministic=deterministic,
            benchmark=benchmark,
            detect_anomaly=detect_anomaly,
            barebones=barebones,
            overfit_batches=overfit_batches,
            reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
            use_distributed_sampler=use_distributed_sampler,
            profiler=profiler,
            plugins=plugins,
            registered_callbacks=registered_callbacks,
            on_interrupt=on_interrupt,
        )
        options = self._options
        check_switches(options)
        check_barebones(options)
        check_strategy(options)
        check_clipping(options)
        check_processes(options)
        check_torch_switches(options)
        check_max_time(options)
        self._limits = Limits.from_arguments(
            max_epochs=max_epochs,
            min_epochs=min_epochs,
            max_steps=max_steps,
            min_steps=min_steps,
            fast_dev_run=fast_dev_run,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            val_check_interval=validation_interval(val_check_interval),
            check_val_every_n_epoch=check_val_every_n_epoch,
            num_sanity_val_steps=0 if barebones else num_sanity_val_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            log_every_n_steps=0 if barebones else log_every_n_steps,
            overfit_batches=overfit_batches,
            reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
        )
        chosen, chosen_devices = select_accelerator(accelerator, devices)
        own = sort_plugins(options)
        numbers = own.precision_on(chosen_devices[0]) or Precision(precision, chosen_devices[0].type)
        self._strategy = select_strategy(strategy, chosen, chosen_devices, numbers, own.checkpoint_io)
        self._default_root_dir = choose_root(default_root_dir)
        self._loggers = choose_loggers(options, self._default_root_dir)
        self._profiler = choose_profiler(profiler)
        registered = discover_callbacks(options)
        # With the callback, so that no other one can get its id.
        self._suppliers |= {id(callback): (callback, origin) for callback, origin in registered}
        everybody = [*passed, *(callback for callback, _ in registered)]
        self._callbacks = CallbackList(everybody, partial(_supplier, self._suppliers))
        self._from_module: list[Callback] = []
        self._before_module: list[Callback] = []
        self._progress = Progress()
        self._state = TrainerState()
        self._saves = Saves(self._state)
        self._run: Run | None = None
        self._outer: TrainerView | None = None
        self._ckpt_path: str | None = None
        self._ckpt_weights: str | None = None
        self._fitted: LightningModule | None = None
        self._optimization = Optimization()
        self._fit_recorder = Recorder()

    # entry points

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train a module. A second fit of the same module goes on where the first one ended.

        Args:
            model: what to train, or what torch.compile made of it: then its steps run compiled.
            train_dataloaders: any iterable of batches, or several in a list, a dict or a CombinedLoader; or a
                datamodule. None takes the datamodule's, or the module's own.
            val_dataloaders: the same for validation.
            datamodule: supplies loaders that were not passed.
            ckpt_path: a checkpoint to resume from: a path, or what checkpoint callbacks name: "best", "last" (the
                newest one that is intact), or "auto": the same, and a fresh start as long as there is none, which is
                what a job wants that may be killed and started again. `ckpt_path` of the trainer tells which it was.
            weights_only: False loads a checkpoint that holds other objects than tensors and plain values, and runs
                whatever code is in it.

        Raises:
            MisconfigurationError: something that a fit needs is missing or wrong.
            CheckpointError: the checkpoint cannot be read, or does not fit.
        """
        model = self._checked(model, "fit", "training_step", "configure_optimizers")
        _check_can_learn(model)
        train_dataloaders, datamodule = _told_apart("train_dataloaders", train_dataloaders, datamodule)
        # Read before anything begins: a file that cannot be read costs nothing of what was fitted before.
        path, checkpoints = self._begins_with(TrainerFn.FITTING, model, ckpt_path, weights_only)
        given = {"train": train_dataloaders, "val": val_dataloaders}
        if val_dataloaders is not None and not overrides(model, LightningModule, "validation_step"):
            warnings.warn(
                f"val_dataloaders were passed, and {type(model).__name__} does not define "
                "validation_step(), so this fit "
                "does not validate. Define it, or leave them out.",
                category=PossibleUserWarning,
                stacklevel=2,
            )
        anew = model is not self._fitted or path is not None
        self._state.should_stop = False
        run = self._put_together(TrainerFn.FITTING, model, given, datamodule)
        self._fitted, self._optimization, self._fit_recorder = model, run.optimization, run.recorder
        from hookloop.entry_points import run_fit  # loaded by the first run, as are the loops

        self._guard(run, path, lambda: run_fit(run, anew, checkpoints, restarted=ckpt_path == "auto"))

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        *,
        weights: str | None = None,
    ) -> list[dict[str, float]]:
        """Run the validation loop on its own.

        Args:
            model: None takes the module of the last entry point, with its best checkpoint if a callback knows one.
            dataloaders: any iterable of batches, or several in a list, a dict or a CombinedLoader; or a datamodule.
                None takes the datamodule's, or the module's own.
            ckpt_path: a checkpoint to load the weights from: a path, "best" or "last" (the newest one that is intact).
            verbose: print the metrics.
            datamodule: supplies loaders that were not passed.
            weights_only: see `fit`.
            weights: which of the checkpoint's weights: a name in its `checkpoint["weights"]`, such as "averaged", or
                "live" for its `state_dict`. None takes these too, and lets a callback that averages put its averages
                in their place.

        Returns:
            The epoch metrics by name, a dict for each loader; [] after an interrupt that does not raise.
        """
        return self._evaluate(
            TrainerFn.VALIDATING,
            RunningStage.VALIDATING,
            model,
            dataloaders,
            ckpt_path,
            verbose,
            datamodule,
            weights_only,
            weights,
        )

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        *,
        weights: str | None = None,
    ) -> list[dict[str, float]]:
        """Run the test loop; arguments and result are those of `validate`."""
        return self._evaluate(
            TrainerFn.TESTING,
            RunningStage.TESTING,
            model,
            dataloaders,
            ckpt_path,
            verbose,
            datamodule,
            weights_only,
            weights,
        )

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
        *,
        weights: str | None = None,
    ) -> list[Any] | None:
        """Run predict_step over the predict loaders.

        Args:
            model: see `validate`.
            dataloaders: see `validate`.
            datamodule: supplies loaders that were not passed.
            return_predictions: False keeps nothing, for callbacks that write predictions away; None is True.
            ckpt_path: see `validate`.
            weights_only: see `fit`.
            weights: see `validate`.

        Returns:
            What predict_step returned for each batch; a list of these for each loader if there are several. None if
            nothing is kept, and after an interrupt that does not raise.
        """
        checked = self._checked(model, "predict")
        path, checkpoints = self._begins_with(TrainerFn.PREDICTING, model, ckpt_path, weights_only, weights)
        dataloaders, datamodule = _told_apart("dataloaders", dataloaders, datamodule)
        run = self._put_together(TrainerFn.PREDICTING, checked, {"predict": dataloaders}, datamodule)
        keep = return_predictions is not False
        from hookloop.entry_points import run_prediction  # loaded by the first run

        return self._guard(run, path, lambda: run_prediction(run, keep, checkpoints), weights)

    def predict_iter(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> Generator[Any, None, None]:
        """Run predict_step batch by batch, as the predictions are asked for; nothing is kept.

            for prediction in trainer.predict_iter(model, loader):
                ...

        The run begins when the first one is asked for. Between two batches gradients are on, and signals and torch's
        switches are, as they were before; the module is in eval mode until the end. Who leaves the loop early ends the
        run: everything is torn down when the iterator is closed (`contextlib.closing` says when), and
        on_predict_epoch_end and on_predict_end are not called.

        Args:
            model: see `validate`.
            dataloaders: see `validate`.
            datamodule: supplies loaders that were not passed.
            ckpt_path: see `validate`.
            weights_only: see `fit`.

        Yields:
            What predict_step returned for each batch, loader after loader. None of them are left out.

        Raises:
            MisconfigurationError: predict_step takes a dataloader_iter; see also `predict`.
        """
        checked = self._checked(model, "predict_iter")
        path, checkpoints = self._begins_with(TrainerFn.PREDICTING, model, ckpt_path, weights_only)
        dataloaders, datamodule = _told_apart("dataloaders", dataloaders, datamodule)
        run = self._put_together(TrainerFn.PREDICTING, checked, {"predict": dataloaders}, datamodule)
        from hookloop.entry_points import prediction_steps  # loaded by the first run
        from hookloop.loops import guarded_steps

        def opened(watch: Callable[[], None]) -> Iterator[Any]:
            self._listen(run)
            self._add_module_callbacks(run)
            watch()
            return prediction_steps(run, checkpoints)

        self._ckpt_path = path
        switches = partial(torch_switches, self._options, training=False)
        try:
            yield from guarded_steps(run, run.loggers, opened, self._closing(run), switches)
        except (PausedException, KeyboardInterrupt) as ended:
            self._return_from(run, ended)

    def save_checkpoint(
        self,
        filepath: str | Path,
        weights_only: bool = False,
        storage_options: Any | None = None,
        *,
        background: bool = False,
        on_error: Literal["raise", "warn"] = "raise",
    ) -> None:
        """Write a checkpoint of the run as it is now, or as it ended.

        When the file is there and can be loaded, `on_checkpoint_saved(path)` of every callback is called, once.

        Args:
            filepath: the file, or `protocol://` where fsspec can write; it is written beside, and renamed when it is
                complete. `hookloop.storage` says what holds where.
            weights_only: the module alone; training cannot be resumed from it.
            storage_options: handed to the CheckpointIO that was passed in `plugins`; files have none.
            background: return when the state is copied, and let a thread write it. The file is announced, or its error
                raised, after the batch in which the thread is done, before the next save, by `wait_for_checkpoints`, or
                at the end of the entry point, whichever is first. Two saves never overlap: the next one waits.
            on_error: "warn" goes on without a file that could not be written, with a warning that names it; callbacks
                hear nothing of it.

        Raises:
            MisconfigurationError: no module has been run yet, filepath is no path, or there are storage_options and no
                use for them.
            CheckpointError: it could not be written, or a part of it not be loaded with weights_only=True; a file of
                that name is unchanged. Or the former one could not be written, which was saved in the background: then
                this one is there all the same.
        """
        run = self._running("save_checkpoint()")
        from hookloop.trainer.saving import check_save, save  # loaded by the first save

        check_save(filepath, background, on_error)
        with self._profiler.profile("save_checkpoint"):
            save(run, filepath, weights_only, storage_options, background, on_error)

    def trial(self, callbacks: Sequence[Any] = (), *, max_steps: int, limit_val_batches: int = 0) -> None:
        """Run a few batches of the entry point that is under way, apart from it; then everything is as it was.

        For callbacks that try something out, in on_fit_start, on_validation_start, on_test_start or on_predict_start.
        The module is trained with an optimizer of its own, which configure_optimizers is asked for anew; with automatic
        optimization its schedulers do not step. Loaders are asked for anew too. The module's hooks of training and
        evaluation are called, and those of the callbacks that are passed here, without setup and teardown. Nothing is
        logged or saved. `trainer.should_stop` ends it early.

        Afterwards, also if something raises, as before are: the module (see `hookloop.run.unchanged`), the datamodule's
        attributes, optimizers, schedulers, random state, loaders and their generators, counters, metrics and files.

        Args:
            callbacks: what hears of it.
            max_steps: optimizer steps of training; batches of each loader in another entry point.
            limit_val_batches: batches of each validation loader, after training; 0 does not validate.

        Raises:
            MisconfigurationError: no entry point is under way, a number is out of range, or a loader can be gone
                through only once.
        """
        from hookloop.trainer.trial import run_trial  # for those who try something

        run_trial(self, callbacks, max_steps, limit_val_batches)

    def forget_dataloaders(self) -> None:
        """Have the loaders of the running entry point asked for anew, by whoever supplies them.

        Call it in on_fit_start, on_validation_start, on_test_start or on_predict_start, after something has changed
        that they are made from, such as a batch size.
        """
        self._running("forget_dataloaders()").loaders.forget()

    def wait_for_checkpoints(self) -> None:
        """Wait for a checkpoint that is being written in the background; returns at once if there is none.

        Raises:
            CheckpointError: it could not be written, and it was not saved with on_error="warn".
        """
        self._saves.wait()

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[None]:
        """Build a module where it will run: its tensors are made on the trainer's device, in its precision.

            with trainer.init_module():
                module = Large()

        Nothing is made on the CPU first, or in float32 where that is not what it will be.

        Args:
            empty_init: True leaves weights as the memory was, for a module whose weights are loaded afterwards.
        """
        return self._strategy.tensor_init_context(empty_init)

    def explain(self) -> None:
        """Print the callbacks in the order in which they run, who supplies each, and which hooks each one overrides."""
        from hookloop.explain import explain_callbacks

        print(explain_callbacks(self._callbacks, {key: supplier for key, (_, supplier) in self._suppliers.items()}))

    def pause(self, reason: str) -> None:
        """End this run after the running batch, in a validation too, so that another one can go on with it.

        For callbacks: see `hookloop.view.TrainerView.pause`.

        Args:
            reason: in a sentence; whoever asks first is believed.
        """
        if self._state.pause_reason is None:
            self._state.pause_reason = reason
        self._state.attention = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print from rank zero alone, above a progress bar if there is one."""
        if self.is_global_zero:
            write: Callable[..., Any] = getattr(self.progress_bar_callback, "print", print)
            write(*args, **kwargs)

    # putting a run together

    def _evaluate(
        self,
        fn: TrainerFn,
        stage: RunningStage,
        model: LightningModule | None,
        dataloaders: Any,
        ckpt_path: str | Path | None,
        verbose: bool,
        datamodule: LightningDataModule | None,
        weights_only: bool | None,
        weights: str | None,
    ) -> list[dict[str, float]]:
        kind = "test" if fn is TrainerFn.TESTING else "validation"
        checked = self._checked(model, fn.value, f"{kind}_step")
        path, checkpoints = self._begins_with(fn, model, ckpt_path, weights_only, weights)
        dataloaders, datamodule = _told_apart("dataloaders", dataloaders, datamodule)
        run = self._put_together(fn, checked, {stage.dataloader_prefix: dataloaders}, datamodule)
        from hookloop.entry_points import run_evaluation  # loaded by the first run

        metrics = self._guard(run, path, lambda: run_evaluation(run, stage, checkpoints), weights)
        if metrics is None:
            return []
        if verbose and self.is_global_zero:
            from hookloop.metrics.table import metrics_table

            print(metrics_table(f"{kind} metric", metrics))
        return metrics

    def _put_together(
        self, fn: TrainerFn, module: LightningModule, given: Mapping[str, Any], datamodule: LightningDataModule | None
    ) -> Run:
        if datamodule is not None and any(loaders is not None for loaders in given.values()):
            raise MisconfigurationError(f"trainer.{fn.value}() got loaders and a datamodule. Pass one or the other.")
        sources = {
            stage: Source.of(stage, given.get(stage), datamodule, module, self._profiler)
            for stage in ("train", "val", "test", "predict")
        }
        options = self._options
        recorder_class: type[Recorder] = NullRecorder if options.barebones else Recorder
        if module._compiler is not None:
            recorder_class = untraced(recorder_class)
        recorder = recorder_class(self._loggers, self._strategy.collectives, self._profiler)
        hooks = CompiledHooks(self, module, datamodule, recorder, self._profiler)
        # After the checks of names: a misspelt train_dataloadr is told its name, and not that there is no loader.
        sources[fn.dataloader_prefix].require(fn.dataloader_prefix)
        self._restore_own_callbacks()
        hooks.compile(self._callbacks)
        self._state.fn, self._state.stage = fn, fn.first_stage
        self._run = Run(
            module=module,
            datamodule=datamodule,
            strategy=self._strategy,
            hooks=hooks,
            recorder=recorder,
            loggers=self._loggers if self.is_global_zero else [],
            training_recorder=recorder if fn is TrainerFn.FITTING or module is not self._fitted else self._fit_recorder,
            progress=self._progress,
            limits=self._limits,
            loaders=Loaders(sources, self._limits, in_fit=fn is TrainerFn.FITTING),
            optimization=self._optimization_for(fn, module),
            state=self._state,
            saves=self._saves,
            inference_mode=options.inference_mode,
            detect_anomaly=options.detect_anomaly,
            profiler=self._profiler if listens(self._profiler) else None,
        )
        self._outer = hooks.attach()
        return self._run

    def _optimization_for(self, fn: TrainerFn, module: LightningModule) -> Optimization:
        """A new one for a fit; the last fit's while its module is evaluated, so that a checkpoint then holds it too."""
        if fn is not TrainerFn.FITTING and module is self._fitted:
            return self._optimization
        return Optimization(self._options.gradient_clip_val, self._options.gradient_clip_algorithm)

    def _guard(self, run: Run, path: str | None, body: Callable[[], T], weights: str | None = None) -> T | None:
        """What the body returns; None after a pause, or a Ctrl-C where `on_interrupt` says that it is to return."""
        from hookloop.loops import guarded  # loaded by the first run

        assert run.state.fn is not None
        stage = run.state.fn.value
        self._ckpt_path, self._ckpt_weights = path, weights

        def with_module_callbacks(watch: Callable[[], None]) -> T:
            self._listen(run)
            return timed(set_up_and_run, f"trainer.{stage}", self._profiler)(watch)

        def set_up_and_run(watch: Callable[[], None]) -> T:
            self._add_module_callbacks(run)
            watch()
            return body()

        with torch_switches(self._options, training=run.state.fn is TrainerFn.FITTING):
            try:
                return guarded(run, run.loggers, with_module_callbacks, self._closing(run))
            except (PausedException, KeyboardInterrupt) as ended:
                self._return_from(run, ended)
                return None

    def _listen(self, run: Run) -> None:
        """The run begins: the parts of the trainer that have to know of it."""
        assert run.state.fn is not None
        if run.state.fn is TrainerFn.FITTING:
            for logger in run.loggers:
                logger.save()  # claims its folder, before another run that starts now takes the same one
        rank = self.local_rank if self.world_size > 1 else None
        self._profiler.setup(run.state.fn.value, rank, self.log_dir)
        self._callbacks.listen(run.hooks.compile)
        self._profiler.watch(run.module)

    def _closing(self, run: Run) -> "tuple[Closing, ...]":
        """What is done at the end of an entry point, whatever happened."""
        from hookloop.loops import Closing

        assert run.state.fn is not None
        outer, self._outer = self._outer, None
        # To the CPU, or, if this run was started in a hook of another trainer's, to where that one needs it.
        hand_back = Closing(self._strategy, "release", (run.module,))
        if outer is not None:
            hand_back = Closing(outer.strategy, "place", (run.module,))
        return (
            Closing(self._callbacks, "stop_listening"),
            Closing(run.loaders, "release"),
            hand_back,
            Closing(self._saves, "close"),
            Closing(self._strategy.checkpoint_io, "teardown"),
            Closing(self._profiler, "describe"),
            Closing(self._profiler, "teardown", (run.state.fn.value,)),
        )

    def _return_from(self, run: Run, ended: PausedException | KeyboardInterrupt) -> None:
        """Let a Ctrl-C reach the caller, unless `on_interrupt` says that the entry point is to return."""
        if isinstance(ended, KeyboardInterrupt) and self._options.on_interrupt != "return":
            raise ended
        # What went wrong while it was torn down hangs on it, and would be lost.
        how = "interrupted" if isinstance(ended, KeyboardInterrupt) else "paused"
        for note in getattr(ended, "__notes__", ()):
            warnings.warn(f"{run.state.fn} was {how}. {note}", stacklevel=5)

    def _add_module_callbacks(self, run: Run) -> None:
        where = f"{type(run.module).__name__}.configure_callbacks() returned"
        added = as_callbacks(run.hooks.own.configure_callbacks(), where)
        if not added:
            return
        before = list(self._callbacks)
        self._callbacks.replace(merge_module_callbacks(before, added))
        self._before_module = before
        self._from_module = [callback for callback in added if not _is_among(callback, before)]
        for callback in self._from_module:
            self._suppliers[id(callback)] = callback, f"{type(run.module).__name__}.configure_callbacks()"

    def _restore_own_callbacks(self) -> None:
        """Take out what the last run's module added, and put back in its place what that replaced."""
        if not self._from_module:
            return
        now, before, added = list(self._callbacks), self._before_module, self._from_module
        replaced = [callback for callback in before if any(isinstance(own, type(callback)) for own in added)]
        kept = [callback for callback in before if _is_among(callback, now) or _is_among(callback, replaced)]
        joined = [callback for callback in now if not _is_among(callback, before) and not _is_among(callback, added)]
        self._callbacks.replace([*kept, *joined])
        for callback in added:
            del self._suppliers[id(callback)]
        self._from_module, self._before_module = [], []

    def _checked(self, model: LightningModule | None, entry_point: str, *methods: str) -> LightningModule:
        """The module to run, which defines these methods; the trainer is free to run it."""
        if self._state.status is TrainerStatus.RUNNING:
            raise MisconfigurationError(
                f"trainer.{entry_point}() was called while this trainer runs {self._state.fn}(). "
                "Use another Trainer for it."
            )
        if is_compiled(model):
            model = from_compiled(model)
        if model is None:
            if self._run is None:
                raise MisconfigurationError(
                    f"trainer.{entry_point}() was called without a module, and this trainer has "
                    "run none before. Pass one."
                )
            model = self._run.module
        if not isinstance(model, LightningModule):
            given = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
            raise MisconfigurationError(
                f"trainer.{entry_point}() got {given} as its model, and an instance of "
                "hookloop.LightningModule is needed."
            )
        if "_parameters" not in vars(model):
            raise MisconfigurationError(
                f"{type(model).__name__}.__init__ does not call super().__init__(), which every module of torch needs. "
                "Call it there before anything else."
            )
        for method in methods:
            if not overrides(model, LightningModule, method):
                raise MisconfigurationError(
                    f"{type(model).__name__} does not define {method}(), which "
                    f"trainer.{entry_point}() needs. Define it."
                )
        self._saves.wait()  # what was saved after the last run may be what this one is asked to restore
        return model

    def _begins_with(
        self,
        fn: TrainerFn,
        model: LightningModule | None,
        ckpt_path: str | Path | None,
        weights_only: bool | None,
        weights: str | None = None,
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """The path of the checkpoint to begin with, and alone in a list what it holds; None and nothing for none."""
        evaluates_best = fn is not TrainerFn.FITTING and model is None and not self._options.fast_dev_run
        path: str | None = None
        found: list[dict[str, Any]] = []
        if ckpt_path is not None or evaluates_best:
            from hookloop.trainer.resuming import best_checkpoint, find_checkpoint  # not by every run

            safe = weights_only is not False
            if ckpt_path is None:
                path, found = best_checkpoint(self, self._callbacks, self._strategy, weights_only=safe)
            else:
                fast = bool(self._options.fast_dev_run)
                path, found = find_checkpoint(self, ckpt_path, fn, self._callbacks, self._strategy, safe, fast)
        if weights is None:
            return path, found
        from hookloop.trainer.resuming import with_chosen_weights

        return path, with_chosen_weights(fn, path, found, weights)


def _check_can_learn(model: LightningModule) -> None:
    """Nothing that is computed in torch.inference_mode has gradients, and nothing that was made in it can be trained.

    Raises:
        MisconfigurationError: it is on, or a parameter was made in it.
    """
    if torch.is_inference_mode_enabled():
        raise MisconfigurationError(
            "trainer.fit() was called inside torch.inference_mode(), in which there are no gradients. Call it outside; "
            "a hook of validate, test or predict is inside, unless its trainer has inference_mode=False."
        )
    # A lazy parameter answers no questions before it has numbers.
    ready = ((name, parameter) for name, parameter in model.named_parameters() if not is_lazy(parameter))
    made_in_it = next((name for name, parameter in ready if parameter.is_inference()), None)
    if made_in_it is not None:
        raise MisconfigurationError(
            f"{type(model).__name__}.{made_in_it} was made inside torch.inference_mode(), so it cannot be trained. "
            "Make the module outside."
        )


def _told_apart(argument: str, loaders: Any, datamodule: Any) -> tuple[Any, LightningDataModule | None]:
    """The loaders and the datamodule, which may be passed in place of loaders.

    Raises:
        MisconfigurationError: there are two datamodules, or what should be one is none.
    """
    if isinstance(loaders, LightningDataModule):
        if datamodule is not None:
            raise MisconfigurationError(
                f"{argument}= got a {type(loaders).__name__} and datamodule= a {type(datamodule).__name__}. Pass one "
                "datamodule."
            )
        loaders, datamodule = None, loaders
    for given in (loaders, datamodule):
        if isinstance(given, type) and issubclass(given, LightningDataModule):
            raise MisconfigurationError(
                f"The class {given.__name__} was passed as a datamodule, and an instance is needed: "
                f"{given.__name__}(...)."
            )
    if datamodule is not None and not isinstance(datamodule, LightningDataModule):
        raise MisconfigurationError(
            f"datamodule={datamodule!r} ({type(datamodule).__name__}) is no LightningDataModule. Loaders go to "
            f"{argument}=."
        )
    return loaders, datamodule


def _supplier(
    known: "Mapping[int, tuple[Callback, Provenance | str]]", callback: Callback
) -> "Provenance | str | None":
    """Who supplies a callback; None for one of the user's own program."""
    if id(callback) in known:
        return known[id(callback)][1]
    from hookloop.discovery import provenance  # not by every import

    return provenance(callback)


def _is_among(callback: Callback, callbacks: Sequence[Callback]) -> bool:
    return any(callback is other for other in callbacks)
