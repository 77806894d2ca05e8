"""Fits that were begun in Lightning and go on here, from files that Lightning wrote (see lightning_files/write.py)."""

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import hookloop
from hookloop import Callback, Trainer
from hookloop.errors import CheckpointError

from .fitting import Rows
from .lightning_files.resume import FOLDER, NEWEST, QUIET, end_in_lightning, module_of, resumed
from .lightning_files.scenarios import Adversaries, Data, Fit, Settled, loader, of

NAMES = sorted(
    path.stem for path in NEWEST.glob("*.ckpt") if path.stem not in ("settings", "weights_only", "one_object")
)
OLDER = [(folder, name) for folder in ("v2_0", "v2_2", "v2_4") for name in ("epoch_end", "mid_epoch", "adversaries")]

# `python dev.py bench lightning_files` writes the files anew and compares bit for bit, on one machine. Another one may
# round in another way; a step that is lost, or taken twice, changes weights by more than a hundredth.
TOLERANCE = 1e-5


def assert_ends_as_in_lightning(name: str, folder: Path) -> None:
    trainer, module, _ = resumed(name, folder)
    end = end_in_lightning(name, folder)
    assert trainer.global_step == end["steps"]
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx(end["rates"], rel=1e-12)
    weights = module.state_dict()
    assert weights.keys() == end["weights"].keys()
    for key, expected in end["weights"].items():
        assert weights[key].flatten().tolist() == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), key


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_that_was_begun_in_lightning_ends_as_it_would_have_ended_there(name: str) -> None:
    assert_ends_as_in_lightning(name, NEWEST)


@pytest.mark.parametrize(("folder", "name"), OLDER)
def test_so_does_one_that_an_older_lightning_began(folder: str, name: str) -> None:
    assert_ends_as_in_lightning(name, FOLDER / folder)


def test_a_lost_step_would_be_seen() -> None:
    # What the tests above compare with is more than their tolerance away from a fit that begins anew.
    module = module_of("epoch_end")
    Trainer(max_epochs=4, **QUIET).fit(module, loader())
    skewed = module.state_dict()["net.0.weight"].flatten().tolist()
    expected = end_in_lightning("epoch_end")["weights"]["net.0.weight"]
    assert skewed == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)  # the very same fit
    module = module_of("epoch_end")
    Trainer(max_epochs=4, limit_train_batches=4, **QUIET).fit(module, loader())
    assert module.state_dict()["net.0.weight"].flatten().tolist() != pytest.approx(expected, rel=0.01, abs=0.01)


class Steps(Callback):
    """Notes epoch, index and step of every batch, and each validation."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((trainer.current_epoch, batch_idx, trainer.global_step))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append("validated")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("epoch_start", [(2, 0, 10)]),
        ("epoch_end", [(2, 0, 10)]),
        ("mid_epoch", [(1, 3, 8)]),
        ("last_batch", [(2, 0, 10)]),
        ("before_a_batch", [(1, 2, 7)]),
        ("inside_a_window", [(1, 2, 3)]),  # Lightning saved after batch 2, whose gradients the file lacks
        ("validation_owed", ["validated", (1, 2, 7)]),
        ("validation_done", [(1, 2, 7)]),
        ("plateau", ["validated", (2, 0, 10)]),  # again, as the scheduler steps on what was logged
        ("plateau_epoch_end", [(2, 0, 10)]),
    ],
)
def test_it_goes_on_where_lightning_was(name: str, first: list[Any]) -> None:
    steps = Steps()
    resumed(name, callbacks=[steps])
    assert steps.seen[: len(first)] == first


def test_the_x_axis_of_the_loggers_goes_on() -> None:
    for name, step in (("mid_epoch", 8), ("epoch_end", 10), ("before_a_batch", 7), ("inside_a_window", 3)):
        rows = Rows()
        resumed(name, logger=rows, log_every_n_steps=1)
        assert next(at for at, row in rows.rows if "loss_step" in row) == step, name


def test_the_warning_says_what_lightning_does_not_save() -> None:
    [told] = resumed("epoch_end")[2]
    version = torch.load(NEWEST / "epoch_end.ckpt")["pytorch-lightning_version"]
    assert f"was written by Lightning {version}: weights, optimizers, schedulers and counters are taken over" in told
    assert "It holds no random state" in told
    assert "no place in the data" not in told
    [told] = resumed("mid_epoch")[2]
    assert "saved inside epoch 1, after 3 batches, whose logged values are not in it" in told
    assert "no place in the data: a loader that does not shuffle goes on with the next batch" in told
    [told] = resumed("inside_a_window")[2]
    assert "The gradients of the accumulation window that was open are not in it, so its 1 batch(es) come again" in told
    [told] = resumed("plateau_epoch_end")[2]
    assert "before scheduler 0, which steps on a metric, took its step of epoch 1" in told


def test_weights_that_a_callback_averaged_are_told(tmp_path: Path) -> None:
    write_changed(tmp_path, averaging_state={"n_averaged": torch.tensor(3)})
    told = resumed("epoch_end", tmp_path)[2]
    assert "state_dict holds weights that a callback has averaged; the others are under averaging_state" in told[0]


def write_changed(folder: Path, name: str = "epoch_end", **changed: Any) -> Path:
    """A file of Lightning's with other entries; None for one that is to go."""
    checkpoint = torch.load(NEWEST / f"{name}.ckpt") | changed
    path = folder / f"{name}.ckpt"
    torch.save({key: value for key, value in checkpoint.items() if value is not None}, path)
    return path


