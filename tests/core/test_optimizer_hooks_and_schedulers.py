"""Where optimizer steps and scheduler steps stand among the hooks, and what the hooks see of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.loggers import Logger
from hookloop.view import TrainerView

from .recording import (
    MODULE_HOOKS,
    Batch,
    LastRecorder,
    MonitorRecorder,
    QuietModule,
    RecordingCallback,
    Saver,
    Trace,
    lines,
    make_trainer,
    records,
)

QUIET: dict[str, Any] = {"num_sanity_val_steps": 0}


class Plateau(QuietModule):
    """The rate is halved after each validation that is not better than the best; none is better than the first."""

    interval = "epoch"

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("constant", 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        config = {"scheduler": scheduler, "monitor": "constant", "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": config}


@records("M", MODULE_HOOKS)
class RecordingPlateau(Plateau):
    """With its hooks written down."""


@records("M", MODULE_HOOKS)
class RecordingStepPlateau(Plateau):
    """Updated at each step, with its hooks written down."""

    interval = "step"


def rate(trainer: TrainerView) -> float:
    """The learning rate of the one parameter group."""
    value: float = trainer.optimizers[0].param_groups[0]["lr"]
    return value


class Rates(Callback):
    """Notes the learning rate in each of these hooks."""

    def __init__(self, *hooks: str) -> None:
        self.seen: list[tuple[str, float]] = []
        for hook in hooks:
            setattr(self, hook, self._note(hook))

    def _note(self, hook: str) -> Any:
        return lambda trainer, *args: self.seen.append((hook, rate(trainer)))


class MonitorRates(Rates):
    order = Order.MONITOR


class LastRates(Rates):
    order = Order.LAST


# --------------------------------------------------------------------------------------------- the optimizer's step


def test_after_optimizer_step_sees_the_new_weights_the_new_count_and_the_gradients(tmp_path: Path) -> None:
    class Watcher(Callback):
        def __init__(self) -> None:
            self.steps: list[tuple[str, int]] = []
            self.before = torch.empty(0)
            self.expected = torch.empty(0)

        def on_before_optimizer_step(
            self, trainer: TrainerView, pl_module: LightningModule, optimizer: torch.optim.Optimizer
        ) -> None:
            self.steps.append(("before", trainer.global_step))
            weight = next(pl_module.parameters())
            assert weight.grad is not None
            self.before = weight.detach().clone()
            self.expected = weight.detach().add(weight.grad, alpha=-rate(trainer))

        def on_after_optimizer_step(
            self, trainer: TrainerView, pl_module: LightningModule, optimizer: torch.optim.Optimizer
        ) -> None:
            self.steps.append(("after", trainer.global_step))
            assert optimizer is trainer.optimizers[0]
            weight = next(pl_module.parameters())
            assert weight.grad is not None
            assert not torch.equal(weight, self.before)
            assert torch.equal(weight, self.expected)

        def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
            self.steps.append(("batch end", trainer.global_step))

    watcher = Watcher()
    make_trainer(tmp_path, [watcher], max_epochs=1, accumulate_grad_batches=2, **QUIET).fit(QuietModule())
    assert watcher.steps == [
        ("batch end", 0),
        ("before", 0),
        ("after", 1),
        ("batch end", 1),
        ("before", 1),
        ("after", 2),
        ("batch end", 2),
    ]


def test_the_module_counts_the_step_in_after_optimizer_step_too(tmp_path: Path) -> None:
    class Counting(QuietModule):
        def __init__(self) -> None:
            super().__init__()
            self.counts: list[int] = []

        def on_after_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            self.counts.append(self.global_step)

    module = Counting()
    make_trainer(tmp_path, [], max_epochs=2, **QUIET).fit(module)
    assert module.counts == [1, 2, 3, 4, 5, 6]


# ------------------------------------------------------------------------------------------- step and epoch schedulers


class EachStep(QuietModule):
    """The rate is halved after each step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@records("M", MODULE_HOOKS)
class RecordingEachStep(EachStep):
    """With its hooks written down."""


def test_a_step_scheduler_steps_after_after_optimizer_step_and_before_the_batch_ends(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=1, accumulate_grad_batches=2, **QUIET)
    trainer.fit(RecordingEachStep(trace))
    wanted = set(lines("C.on_after_optimizer_step M.on_after_optimizer_step M.lr_scheduler_step C.on_train_batch_end"))
    assert [name for name in trace.names if name in wanted] == lines("""
        C.on_train_batch_end
        C.on_after_optimizer_step M.on_after_optimizer_step M.lr_scheduler_step C.on_train_batch_end
        C.on_after_optimizer_step M.on_after_optimizer_step M.lr_scheduler_step C.on_train_batch_end
    """)
    assert [args[1] for args in trace.calls("M", "lr_scheduler_step")] == [None, None]


