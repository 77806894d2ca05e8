"""`trainer.running_metrics`: what the running epoch and validation have logged, and nothing that they have not."""

from typing import Any

from hookloop import Callback, Trainer

from .fitting import Regression, loader, loss_of


class Logs(Regression):
    """Logs "step" in each training batch, and "score" in its validations."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("step", float(batch_idx), on_step=True, on_epoch=False)
        return loss_of(self.net, batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", float(self.trainer.current_epoch))


class Looks(Callback):
    """Writes down what is running and what is known, at the end of each training batch and each validation."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, float], dict[str, float]]] = []

    def look(self, where: str, trainer: Any) -> None:
        running, known = trainer.running_metrics, trainer.callback_metrics
        as_numbers = [{name: float(value) for name, value in values.items()} for values in (running, known)]
        self.seen.append((where, as_numbers[0], as_numbers[1]))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.look("batch", trainer)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.look("validation", trainer)


def quiet(**settings: Any) -> Trainer:
    return Trainer(
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **settings,
    )


def test_a_value_of_an_earlier_validation_is_known_and_not_running() -> None:
    looks = Looks()
    quiet(max_epochs=2, limit_train_batches=1, callbacks=[looks]).fit(Logs(), loader(), loader())
    assert looks.seen == [
        ("batch", {"step": 0.0}, {"step": 0.0}),
        ("validation", {"step": 0.0, "score": 0.0}, {"step": 0.0, "score": 0.0}),
        ("batch", {"step": 0.0}, {"step": 0.0, "score": 0.0}),
        ("validation", {"step": 0.0, "score": 1.0}, {"step": 0.0, "score": 1.0}),
    ]


def test_nothing_is_running_where_nothing_runs() -> None:
    trainer = quiet(max_epochs=1)
    assert trainer.running_metrics == {}
    trainer.fit(Logs(), loader(), loader())
    assert trainer.running_metrics == {}
    assert set(trainer.callback_metrics) == {"step", "score"}
