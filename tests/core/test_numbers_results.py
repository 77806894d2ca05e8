"""What the entry points return, what hooks get to see of a step's output, and in which mode modules are meanwhile."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError


def loader(*values: float, batch_size: int = 2) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.tensor(values)), batch_size=batch_size)


class Weighted(LightningModule):
    """Its loss is the weight times the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight * batch[0].mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(root: Path, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
    }
    return Trainer(**(settings | arguments))


class Outputs(Callback):
    """Keeps the outputs that on_train_batch_end was given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(outputs)


def test_a_loss_that_is_returned_alone_reaches_the_hooks_under_its_name(tmp_path: Path) -> None:
    outputs = Outputs()
    trainer(tmp_path, callbacks=[outputs]).fit(Weighted(), loader(1.0, 3.0, 5.0, 7.0))

    assert [set(seen) for seen in outputs.seen] == [{"loss"}, {"loss"}]
    assert [seen["loss"].item() for seen in outputs.seen] == [2.0, 6.0]
    assert not any(seen["loss"].requires_grad for seen in outputs.seen)


def test_everything_in_a_returned_dictionary_reaches_the_hooks(tmp_path: Path) -> None:
    class Wrapped(Weighted):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.weight * batch[0].mean()
            return {"loss": loss, "double": 2 * loss.detach(), "size": len(batch[0]), "name": "a batch"}

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(outputs)

    model, outputs = Wrapped(), Outputs()
    trainer(tmp_path, callbacks=[outputs]).fit(model, loader(1.0, 3.0, 5.0))

    for seen in (model.seen, outputs.seen):
        assert [(o["loss"].item(), o["double"].item(), o["size"], o["name"]) for o in seen] == [
            (2.0, 4.0, 2, "a batch"),
            (5.0, 10.0, 1, "a batch"),
        ]
        assert not any(o["loss"].requires_grad for o in seen)


def test_the_loss_that_hooks_see_is_the_one_that_was_divided_by_the_window(tmp_path: Path) -> None:
    outputs = Outputs()
    trainer(tmp_path, callbacks=[outputs], accumulate_grad_batches=2).fit(
        Weighted(), loader(8.0, 4.0, 6.0, batch_size=1)
    )

    assert [seen["loss"].item() for seen in outputs.seen] == [4.0, 2.0, 6.0]


def test_a_step_that_returns_none_gives_empty_outputs(tmp_path: Path) -> None:
    class Skipping(Weighted):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    outputs = Outputs()
    with pytest.warns(UserWarning, match="training_step returned None"):
        trainer(tmp_path, callbacks=[outputs]).fit(Skipping(), loader(1.0, 2.0, 3.0, batch_size=1))

    assert [{name: value.item() for name, value in seen.items()} for seen in outputs.seen] == [
        {"loss": 1.0},
        {},
        {"loss": 3.0},
    ]


@pytest.mark.parametrize("returned", [{"accuracy": 1.0}, "loss", 3])
def test_a_step_that_returns_no_loss_is_refused(returned: Any, tmp_path: Path) -> None:
    class Lossless(Weighted):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return returned

    with pytest.raises(MisconfigurationError, match=r"(?s)training_step.*loss"):
        trainer(tmp_path).fit(Lossless(), loader(1.0))


class Evaluated(Weighted):
    """Logs batch means in validation and test, and returns the batch's values from predict."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("mean", batch[0].mean())
        return batch[0] * 2

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("mean", batch[0].mean())
        self.log("largest", batch[0].max(), reduce_fx="max")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return (batch[0] * 10).tolist()


def test_validate_returns_the_metrics_of_the_one_loader(tmp_path: Path) -> None:
    # Batches of two, two and one: a mean of batch means would be 4.33.
    results = trainer(tmp_path).validate(Evaluated(), loader(1.0, 3.0, 2.0, 2.0, 9.0), verbose=False)

    assert results == [{"mean": pytest.approx(17.0 / 5)}]
    assert type(results[0]["mean"]) is float