# data


class Indexed(Fit):
    """Notes which samples it gets; a mixin."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.got += batch[2].tolist()
        return super().training_step(batch, batch_idx)


class Reads(TensorDataset):
    """Notes which samples were read."""

    def __init__(self) -> None:
        x, y = loader().dataset[:]
        super().__init__(x, y, torch.arange(len(x)))
        self.read: list[int] = []

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return tuple(tensor[index] for tensor in self.tensors)


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_goes_on_without_reading_what_was_done(shuffle: bool) -> None:
    dataset, module = Reads(), of(hookloop, Indexed)()
    data = DataLoader(dataset, batch_size=2, shuffle=shuffle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(max_epochs=2, **QUIET).fit(module, data, ckpt_path=NEWEST / "mid_epoch.ckpt")
    assert len(module.got) == 4  # two batches of five were left
    assert dataset.read == module.got
    assert shuffle or module.got == [6, 7, 8, 9]


class Stateful:
    """A loader that knows by itself where it is."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        batches = list(loader())
        while self.at < len(batches):
            self.at += 1
            yield [*batches[self.at - 1], torch.tensor([self.at - 1])]
        self.at = 0

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


def test_a_loader_with_a_state_gets_the_one_that_lightning_kept(tmp_path: Path) -> None:
    loops = torch.load(NEWEST / "mid_epoch.ckpt")["loops"]
    loops["fit_loop"]["state_dict"]["combined_loader"] = [{"at": 3}]
    path = write_changed(tmp_path, "mid_epoch", loops=loops)
    module = of(hookloop, Indexed)()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(max_epochs=2, **QUIET).fit(module, Stateful(), ckpt_path=path)
    assert module.got == [3, 4]


# what does not fit


def test_a_file_of_lightning_1_is_refused(tmp_path: Path) -> None:
    write_changed(tmp_path, **{"pytorch-lightning_version": "1.9.5"})
    with pytest.raises(CheckpointError, match=r"by Lightning 1\.9\.5, .* Let Lightning 2 upgrade it first \(python -m"):
        resumed("epoch_end", tmp_path)


def test_loops_that_are_not_lightnings_are_refused(tmp_path: Path) -> None:
    write_changed(tmp_path, loops={"fit_loop": {"epoch_progress": 3}})
    with pytest.raises(CheckpointError, match=r"its loops are not those of Lightning 2 \(TypeError"):
        resumed("epoch_end", tmp_path)


def test_counters_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_changed(tmp_path, global_step="ten")
    with pytest.raises(CheckpointError, match=r"progress holds global_step='ten' where a whole number is needed"):
        resumed("epoch_end", tmp_path)


