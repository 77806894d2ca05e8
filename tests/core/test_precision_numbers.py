"""Each precision in every entry point: dtypes of all that goes in and out, values against loops written out here."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hookloop import Callback, LightningModule
from hookloop.view import TrainerView

from .fitting import Batch, Saves, loader, trainer_in

F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16


class Kind(NamedTuple):
    """A precision, as plain PyTorch says it."""

    name: str
    weights: torch.dtype
    """Parameters, floating buffers, floating inputs, gradients, the optimizer's state."""
    layers: torch.dtype
    """What a linear layer gives: autocast's choice, or the weights'."""
    loss: torch.dtype
    """What mse_loss gives: autocast lifts it to float32."""

    def context(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=self.layers) if self.name.endswith("mixed") else nullcontext()


KINDS = [
    Kind("64-true", F64, F64, F64),
    Kind("32-true", F32, F32, F32),
    Kind("16-true", F16, F16, F16),
    Kind("bf16-true", BF16, BF16, BF16),
    Kind("16-mixed", F32, F16, F32),
    Kind("bf16-mixed", F32, BF16, F32),
]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(autouse=True)
def default_dtype() -> Iterator[None]:
    """Whatever a test finds wrong, the tests after it start as this one did."""
    yield
    torch.set_default_dtype(F32)