def test_callbacks_see_the_old_rate_after_the_step_and_the_new_one_at_the_end_of_the_batch(tmp_path: Path) -> None:
    rates = LastRates("on_before_optimizer_step", "on_after_optimizer_step", "on_train_batch_end")
    make_trainer(tmp_path, [rates], max_epochs=1, **QUIET).fit(EachStep())
    assert rates.seen == [
        ("on_before_optimizer_step", 1.0),
        ("on_after_optimizer_step", 1.0),
        ("on_train_batch_end", 0.5),
        ("on_before_optimizer_step", 0.5),
        ("on_after_optimizer_step", 0.5),
        ("on_train_batch_end", 0.25),
        ("on_before_optimizer_step", 0.25),
        ("on_after_optimizer_step", 0.25),
        ("on_train_batch_end", 0.125),
    ]


def test_an_epoch_scheduler_steps_in_the_last_batch_of_the_epoch_before_it_ends(tmp_path: Path) -> None:
    rates = LastRates("on_after_optimizer_step", "on_train_batch_end", "on_validation_start", "on_train_epoch_end")
    make_trainer(tmp_path, [rates], max_epochs=1, **QUIET).fit(EachEpoch(train_batches=2))
    assert rates.seen == [
        ("on_after_optimizer_step", 1.0),
        ("on_train_batch_end", 1.0),
        ("on_after_optimizer_step", 1.0),
        ("on_train_batch_end", 0.5),
        ("on_validation_start", 0.5),
        ("on_train_epoch_end", 0.5),
    ]


# ----------------------------------------------------------------------------------------------- plateau schedulers


def test_a_plateau_scheduler_steps_after_those_who_monitor_and_before_those_who_save(tmp_path: Path) -> None:
    trace = Trace()
    callbacks = [LastRecorder("L", trace), MonitorRecorder("O", trace), RecordingCallback("C", trace)]
    make_trainer(tmp_path, [*callbacks], max_epochs=1, **QUIET).fit(RecordingPlateau(trace))
    start, end = trace.names.index("M.on_validation_model_train"), trace.names.index("C.on_train_end")
    assert trace.names[start + 1 : end] == lines("""
        C.on_train_epoch_end M.on_train_epoch_end O.on_train_epoch_end
        M.lr_scheduler_step
        L.on_train_epoch_end
    """)
    assert [float(args[1]) for args in trace.calls("M", "lr_scheduler_step")] == [1.0]


def test_those_who_save_see_the_rate_that_the_plateau_scheduler_left(tmp_path: Path) -> None:
    monitor, last = MonitorRates("on_train_epoch_end"), LastRates("on_train_epoch_end")
    make_trainer(tmp_path, [monitor, last], max_epochs=3, **QUIET).fit(Plateau())
    assert [seen for _, seen in monitor.seen] == [0.5, 0.5, 0.25]
    assert [seen for _, seen in last.seen] == [0.5, 0.25, 0.125]


def test_a_checkpoint_taken_at_the_end_of_an_epoch_holds_the_updated_plateau_scheduler(tmp_path: Path) -> None:
    class Restored(Callback):
        state: dict[str, Any]
        rate: float

        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.state = trainer.lr_scheduler_configs[0].scheduler.state_dict()
            self.rate = rate(trainer)

    saver, restored = Saver(Trace(), tmp_path), Restored()
    make_trainer(tmp_path, [saver], max_epochs=2, **QUIET).fit(Plateau())
    make_trainer(tmp_path, [restored], max_epochs=3, **QUIET).fit(Plateau(), ckpt_path=saver.path(1))
    assert restored.rate == 0.25
    assert restored.state["last_epoch"] == 2
    assert restored.state["best"] == 1.0
    assert restored.state["num_bad_epochs"] == 0


def test_a_plateau_scheduler_of_the_step_interval_waits_for_the_validation_of_that_step(tmp_path: Path) -> None:
    trace = Trace()
    callbacks = [RecordingCallback("C", trace), MonitorRecorder("O", trace), LastRecorder("L", trace)]
    trainer = make_trainer(tmp_path, [*callbacks], max_epochs=1, val_check_interval=1, **QUIET)
    trainer.fit(RecordingStepPlateau(trace, train_batches=2))
    # As at the end of an epoch, those who save at the end of a validation find the scheduler updated.
    expected = lines("""
        C.on_train_batch_end
        C.on_validation_end M.on_validation_end O.on_validation_end
        M.lr_scheduler_step
        L.on_validation_end

        C.on_train_batch_end
        C.on_validation_end M.on_validation_end O.on_validation_end
        M.lr_scheduler_step
        L.on_validation_end

        C.on_train_epoch_end
    """)
    assert [name for name in trace.names if name in set(expected)] == expected


