"""A run on a CUDA device. These tests need one; they are the only ones that are left out where there is none."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer, seed_everything
from hookloop.accelerators import CUDAAccelerator
from hookloop.checkpoint_io.snapshot import Snapshots
from hookloop.errors import MisconfigurationError
from hookloop.plugins import AsyncCheckpointIO
from hookloop.random_state import isolated_random_state, random_state
from hookloop.view import TrainerView

from .recording import Batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICE = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def sync_debug_mode() -> Iterator[None]:
    """Whatever a test allows or forbids, the next one starts with the default."""
    yield
    torch.cuda.set_sync_debug_mode("default")


class Regression(LightningModule):
    """A small network that learns a plane, and logs its loss."""

    def __init__(self, log: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.layer = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        self.logs = log
        self.seen: set[tuple[torch.device, torch.device, tuple[int, ...], torch.device]] = set()

    def loss(self, batch: Batch) -> torch.Tensor:
        x, y = batch
        answer = self.layer(x)
        self.seen.add((x.device, y.device, tuple(answer.shape), self.device))
        loss: torch.Tensor = (answer - y).pow(2).mean()
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        if self.logs:
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        answer: torch.Tensor = self.layer(batch[0])
        return answer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def data(batches: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8 * batches, 4, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)


def cuda_trainer(folder: Path, callbacks: list[Callback] | None = None, **arguments: Any) -> Trainer:
    return Trainer(
        accelerator="cuda",
        devices=[0],
        callbacks=callbacks or [],
        default_root_dir=folder,
        logger=False,
        registered_callbacks=False,
        **arguments,
    )


def test_auto_chooses_the_device(tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=tmp_path, logger=False, registered_callbacks=False)
    assert trainer.device == DEVICE
    assert isinstance(trainer.accelerator, CUDAAccelerator)


def test_the_device_after_the_last_one_is_refused() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(MisconfigurationError, match=rf"asks for more than the {count} cuda device\(s\)"):
        Trainer(accelerator="cuda", devices=[count], registered_callbacks=False)


def test_every_step_runs_on_the_device_and_the_module_comes_back(tmp_path: Path) -> None:
    module = Regression()
    trainer = cuda_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, data(3), data(1))
    assert module.seen == {(DEVICE, DEVICE, (8, 1), DEVICE)}
    assert trainer.optimizers[0].state_dict()["state"][0]["momentum_buffer"].device == DEVICE
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    predictions = trainer.predict(module, data(1))
    assert predictions is not None
    assert (predictions[0].device, predictions[0].shape) == (DEVICE, (8, 1))
    assert torch.cuda.current_device() == 0


def test_training_gives_the_numbers_of_a_loop_on_the_device(tmp_path: Path) -> None:
    module = Regression()
    cuda_trainer(tmp_path, max_epochs=3, gradient_clip_val=0.5).fit(module, data(4))

    plain = Regression(log=False).to(DEVICE)
    optimizer = plain.configure_optimizers()
    for _ in range(3):
        for batch in data(4):
            loss = plain.loss([part.to(DEVICE) for part in batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
    assert all(torch.equal(a, b.cpu()) for a, b in zip(module.parameters(), plain.parameters(), strict=True))


def test_metrics_stay_on_the_device_until_they_are_read(tmp_path: Path) -> None:
    trainer = cuda_trainer(tmp_path, max_epochs=1)
    trainer.fit(Regression(), data(3), data(2))
    assert {value.device.type for value in trainer.callback_metrics.values()} == {"cuda"}
    assert all(isinstance(value, float) for value in trainer.progress_bar_metrics.values())
    (metrics,) = trainer.validate(Regression(), data(2), verbose=False)
    assert isinstance(metrics["val_loss"], float)


class NoSync(Callback):
    """From the first batch's start to the last one's end, waiting for the device is an error."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        self.batches += 1
        if trainer.is_last_batch:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_clip_val": 0.5},
        {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 2},
        {"precision": "bf16-mixed"},
    ],
    ids=["plain", "clipped by norm", "clipped by value", "accumulated", "bf16-mixed"],
)
def test_no_step_outside_the_logging_interval_waits_for_the_device(arguments: dict[str, Any], tmp_path: Path) -> None:
    spy = NoSync()
    cuda_trainer(tmp_path, [spy], max_epochs=2, log_every_n_steps=1000, **arguments).fit(Regression(), data(6))
    assert spy.batches == 12