def test_test_returns_the_metrics_of_the_one_loader(tmp_path: Path) -> None:
    results = trainer(tmp_path).test(Evaluated(), loader(1.0, 3.0, 2.0), verbose=False)

    assert results == [{"mean": 2.0, "largest": 3.0}]
    assert {type(value) for value in results[0].values()} == {float}


def test_test_returns_one_dictionary_for_each_loader(tmp_path: Path) -> None:
    results = trainer(tmp_path).test(Evaluated(), [loader(1.0, 3.0), loader(4.0, 4.0, 10.0)], verbose=False)

    assert results == [
        {"mean/dataloader_idx_0": 2.0, "largest/dataloader_idx_0": 3.0},
        {"mean/dataloader_idx_1": 6.0, "largest/dataloader_idx_1": 10.0},
    ]


def test_a_metric_of_the_whole_evaluation_stands_in_every_loaders_results(tmp_path: Path) -> None:
    class Summed(Evaluated):
        def on_test_epoch_end(self) -> None:
            self.log("whole", 42.0)

    results = trainer(tmp_path).test(Summed(), [loader(1.0), loader(4.0)], verbose=False)

    assert [result["whole"] for result in results] == [42.0, 42.0]


def test_an_evaluation_that_logs_nothing_returns_an_empty_dictionary_for_each_loader(tmp_path: Path) -> None:
    class Silent(Weighted):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return None

    assert trainer(tmp_path).test(Silent(), loader(1.0), verbose=False) == [{}]
    assert trainer(tmp_path).test(Silent(), [loader(1.0), loader(2.0)], verbose=False) == [{}, {}]