class MonitorsTraining(RecordingStepPlateau):
    """Updated at each step, by what that step logged."""

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.log("constant_of_training", 1.0)
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        configured["lr_scheduler"]["monitor"] = "constant_of_training"
        return configured


def test_a_plateau_scheduler_of_the_step_interval_steps_at_the_end_of_each_batch_that_stepped(tmp_path: Path) -> None:
    trace = Trace()
    callbacks = [RecordingCallback("C", trace), MonitorRecorder("O", trace), LastRecorder("L", trace)]
    trainer = make_trainer(tmp_path, [*callbacks], max_epochs=1, accumulate_grad_batches=2, limit_val_batches=0)
    trainer.fit(MonitorsTraining(trace))
    expected = lines("""
        C.on_train_batch_end M.on_train_batch_end O.on_train_batch_end
        L.on_train_batch_end

        C.on_train_batch_end M.on_train_batch_end O.on_train_batch_end
        M.lr_scheduler_step
        L.on_train_batch_end

        C.on_train_batch_end M.on_train_batch_end O.on_train_batch_end
        M.lr_scheduler_step
        L.on_train_batch_end
    """)
    assert [name for name in trace.names if name in set(expected)] == expected


def test_a_plateau_scheduler_of_the_step_interval_may_monitor_training_in_spite_of_validation(tmp_path: Path) -> None:
    trace = Trace()
    make_trainer(tmp_path, [], max_epochs=1, **QUIET).fit(MonitorsTraining(trace))
    assert [float(args[1]) for args in trace.calls("M", "lr_scheduler_step")] == [1.0, 1.0, 1.0]


def test_a_plateau_scheduler_of_the_step_interval_steps_once_in_the_step_that_asks_to_stop(tmp_path: Path) -> None:
    class StopsAtOnce(Callback):
        def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
            trainer.should_stop = True

    class LogsTheSame(RecordingStepPlateau):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            self.log("constant", 1.0)
            return super().training_step(batch, batch_idx)

    trace = Trace()
    trainer = make_trainer(tmp_path, [StopsAtOnce()], max_epochs=1, **QUIET)
    trainer.fit(LogsTheSame(trace))
    assert trainer.global_step == 1
    assert trace.of("M").count("validation_step") == 1
    assert trace.of("M").count("lr_scheduler_step") == 1


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("plateau", [True, False])
def test_with_manual_optimization_the_module_alone_steps_schedulers(
    tmp_path: Path, interval: str, plateau: bool
) -> None:
    class Manual(QuietModule):
        def __init__(self, trace: Trace) -> None:
            super().__init__(trace)
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.loss(batch).backward()
            optimizer.step()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
            scheduler = ReduceLROnPlateau(optimizer) if plateau else StepLR(optimizer, step_size=1)
            config = {"scheduler": scheduler, "monitor": "val_loss", "interval": interval}
            return {"optimizer": optimizer, "lr_scheduler": config}

    @records("M", ("lr_scheduler_step",))
    class RecordingManual(Manual):
        """Writes down scheduler steps alone."""

    trace = Trace()
    trainer = make_trainer(tmp_path, [], max_epochs=2, **QUIET)
    with pytest.warns(UserWarning, match=r"RecordingManual.*'interval', 'monitor' of a scheduler has no effect"):
        trainer.fit(RecordingManual(trace))
    assert trainer.global_step == 6
    assert trace.names == []


# ------------------------------------------------------------------------------------ schedulers and resumed epochs


class EachEpoch(QuietModule):
    """The rate is halved after each epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]


class SavesOnce(Callback):
    """Saves in one of its hooks, the first time that the epoch's last batch is done."""

    def __init__(self, hook: str, path: Path) -> None:
        self.path = path
        setattr(self, hook, self._save)

    def _save(self, trainer: TrainerView, *args: Any) -> None:
        if trainer.is_last_batch and not self.path.exists():
            trainer.save_checkpoint(self.path)


class SavesOnceLast(SavesOnce):
    order = Order.LAST


@pytest.mark.parametrize("kind", [SavesOnce, SavesOnceLast])
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
def test_an_epoch_scheduler_steps_once_an_epoch_wherever_the_run_was_resumed(
    tmp_path: Path, hook: str, kind: type[SavesOnce]
) -> None:
    path = tmp_path / "saved.ckpt"
    torch.manual_seed(0)
    straight = EachEpoch()
    trainer = make_trainer(tmp_path, [kind(hook, path)], max_epochs=2, **QUIET)
    trainer.fit(straight)
    assert rate(trainer) == 0.25

    resumed = EachEpoch()
    trainer = make_trainer(tmp_path, [], max_epochs=2, **QUIET)
    trainer.fit(resumed, ckpt_path=path)
    assert rate(trainer) == 0.25
    assert trainer.global_step == 6
    assert torch.equal(resumed.layer.weight, straight.layer.weight)