def test_waiting_for_the_device_is_noticed_by_the_test_above(tmp_path: Path) -> None:
    class Waits(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            loss.item()
            return loss

    with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
        cuda_trainer(tmp_path, [NoSync()], max_epochs=1, log_every_n_steps=1000).fit(Waits(), data(2))


class Scales(Callback):
    """Writes down losses and gradients as hooks see them."""

    def __init__(self) -> None:
        self.ratios: list[float] = []
        self.gradients: list[torch.Tensor] = []

    def on_before_backward(self, trainer: TrainerView, pl_module: LightningModule, loss: torch.Tensor) -> None:
        assert isinstance(pl_module, Mixed)
        self.ratios.append(loss.item() / pl_module.losses[-1])

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None:
        (weight, *_) = pl_module.parameters()
        assert weight.grad is not None
        self.gradients.append(weight.grad.detach().clone())


class Mixed(Regression):
    def __init__(self) -> None:
        super().__init__(log=False)
        self.losses: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        assert torch.get_autocast_dtype("cuda") == torch.float16
        assert torch.is_autocast_enabled("cuda")
        assert self.layer(batch[0]).dtype == torch.float16
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss


def test_16_mixed_scales_the_loss_and_hooks_see_gradients_unscaled(tmp_path: Path) -> None:
    scales, module = Scales(), Mixed()
    trainer = cuda_trainer(tmp_path, [scales], max_epochs=1, precision="16-mixed")
    trainer.fit(module, data(3))
    # torch's GradScaler begins with this factor, and raises it after 2000 steps.
    assert scales.ratios == pytest.approx([65536.0] * 3)
    assert trainer.strategy.precision.state_dict()["scale"] == 65536.0

    plain = Mixed().to(DEVICE)
    (batch, *_) = data(3)
    with torch.autocast("cuda", dtype=torch.float16):
        loss = plain.loss([part.to(DEVICE) for part in batch])
    loss.backward()
    (weight, *_) = plain.parameters()
    assert weight.grad is not None
    assert torch.allclose(scales.gradients[0], weight.grad, rtol=1e-2, atol=1e-3)


def test_a_step_that_overflows_is_skipped_and_lowers_the_scale(tmp_path: Path) -> None:
    class Overflows(Mixed):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * (torch.inf if batch_idx == 1 else 1.0)

    weights: list[torch.Tensor] = []

    class Looks(Callback):
        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
            weights.append(next(pl_module.parameters()).detach().clone())

    module = Overflows()
    trainer = cuda_trainer(tmp_path, [Looks()], max_epochs=1, precision="16-mixed")
    trainer.fit(module, data(3))
    assert torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[2], weights[1])
    assert trainer.strategy.precision.state_dict()["scale"] == 32768.0