def test_outputs_of_an_evaluation_step_reach_its_batch_end_hooks(tmp_path: Path) -> None:
    class Seeing(Callback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_validation_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            self.seen.append((outputs.tolist(), batch_idx, dataloader_idx))

    seeing = Seeing()
    trainer(tmp_path, callbacks=[seeing]).validate(Evaluated(), [loader(1.0, 2.0, 3.0), loader(4.0)], verbose=False)

    assert seeing.seen == [([2.0, 4.0], 0, 0), ([6.0], 1, 0), ([8.0], 0, 1)]


def test_evaluation_prints_its_results_unless_it_is_told_not_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = loader(1.25, 1.25)
    trainer(tmp_path).test(Evaluated(), data, verbose=False)
    assert "1.25" not in capsys.readouterr().out

    trainer(tmp_path).test(Evaluated(), data)
    printed = capsys.readouterr().out
    assert "mean" in printed
    assert "largest" in printed
    assert "1.25" in printed


def test_predict_returns_the_outputs_of_the_one_loader(tmp_path: Path) -> None:
    predictions = trainer(tmp_path).predict(Evaluated(), loader(1.0, 2.0, 3.0))

    assert predictions == [[10.0, 20.0], [30.0]]


def test_predict_returns_a_list_for_each_of_several_loaders(tmp_path: Path) -> None:
    predictions = trainer(tmp_path).predict(Evaluated(), [loader(1.0, 2.0, 3.0), loader(4.0)])

    assert predictions == [[[10.0, 20.0], [30.0]], [[40.0]]]


def test_predict_keeps_nothing_when_predictions_are_not_wanted(tmp_path: Path) -> None:
    assert trainer(tmp_path).predict(Evaluated(), loader(1.0), return_predictions=False) is None


def test_predict_calls_the_module_where_there_is_no_predict_step(tmp_path: Path) -> None:
    class Forward(LightningModule):
        def forward(self, batch: Any) -> Any:
            return (batch[0] + 1).tolist()

    assert trainer(tmp_path).predict(Forward(), loader(1.0, 2.0, 3.0)) == [[2.0, 3.0], [4.0]]


@pytest.mark.parametrize("inference", [True, False])
def test_evaluation_computes_no_gradients(inference: bool, tmp_path: Path) -> None:
    class Watching(Weighted):
        def watch(self, batch: Any) -> None:
            product = self.weight * batch[0]
            self.seen.append((product.requires_grad, torch.is_inference_mode_enabled()))

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.watch(batch)

        def test_step(self, batch: Any, batch_idx: int) -> Any:
            self.watch(batch)

        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            self.watch(batch)

    model = Watching()
    runner = trainer(tmp_path, inference_mode=inference)
    runner.validate(model, loader(1.0), verbose=False)
    runner.test(model, loader(1.0), verbose=False)
    runner.predict(model, loader(1.0))
    assert model.seen == [(False, inference)] * 3

    model.seen.clear()
    trainer(tmp_path, inference_mode=inference).fit(model, loader(1.0), loader(1.0))
    assert model.seen == [(False, False)], "what validation makes inside fit must stay usable in training"


class Layered(Weighted):
    """A frozen layer in eval mode beside one that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))
        self.head = nn.Dropout()
        self.backbone.eval()

    @property
    def modes(self) -> tuple[bool, bool, bool, bool, bool]:
        backbone = self.backbone
        return (self.training, backbone.training, backbone[0].training, backbone[1].training, self.head.training)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(("train", self.modes))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(("validate", self.modes))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(("predict", self.modes))


TRAINING = (True, False, False, False, True)
EVALUATING = (False,) * 5


def test_every_submodule_returns_to_its_own_mode_after_validation(tmp_path: Path) -> None:
    model = Layered()
    trainer(tmp_path, num_sanity_val_steps=1, val_check_interval=1).fit(
        model, loader(1.0, 2.0, batch_size=1), loader(1.0)
    )

    train, validate = ("train", TRAINING), ("validate", EVALUATING)
    assert model.seen == [validate, train, validate, train, validate]
    assert model.modes == TRAINING


def test_validate_and_predict_leave_every_submodule_in_the_mode_they_found(tmp_path: Path) -> None:
    model = Layered()
    trainer(tmp_path).validate(model, loader(1.0), verbose=False)
    assert model.modes == TRAINING
    trainer(tmp_path).predict(model, loader(1.0))
    assert model.modes == TRAINING

    assert model.seen == [("validate", EVALUATING), ("predict", EVALUATING)]


class Sampling(Weighted):
    """Draws from every generator of the process in the sanity check and in nothing else."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        if self.trainer.sanity_checking:
            self.seen.append(torch.rand(()) + random.random() + np.random.rand())


def test_the_sanity_check_leaves_the_random_state_as_it_was(tmp_path: Path) -> None:
    class States(Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[Tensor, Any, Any]] = []

        def keep(self) -> None:
            self.seen.append((torch.get_rng_state(), random.getstate(), np.random.get_state()))

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.keep()

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.keep()

    def own_generator() -> DataLoader[Any]:
        data = TensorDataset(torch.zeros(1))
        return DataLoader(data, generator=torch.Generator().manual_seed(0))

    model, states = Sampling(), States()
    trainer(tmp_path, num_sanity_val_steps=1, callbacks=[states]).fit(model, own_generator(), own_generator())

    assert len(model.seen) == 1
    (torch_before, python_before, numpy_before), (torch_after, python_after, numpy_after) = states.seen
    assert torch.equal(torch_before, torch_after)
    assert python_before == python_after
    assert all(np.array_equal(before, after) for before, after in zip(numpy_before, numpy_after, strict=True))


def test_the_sanity_check_leaves_no_metrics_behind(tmp_path: Path) -> None:
    class Metrics(Callback):
        def __init__(self) -> None:
            self.seen: list[dict[str, Any]] = []

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.seen.append(dict(trainer.callback_metrics))
            self.seen.append(dict(trainer.logged_metrics))
            self.seen.append(dict(trainer.progress_bar_metrics))

    class Logging(Weighted):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("value", 1.0 if self.trainer.sanity_checking else 5.0, prog_bar=True)

    metrics = Metrics()
    fitted = trainer(tmp_path, num_sanity_val_steps=2, callbacks=[metrics])
    fitted.fit(Logging(), loader(1.0), loader(1.0, 2.0, 3.0))

    assert metrics.seen == [{}, {}, {}]
    assert fitted.callback_metrics["value"].item() == 5.0