@pytest.mark.parametrize("kind", [SavesOnce, SavesOnceLast])
def test_a_checkpoint_from_the_end_of_an_epoch_resumes_with_the_next_epoch(
    tmp_path: Path, kind: type[SavesOnce]
) -> None:
    path = tmp_path / "saved.ckpt"
    make_trainer(tmp_path, [kind("on_train_epoch_end", path)], max_epochs=1, **QUIET).fit(EachEpoch())
    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=2, **QUIET)
    trainer.fit(EachEpoch(), ckpt_path=path)
    around = {"on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end"}
    assert [hook for hook in trace.of("C") if hook in around] == lines("""
        on_train_epoch_start on_train_batch_end on_train_batch_end on_train_batch_end on_train_epoch_end
    """)


# ------------------------------------------------------------------------------------- metrics at the end of an epoch


def test_those_who_monitor_see_what_the_module_logged_in_the_same_hook(tmp_path: Path) -> None:
    class Logging(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            self.log("batch_idx", float(batch_idx), on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            self.log("epoch", 7.0)

        def on_validation_epoch_end(self) -> None:
            self.log("validation", 8.0)

    class Monitoring(Callback):
        def __init__(self, order: Order) -> None:
            self.seen: list[dict[str, float]] = []
            self.seen_in_validation: list[dict[str, float]] = []

        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})

        def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.seen_in_validation.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    class Monitor(Monitoring):
        order = Order.MONITOR

    class Last(Monitoring):
        order = Order.LAST

    monitor, last = Monitor(Order.MONITOR), Last(Order.LAST)
    make_trainer(tmp_path, [last, monitor], max_epochs=1, **QUIET).fit(Logging())
    for callback in (monitor, last):
        assert callback.seen[0]["batch_idx"] == pytest.approx(1.0)
        assert callback.seen[0]["epoch"] == 7.0
        assert callback.seen[0]["validation"] == 8.0
        assert callback.seen_in_validation[0]["validation"] == 8.0


def test_what_training_logged_can_be_read_while_validation_runs(tmp_path: Path) -> None:
    class Logging(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            self.log("of_training", float(batch_idx))
            return super().training_step(batch, batch_idx)

    class Reading(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.seen.append(float(trainer.callback_metrics["of_training"]))

        def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.seen.append(float(trainer.callback_metrics["of_training"]))
            self.names = set(trainer.callback_metrics)

    reading = Reading()
    make_trainer(tmp_path, [reading], max_epochs=1, **QUIET).fit(Logging())
    assert reading.seen == [2.0, 2.0]
    assert reading.names == {"of_training", "val_loss"}


def test_a_callback_may_log_after_a_checkpoint_that_it_tried_to_save_failed(tmp_path: Path) -> None:
    class Refuses(Callback):
        def on_save_checkpoint(self, *args: Any) -> None:
            raise RuntimeError("planted")

    class Tries(Callback):
        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            with pytest.raises(RuntimeError, match="planted"):
                trainer.save_checkpoint(tmp_path / "refused.ckpt")
            self.log("tried", 1.0)

    trainer = make_trainer(tmp_path, [Refuses(), Tries()], max_epochs=1, **QUIET)
    trainer.fit(QuietModule())
    assert float(trainer.callback_metrics["tried"]) == 1.0


def test_loggers_have_the_metrics_of_the_epoch_before_those_who_save_run(tmp_path: Path) -> None:
    class ListLogger(Logger):
        def __init__(self) -> None:
            self.names: list[set[str]] = []

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            self.names.append(set(metrics))

    class Logging(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            self.log("of_the_epoch", 1.0, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    class Monitoring(Callback):
        order = Order.MONITOR

        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.log("of_the_monitor", 2.0)
            self.sent = set().union(*logger.names)

    class Saving(Callback):
        order = Order.LAST

        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.sent = set().union(*logger.names)

    logger, monitoring, saving = ListLogger(), Monitoring(), Saving()
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[saving, monitoring],
        default_root_dir=tmp_path,
        logger=logger,
        max_epochs=1,
        num_sanity_val_steps=0,
        registered_callbacks=False,
    )
    trainer.fit(Logging())
    assert "of_the_epoch" not in monitoring.sent
    assert {"of_the_epoch", "of_the_monitor"} <= saving.sent