def test_the_scale_is_saved_and_restored(tmp_path: Path) -> None:
    first = cuda_trainer(tmp_path, max_epochs=1, precision="16-mixed")
    first.fit(Mixed(), data(2))
    saved = first.strategy.precision.state_dict()
    first.save_checkpoint(tmp_path / "a.ckpt")
    second = cuda_trainer(tmp_path, max_epochs=1, precision="16-mixed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is nothing left to train
        second.fit(Mixed(), data(2), ckpt_path=tmp_path / "a.ckpt")
    assert second.strategy.precision.state_dict() == saved
    assert saved["_growth_tracker"] == 2


def test_lbfgs_under_16_mixed_is_refused_with_what_to_use(tmp_path: Path) -> None:
    class Evaluates(Mixed):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.LBFGS(self.parameters())

    with pytest.raises(MisconfigurationError, match=r'precision="16-mixed" .*LBFGS.*Use precision="bf16-mixed"'):
        cuda_trainer(tmp_path, max_epochs=1, precision="16-mixed").fit(Evaluates(), data(1))


def test_random_numbers_of_the_device_are_seeded_and_isolated() -> None:
    seed_everything(5, verbose=False)
    expected = [torch.rand((), device=DEVICE).item() for _ in range(2)]
    seed_everything(5, verbose=False)
    assert torch.rand((), device=DEVICE).item() == expected[0]
    with isolated_random_state():
        torch.rand(7, device=DEVICE)
    assert torch.rand((), device=DEVICE).item() == expected[1]
    assert len(random_state()["cuda"]) == torch.cuda.device_count()


def test_the_accelerator_tells_how_much_memory_is_used() -> None:
    accelerator = CUDAAccelerator()
    before = accelerator.get_device_stats(DEVICE)
    kept = torch.zeros(1024, 1024, device=DEVICE)
    after = accelerator.get_device_stats(DEVICE)
    assert set(after) == {"memory_allocated_bytes", "memory_reserved_bytes", "memory_peak_bytes"}
    assert after["memory_allocated_bytes"] - before["memory_allocated_bytes"] == kept.numel() * 4
    assert after["memory_peak_bytes"] >= after["memory_allocated_bytes"]


@pytest.mark.parametrize("map_location", [None, "cpu", "cuda:0"])
def test_a_module_is_loaded_to_where_its_weights_were_or_are_sent(map_location: str | None, tmp_path: Path) -> None:
    torch.save({"state_dict": Regression().to(DEVICE).state_dict()}, tmp_path / "file.ckpt")
    loaded = Regression.load_from_checkpoint(tmp_path / "file.ckpt", map_location=map_location)
    assert loaded.device == torch.device("cpu" if map_location == "cpu" else DEVICE)
    for one, other in zip(loaded.parameters(), Regression().parameters(), strict=True):
        assert torch.equal(one.cpu(), other)


class SavesTwice(Callback):
    """After the second batch, in the foreground and in the background; then the weights change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: list[str] = []
        self.memory: list[int] = []

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.folder / "foreground.ckpt")
            before = torch.cuda.memory_allocated(DEVICE)
            trainer.save_checkpoint(self.folder / "background.ckpt", background=True)
            self.memory = [before, torch.cuda.memory_allocated(DEVICE)]
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    parameter.fill_(7.0)

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        self.saved.append(Path(path).name)


def test_a_background_save_holds_what_the_device_held_and_takes_no_memory_there(tmp_path: Path) -> None:
    saves = SavesTwice(tmp_path)
    cuda_trainer(tmp_path, [saves], max_epochs=1).fit(Regression(), data(4))
    foreground, background = (
        torch.load(tmp_path / f"{name}.ckpt", map_location="cpu") for name in ("foreground", "background")
    )
    assert saves.saved == ["foreground.ckpt", "background.ckpt"]
    assert saves.memory[0] == saves.memory[1]
    for name, weight in foreground["state_dict"].items():
        assert torch.equal(background["state_dict"][name], weight)
        assert not torch.any(weight == 7.0)
    moments = [each["optimizer_states"][0]["state"] for each in (foreground, background)]
    for index, state in moments[0].items():
        assert torch.equal(moments[1][index]["momentum_buffer"], state["momentum_buffer"])


def test_a_copy_of_a_devices_state_is_in_locked_memory_that_is_used_again() -> None:
    snapshots, weight = Snapshots(), torch.arange(1000.0, device=DEVICE)
    first, ready = snapshots.take({"weight": weight, "row": weight.view(10, 100)[3], "here": torch.ones(3)})
    weight.zero_()  # on the same stream, so after the copy
    ready()
    assert first["weight"].is_pinned()
    assert torch.equal(first["weight"], torch.arange(1000.0))
    assert torch.equal(first["row"], torch.arange(300.0, 400.0))
    assert first["row"].untyped_storage().data_ptr() == first["weight"].untyped_storage().data_ptr()
    assert not first["here"].is_pinned()
    second, ready = snapshots.take({"weight": weight})
    ready()
    assert second["weight"].data_ptr() == first["weight"].data_ptr()
    assert not second["weight"].any()


def test_a_run_resumes_on_the_device_from_what_was_saved_in_the_background(tmp_path: Path) -> None:
    trainer = cuda_trainer(tmp_path, max_epochs=1, plugins=AsyncCheckpointIO())
    trainer.fit(Regression(), data(4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed, straight = Regression(), Regression()
    cuda_trainer(tmp_path, max_epochs=2).fit(resumed, data(4), ckpt_path=tmp_path / "a.ckpt")
    cuda_trainer(tmp_path, max_epochs=2).fit(straight, data(4))
    for one, other in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(one, other)