def test_a_file_with_weights_alone_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"holds no training state, .* weights_only=True"):
        resumed("weights_only", module=of(hookloop, Settled)(4))


def test_a_reached_limit_is_told() -> None:
    with pytest.raises(CheckpointError, match=r"saved after 2 epochs, and max_epochs=1"):
        resumed("epoch_end", max_epochs=1)


def test_another_number_of_optimizers_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"holds 2 optimizer state\(s\), and .* returned 1"):
        resumed("adversaries", module=of(hookloop, OneOptimizer)())


class OneOptimizer(Adversaries):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class WithSGD(Fit):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class WithCosine(Fit):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)]


@pytest.mark.parametrize(
    ("mixin", "told"),
    [
        (WithSGD, r"optimizer state is of another class than the SGD .*: it lacks dampening, momentum\."),
        (WithCosine, r"scheduler state is of another class .* it lacks T_max, eta_min and has gamma, step_size\."),
    ],
)
def test_another_class_is_refused_though_torch_takes_its_state(mixin: type, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        resumed("epoch_end", module=of(hookloop, mixin)())


# evaluation, and what hooks see


@pytest.mark.parametrize("name", ["mid_epoch", "weights_only"])
def test_it_is_evaluated_without_a_word(name: str) -> None:
    module, trainer = of(hookloop, Settled)(4), Trainer(**QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [metrics] = trainer.validate(module, loader(2), ckpt_path=NEWEST / f"{name}.ckpt", verbose=False)
    saved = torch.load(NEWEST / f"{name}.ckpt", weights_only=name == "mid_epoch")["state_dict"]
    expected = of(hookloop, Fit)()
    expected.load_state_dict(saved)
    losses = [torch.nn.functional.mse_loss(expected.net(x), y).item() for x, y in loader(2)]
    assert metrics["val_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_hooks_see_what_lightning_wrote() -> None:
    seen: dict[str, Any] = {}

    class Looks(Fit):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            seen.update(checkpoint)

    resumed("epoch_end", module=of(hookloop, Looks)())
    assert seen.keys() >= torch.load(NEWEST / "epoch_end.ckpt").keys()
    assert "fit_loop" in seen["loops"]


def test_the_state_of_the_datamodule_is_taken_over() -> None:
    data = of(hookloop, Data, "LightningDataModule")()
    module = of(hookloop, Settled)(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(max_epochs=2, **QUIET).fit(module, datamodule=data, ckpt_path=NEWEST / "settings.ckpt")
    assert data.rounds == 2  # one of Lightning's fit, one of this


def test_the_scale_of_losses_is_taken_over() -> None:
    trainer = resumed("scaled")[0]
    # 1024, doubled after 7 steps and again after 14; of the 20 steps of both fits, 6 come after that.
    state = trainer.strategy.precision.state_dict()
    assert (state["scale"], state["_growth_tracker"]) == (4096.0, 6)


def test_what_was_saved_here_is_read_as_a_file_of_hookloop(tmp_path: Path) -> None:
    # A module may well add Lightning's entry, for tools that look for it.
    class Marks(Fit):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["pytorch-lightning_version"] = "2.6.6"

    first = of(hookloop, Marks)()
    trainer = Trainer(max_epochs=2, **QUIET)
    trainer.fit(first, loader())
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(max_epochs=3, **QUIET).fit(of(hookloop, Marks)(), loader(), ckpt_path=tmp_path / "own.ckpt")


def test_adversaries_are_two_in_the_file() -> None:
    # The fixture is what its name says, or the tests above would compare less than they seem to.
    saved = torch.load(NEWEST / "adversaries.ckpt")
    assert len(saved["optimizer_states"]) == len(list(of(hookloop, Adversaries)().children())) == 2
    assert saved["global_step"] == 16


def test_no_file_of_lightning_is_met_by_most() -> None:
    # What reads them is imported when one is met.
    script = "import sys, hookloop.entry_points; print('hookloop.checkpoint.lightning' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"
    assert importlib.import_module("hookloop.checkpoint.lightning").translated