class Net(LightningModule):
    """A network with a normalization, whose buffers are floats and a counter."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.net(x)
        return answer

    def loss(self, batch: Batch) -> Tensor:
        return functional.mse_loss(self(batch[1]), batch[2])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("val", loss)
        return loss

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("test", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Inputs(Net):
    """predict_step is the inherited one, which calls forward with the batch."""

    def forward(self, x: Any) -> Tensor:
        answer: Tensor = self.net(x[1] if isinstance(x, list) else x)
        return answer


def converted(kind: Kind, batch: Batch) -> Batch:
    return [part.to(kind.weights) if part.is_floating_point() else part for part in batch]


def plain_net(kind: Kind) -> Net:
    net = Net()
    for parameter in net.parameters():
        parameter.data = parameter.data.to(kind.weights)
    for module in net.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.to(kind.weights))
    return net


def train_plainly(
    kind: Kind, epochs: int = 2, batches: int = 5, window: int = 1, clip: float | None = None
) -> tuple[Net, torch.optim.Optimizer]:
    net = plain_net(kind)
    optimizer = net.configure_optimizers()
    for _ in range(epochs):
        for index, batch in enumerate(loader(batches)):
            first = index - index % window
            with kind.context():
                loss = net.loss(converted(kind, batch))
            if index == first:
                optimizer.zero_grad()
            (loss / min(window, batches - first)).backward()
            if index in (first + window - 1, batches - 1):
                if clip is not None:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                optimizer.step()
    return net, optimizer


def assert_equal(ours: Any, theirs: Any) -> None:
    """Bit for bit, dtypes too."""
    assert ours.dtype == theirs.dtype
    assert torch.equal(ours, theirs)


@EVERY_KIND
@pytest.mark.parametrize(("window", "clip"), [(1, None), (2, None), (1, 0.05), (3, 0.05)])
def test_training_with_accumulation_and_clipping_equals_a_plain_loop_bit_for_bit(
    kind: Kind, window: int, clip: float | None, tmp_path: Path
) -> None:
    module = Net()
    trainer = trainer_in(tmp_path, precision=kind.name, accumulate_grad_batches=window, gradient_clip_val=clip)
    trainer.fit(module, loader())
    net, optimizer = train_plainly(kind, window=window, clip=clip)
    for name, expected in net.state_dict().items():
        assert_equal(module.state_dict()[name], expected)
    ours = trainer.optimizers[0].state_dict()["state"]
    for index, state in optimizer.state_dict()["state"].items():
        assert_equal(ours[index]["momentum_buffer"], state["momentum_buffer"])
        assert state["momentum_buffer"].dtype == kind.weights


@EVERY_KIND
def test_weights_gradients_and_buffers_have_the_dtype_of_the_table_in_every_hook(kind: Kind, tmp_path: Path) -> None:
    seen: dict[str, set[torch.dtype]] = {"weights": set(), "gradients": set(), "floats": set(), "counter": set()}

    class Looks(Callback):
        def on_fit_start(self, trainer: TrainerView, pl_module: Any) -> None:
            self.look(pl_module)

        def on_after_backward(self, trainer: TrainerView, pl_module: Any) -> None:
            self.look(pl_module)
            seen["gradients"] |= {parameter.grad.dtype for parameter in pl_module.parameters()}

        def on_train_end(self, trainer: TrainerView, pl_module: Any) -> None:
            self.look(pl_module)

        def look(self, module: Net) -> None:
            seen["weights"] |= {parameter.dtype for parameter in module.parameters()}
            for buffer in module.buffers():
                seen["floats" if buffer.is_floating_point() else "counter"].add(buffer.dtype)

    trainer_in(tmp_path, Looks(), precision=kind.name).fit(Net(), loader())
    expected = {"weights": {kind.weights}, "gradients": {kind.weights}, "floats": {kind.weights}}
    assert seen == expected | {"counter": {torch.int64}}


@EVERY_KIND
def test_what_hooks_and_loggers_get_has_the_dtype_of_the_loss_and_means_have_at_least_float32(
    kind: Kind, tmp_path: Path
) -> None:
    seen: dict[str, set[torch.dtype]] = {"training": set(), "validation": set(), "backward": set()}

    class Looks(Callback):
        def on_before_backward(self, trainer: TrainerView, pl_module: Any, loss: Tensor) -> None:
            seen["backward"].add(loss.dtype)

        def on_train_batch_end(self, trainer: TrainerView, pl_module: Any, outputs: Any, *args: Any) -> None:
            seen["training"].add(outputs["loss"].dtype)

        def on_validation_batch_end(self, trainer: TrainerView, pl_module: Any, outputs: Any, *args: Any) -> None:
            seen["validation"].add(outputs.dtype)

    module = Net()
    trainer = trainer_in(tmp_path, Looks(), precision=kind.name)
    trainer.fit(module, loader(), loader(2))
    assert seen == {"training": {kind.loss}, "validation": {kind.loss}, "backward": {kind.loss}}
    wide = torch.promote_types(kind.loss, F32)
    assert {name: value.dtype for name, value in trainer.callback_metrics.items()} == {"train": kind.loss, "val": wide}


@EVERY_KIND
def test_whole_numbers_and_pythons_are_logged_as_they_are_in_half_precision_too(kind: Kind, tmp_path: Path) -> None:
    # float16 ends at 65504, and has no 2049.
    logged: dict[str, Any] = {"count": torch.tensor(70_001), "number": 70_001.0, "whole": 2049}

    class Counts(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            for name, value in logged.items():
                self.log(f"step_{name}", value)
                self.log(f"epoch_{name}", value, on_step=False, on_epoch=True)
                self.log(f"largest_{name}", value, on_step=False, on_epoch=True, reduce_fx="max")
            return super().training_step(batch, batch_idx)

    trainer = trainer_in(tmp_path, precision=kind.name, max_epochs=1)
    trainer.fit(Counts(), loader(2))
    found = {name: float(value) for name, value in trainer.callback_metrics.items() if name != "train"}
    assert found == {
        f"{kept}_{name}": float(value) for name, value in logged.items() for kept in ("step", "epoch", "largest")
    }


@EVERY_KIND
@pytest.mark.parametrize("entry_point", ["validate", "test"])
def test_an_evaluated_metric_is_the_mean_of_a_plain_loop(kind: Kind, entry_point: str, tmp_path: Path) -> None:
    module = Net()
    trainer = trainer_in(tmp_path, precision=kind.name)
    (found,) = getattr(trainer, entry_point)(module, loader(3), verbose=False)
    net = plain_net(kind).eval()
    losses = []
    for batch in loader(3):
        with torch.no_grad(), kind.context():
            losses.append(float(net.loss(converted(kind, batch))))
    # Three batches of one size. The mean is summed in float64, and given as float32 if the loss is no wider.
    mean = torch.tensor(sum(losses) / 3, dtype=F64).to(torch.promote_types(kind.loss, F32))
    assert list(found.values()) == [mean.item()]


@EVERY_KIND
def test_predictions_of_forward_equal_those_of_a_plain_loop(kind: Kind, tmp_path: Path) -> None:
    module = Inputs()
    predictions = trainer_in(tmp_path, precision=kind.name).predict(module, loader(3))
    assert predictions is not None
    net = plain_net(kind).eval()
    expected = []
    for batch in loader(3):
        with torch.no_grad(), kind.context():
            expected.append(net(batch[1].to(kind.weights)))
    assert [prediction.dtype for prediction in predictions] == [kind.layers] * 3
    for prediction, wanted in zip(predictions, expected, strict=True):
        assert_equal(prediction, wanted)


@EVERY_KIND
@pytest.mark.parametrize("before", [F64, BF16], ids=str)
def test_a_module_of_another_dtype_is_converted_where_a_precision_says_what_weights_are(
    kind: Kind, before: torch.dtype, tmp_path: Path
) -> None:
    class Looks(Net):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 1))  # torch normalizes no mixture of dtypes

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            # Weights that nobody converts get what they can work with.
            return self.loss([batch[0], batch[1].to(self.dtype), batch[2].to(self.dtype)])

    module = Looks().to(before)
    trainer_in(tmp_path, precision=kind.name, max_epochs=1).fit(module, loader(2))
    # "32-true" and the mixed ones say nothing of weights: whoever builds a module in float64 wants it so.
    leaves_alone = kind.name in ("32-true", "16-mixed", "bf16-mixed")
    assert {parameter.dtype for parameter in module.parameters()} == {before if leaves_alone else kind.weights}


@EVERY_KIND
def test_a_checkpoint_holds_the_weights_in_their_dtype_and_resumes_bit_for_bit(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    whole = Net()
    trainer_in(tmp_path, Saves("on_train_epoch_end", path), precision=kind.name).fit(whole, loader())
    saved = torch.load(path, weights_only=True)
    dtypes = {weight.dtype for name, weight in saved["state_dict"].items() if "num_batches" not in name}
    assert dtypes == {kind.weights}
    resumed = Net()
    trainer_in(tmp_path, precision=kind.name).fit(resumed, loader(), ckpt_path=path)
    for name, expected in whole.state_dict().items():
        assert_equal(resumed.state_dict()[name], expected)


@EVERY_KIND
def test_a_tensor_that_is_made_in_a_step_has_the_dtype_of_the_weights(kind: Kind, tmp_path: Path) -> None:
    made: set[torch.dtype] = set()

    class Makes(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            made.add(torch.zeros(1).dtype)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
            made.add(torch.ones(1).dtype)
            return super().validation_step(batch, batch_idx)

    trainer_in(tmp_path, precision=kind.name).fit(Makes(), loader(2), loader(1))
    assert made == {kind.weights}
    assert torch.zeros(1).dtype == F32


def test_16_mixed_on_the_cpu_trains_without_a_scale_and_says_so_in_its_state(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Looks(Callback):
        def on_before_backward(self, trainer: TrainerView, pl_module: Any, loss: Tensor) -> None:
            seen.append(trainer.strategy.precision.scales_loss)

    module = Net()
    trainer = trainer_in(tmp_path, Looks(), precision="16-mixed", max_epochs=1)
    trainer.fit(module, loader(2))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert seen == [False, False]
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["precision"] == {}


def test_manual_optimization_computes_in_the_precision_of_the_trainer(tmp_path: Path) -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            optimizer = self.optimizers()
            loss = self.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    for kind in KINDS:
        module = Manual()
        trainer_in(tmp_path, precision=kind.name).fit(module, loader())
        net, _ = train_plainly(kind)
        for name, expected in net.state_dict().items():
            assert_equal(module.state_dict()[name], expected)


def test_each_precision_gives_other_numbers_so_that_equality_says_something() -> None:
    trained = [train_plainly(kind)[0].state_dict()["net.0.weight"].double() for kind in KINDS]
    for index, weight in enumerate(trained):
        assert not any(torch.equal(weight, other) for other in trained[index + 1 :])


def test_a_copy_of_a_module_keeps_its_precision(tmp_path: Path) -> None:
    module = Net()
    trainer_in(tmp_path, precision="bf16-true", max_epochs=1).fit(module, loader(2))
    assert copy.deepcopy(module).dtype == BF16
