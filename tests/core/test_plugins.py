"""`Trainer(plugins=...)`: how numbers are represented, and where checkpoints are kept."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.accelerators import CPUAccelerator
from hookloop.checkpoint_io import CheckpointIO, TorchCheckpointIO
from hookloop.errors import CheckpointError, MisconfigurationError, MisconfigurationTypeError
from hookloop.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from hookloop.strategies import SingleDeviceStrategy

BATCHES = 3
X = torch.linspace(-1, 1, 2 * BATCHES).unsqueeze(1)


class Line(LightningModule):
    """One layer whose first weights are 0.5 and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)
        self.seen: list[tuple[torch.dtype, torch.dtype, torch.dtype]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out = self.layer(batch[0])
        self.seen.append((batch[0].dtype, out.dtype, torch.ones(1).dtype))
        loss: Tensor = (out - 3).square().mean()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("weight", self.layer.weight.double().item())

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(X), batch_size=2)


def trainer_with(plugins: Any, folder: Path | None = None, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "registered_callbacks": False}
    return Trainer(**settings | {"plugins": plugins, "default_root_dir": folder} | arguments)


def fitted(plugins: Any, **arguments: Any) -> Line:
    module = Line()
    trainer_with(plugins, **arguments).fit(module, loader())
    return module


def weights_of_a_plain_loop(dtype: torch.dtype, autocast: torch.dtype | None = None) -> list[float]:
    """The same training written out: SGD on the mean of (w x + b - 3)^2."""
    model = Line().layer.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in X.split(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            loss = (model(batch.to(dtype)) - 3).square().mean()
        loss.backward()
        optimizer.step()
    return [model.weight.item(), model.bias.item()]


def weights_of(module: Line) -> list[float]:
    return [module.layer.weight.item(), module.layer.bias.item()]


# Precisions

F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    ("plugin", "name", "seen", "loop"),
    [
        (lambda: Precision(), "32-true", (F32, F32, F32), (F32, None)),
        (lambda: DoublePrecision(), "64-true", (F64, F64, F64), (F64, None)),
        (lambda: HalfPrecision("bf16-true"), "bf16-true", (BF16, BF16, BF16), (BF16, None)),
        (lambda: MixedPrecision("bf16-mixed", "cpu"), "bf16-mixed", (F32, BF16, F32), (F32, BF16)),
        (lambda: MixedPrecision("bf16-mixed", device="cpu"), "bf16-mixed", (F32, BF16, F32), (F32, BF16)),
    ],
    ids=["single", "double", "half", "mixed", "mixed by keyword"],
)
def test_a_precision_plugin_trains_as_a_plain_loop_in_that_precision(
    plugin: Callable[[], Precision], name: str, seen: tuple[torch.dtype, ...], loop: tuple[torch.dtype, Any]
) -> None:
    given = plugin()
    module = Line()
    trainer = trainer_with(given)
    trainer.fit(module, loader())
    assert trainer.strategy.precision is given
    assert (trainer.precision, given.precision) == (name, name)
    assert module.seen == [seen] * BATCHES
    assert weights_of(module) == weights_of_a_plain_loop(*loop)
    assert module.layer.weight.dtype is loop[0]


def test_half_precision_is_float16_if_nothing_is_said() -> None:
    assert HalfPrecision().precision == "16-true"


def test_a_scaler_of_ones_own_scales_the_loss_and_the_gradients_back() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    losses: list[float] = []

    class Looks(Callback):
        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
            losses.append(loss.item())

    module = Line()
    trainer_with(plugin, callbacks=Looks()).fit(module, loader())

    assert plugin.scaler is scaler
    model, expected = Line().layer, []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in X.split(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=F16):
            loss = (model(batch) - 3).square().mean()
        expected.append(loss.item() * 1024)
        (loss * 1024).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad /= 1024
        optimizer.step()
    assert losses == expected
    assert weights_of(module) == [model.weight.item(), model.bias.item()]


def test_a_plugin_of_ones_own_is_asked_wherever_numbers_are_made() -> None:
    asked: list[str] = []

    class Own(Precision):
        def convert_module(self, module: nn.Module) -> nn.Module:
            asked.append("convert_module")
            return module.double()

        def convert_input(self, batch: Any) -> Any:
            asked.append("convert_input")
            return [batch[0].double()]

        def forward_context(self) -> AbstractContextManager[Any]:
            asked.append("forward_context")
            return super().forward_context()

        def scale(self, loss: Tensor) -> Tensor:
            asked.append("scale")
            return super().scale(loss)

        def optimizer_step(
            self, optimizer: Optimizer, closure: Any, before_step: Callable[[], None], **kwargs: Any
        ) -> Any:
            asked.append("optimizer_step")
            return super().optimizer_step(optimizer, closure, before_step, **kwargs)

    module = fitted(Own())
    step = ["convert_input", "optimizer_step", "forward_context", "scale"]
    assert asked == ["convert_module", *step * BATCHES]
    assert weights_of(module) == weights_of_a_plain_loop(F64)


def test_a_forward_context_of_ones_own_is_around_every_step() -> None:
    class Bfloat(Precision):
        def forward_context(self) -> AbstractContextManager[Any]:
            return torch.autocast("cpu", dtype=BF16)

    module = fitted(Bfloat())
    assert weights_of(module) == weights_of_a_plain_loop(F32, BF16)


def test_the_forward_context_is_what_the_steps_run_in() -> None:
    with DoublePrecision().forward_context():
        assert torch.ones(1).dtype is F64
    with MixedPrecision("bf16-mixed", "cpu").forward_context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is BF16
    with Precision().forward_context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is F32
    assert torch.ones(1).dtype is F32


def test_a_plugin_that_makes_another_module_is_refused() -> None:
    class Copies(Precision):
        def convert_module(self, module: nn.Module) -> nn.Module:
            return deepcopy(module)

    with pytest.raises(MisconfigurationError, match=r"^Copies\.convert_module\(\) returned another module.*in place"):
        fitted(Copies())


# Checkpoints


class InMemory(CheckpointIO):
    """Keeps checkpoints in a dict, under names that are no paths."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.asked: list[tuple[Any, ...]] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        self.asked.append(("save", str(path), storage_options))
        self.kept[str(path)] = deepcopy(checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        self.asked.append(("load", str(path), weights_only))
        checkpoint: dict[str, Any] = deepcopy(self.kept[str(path)])
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        self.asked.append(("remove", str(path)))
        del self.kept[str(path)]

    def teardown(self) -> None:
        self.asked.append(("teardown",))


class SavesTwice(Callback):
    """Saves after every batch but the last, and removes what it saved before."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx < BATCHES - 1:
            trainer.save_checkpoint(f"mem://{batch_idx}", storage_options={"part": batch_idx})
        if batch_idx == 1:
            trainer.strategy.remove_checkpoint("mem://0")


def test_checkpoints_go_to_and_come_from_the_io_that_was_passed(tmp_path: Path) -> None:
    io = InMemory()
    trainer_with(io, tmp_path, callbacks=SavesTwice(), max_epochs=1).fit(Line(), loader())
    assert io.asked == [
        ("save", "mem://0", {"part": 0}),
        ("save", "mem://1", {"part": 1}),
        ("remove", "mem://0"),
        ("teardown",),
    ]
    assert list(io.kept) == ["mem://1"]
    assert list(tmp_path.iterdir()) == []

    io.asked.clear()
    resumed = Line()
    trainer = trainer_with(io, tmp_path, max_epochs=2)
    trainer.fit(resumed, loader(), ckpt_path="mem://1")
    assert io.asked == [("load", "mem://1", True), ("teardown",)]
    assert trainer.global_step > 2

    io.asked.clear()
    expected = io.kept["mem://1"]["state_dict"]["layer.weight"].item()
    [metrics] = trainer.validate(resumed, loader(), ckpt_path="mem://1", weights_only=False, verbose=False)
    assert metrics == {"weight": expected}
    assert io.asked == [("load", "mem://1", False), ("teardown",)]


def test_the_io_is_torn_down_after_an_error_too() -> None:
    class Fails(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise RuntimeError("planted")

    io = InMemory()
    with pytest.raises(RuntimeError, match="planted"):
        trainer_with(io).fit(Fails(), loader())
    assert io.asked == [("teardown",)]


@pytest.mark.parametrize("loaded", [{"weights": 1}, [1], None], ids=repr)
def test_what_an_io_loads_has_to_be_a_checkpoint(loaded: Any) -> None:
    class Wrong(InMemory):
        def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
            return loaded

    kind = type(loaded).__name__
    with pytest.raises(CheckpointError, match=rf'^there is no checkpoint: a dict with "state_dict".*holds a {kind}\.'):
        trainer_with(Wrong()).fit(Line(), loader(), ckpt_path="there")


def test_the_default_io_writes_reads_and_removes_files(tmp_path: Path) -> None:
    io, path = TorchCheckpointIO(), tmp_path / "below" / "a.ckpt"
    io.save_checkpoint({"state_dict": {"w": torch.ones(2)}}, path)
    assert io.load_checkpoint(path)["state_dict"]["w"].tolist() == [1, 1]
    assert io.load_checkpoint(path, map_location="meta")["state_dict"]["w"].device.type == "meta"
    io.remove_checkpoint(path)
    assert not path.exists()
    io.remove_checkpoint(path)
    (path / "shard").mkdir(parents=True)
    io.remove_checkpoint(str(path))
    assert not path.exists()
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        io.load_checkpoint(path)


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CheckpointError, match=r"a\.ckpt could not be removed\. PermissionError: no\."):
        TorchCheckpointIO().remove_checkpoint(tmp_path / "a.ckpt")


def test_files_have_no_storage_options(tmp_path: Path) -> None:
    trainer = trainer_with(None, tmp_path)
    trainer.fit(Line(), loader())
    with pytest.raises(MisconfigurationTypeError, match=r"save_checkpoint\(storage_options=\{'x': 1\}\): TorchCheckp"):
        trainer.save_checkpoint(tmp_path / "a.ckpt", storage_options={"x": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_io_that_reads_elsewhere_is_not_asked_for_a_local_file(tmp_path: Path) -> None:
    class Mirrored(TorchCheckpointIO):
        def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return super().load_checkpoint(tmp_path / f"mirror-{path}", *args, **kwargs)

    first = trainer_with(None, tmp_path)
    module = Line()
    first.fit(module, loader())
    first.save_checkpoint(tmp_path / "mirror-a.ckpt")
    [metrics] = trainer_with(Mirrored()).validate(Line(), loader(), ckpt_path="a.ckpt", verbose=False)
    assert metrics == {"weight": module.layer.weight.item()}
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*b\.ckpt"):
        trainer_with(TorchCheckpointIO()).validate(Line(), loader(), ckpt_path="b.ckpt")


def test_a_strategy_object_brings_its_own_io() -> None:
    io = InMemory()
    strategy = SingleDeviceStrategy(checkpoint_io=io)
    trainer = trainer_with(None, strategy=strategy, accelerator="auto")
    trainer.fit(Line(), loader())
    trainer.save_checkpoint("mem://x")
    assert list(io.kept) == ["mem://x"]


# What is refused


class ClusterEnvironment: ...


class SLURMEnvironment(ClusterEnvironment): ...


class LayerSync: ...


class Elsewhere:
    Precision = type("Precision", (), {"__module__": "lightning.pytorch.plugins.precision.precision"})


def own(**methods: Any) -> Precision:
    made: Precision = type("Own", (Precision,), methods)()
    return made


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "two precisions",
        {"plugins": [DoublePrecision(), HalfPrecision()]},
        r"plugins holds 2 precision plugins \(DoublePrecision, HalfPrecision\), and a Trainer has one of each kind",
    ),
    (
        "two ios",
        {"plugins": [InMemory(), TorchCheckpointIO()]},
        r"plugins holds 2 checkpoint plugins \(InMemory, TorchCheckpointIO\).*Keep one\.",
    ),
    (
        "precision twice",
        {"plugins": HalfPrecision("bf16-true"), "precision": "64-true"},
        r"precision='64-true' was passed, and plugins holds a HalfPrecision \(bf16-true\)\. Drop one of them\.",
    ),
    (
        "even the same precision twice",
        {"plugins": DoublePrecision(), "precision": 64},
        r"precision=64 was passed, and plugins holds a DoublePrecision",
    ),
    (
        "precision beside a strategy object",
        {"plugins": DoublePrecision(), "strategy": SingleDeviceStrategy(), "accelerator": "auto"},
        r"the strategy object that was passed brings its own\..*SingleDeviceStrategy\(precision_plugin=\.\.\.\)",
    ),
    (
        "io beside a strategy object",
        {"plugins": [InMemory()], "strategy": SingleDeviceStrategy(), "accelerator": "auto"},
        r"plugins holds a InMemory.*SingleDeviceStrategy\(checkpoint_io=\.\.\.\)",
    ),
    ("a class", {"plugins": DoublePrecision}, r"plugins holds the class DoublePrecision\. Pass an instance: Double"),
    ("a name", {"plugins": "bf16-mixed"}, r"plugins holds 'bf16-mixed' \(str\), which is no plugin\. Pass a Precision"),
    ("nothing in a list", {"plugins": [None]}, r"plugins holds None \(NoneType\), which is no plugin"),
    (
        "an environment of a cluster",
        {"plugins": [SLURMEnvironment()]},
        r"plugins holds a SLURMEnvironment, which is about several processes, and today hookloop trains in one\. Leave",
    ),
    ("layers in step", {"plugins": LayerSync()}, r"plugins holds a LayerSync, which is about several processes"),
    (
        "a plugin of another library",
        {"plugins": Elsewhere.Precision()},
        r"plugins holds a Precision of lightning\.pytorch\.plugins\.precision\.precision, another library\. Pass a",
    ),
    (
        "a precision for another device",
        {"plugins": MixedPrecision("bf16-mixed", "cuda")},
        r'plugins holds a MixedPrecision for "cuda", and this Trainer runs on "cpu"\. Make it with device="cpu"',
    ),
    (
        "a method that nobody calls",
        {"plugins": own(pre_backward=lambda self, tensor, module: tensor)},
        r"Own defines pre_backward\(\), which hookloop calls on no precision plugin\. It calls convert_module, ",
    ),
    (
        "clipping in a plugin",
        {"plugins": own(clip_gradients=lambda self, *args: None)},
        r"Own defines clip_gradients\(\).*configure_gradient_clipping, goes there",
    ),
    (
        "Lightning's optimizer_step",
        {"plugins": own(optimizer_step=lambda self, optimizer, model, closure: None)},
        r"Own\.optimizer_step\(optimizer, model, closure\) is called with \(optimizer, closure, before_step\)",
    ),
    (
        "an optimizer_step with too few parameters",
        {"plugins": own(optimizer_step=lambda self, optimizer: None)},
        r"Own\.optimizer_step\(optimizer\) is called with \(optimizer, closure, before_step\)",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), [pytest.param(*rest, id=name) for name, *rest in REFUSED])
def test_plugins_that_cannot_work_are_refused_by_the_trainer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        trainer_with(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MixedPrecision("32-true", "cpu"),
            r"^MixedPrecision\('32-true'\): use \"16-mixed\" or \"bf16-mixed\"\.$",
        ),
        (lambda: HalfPrecision("bf16"), r"^HalfPrecision\('bf16'\): use \"16-true\" or \"bf16-true\"\.$"),
        (
            lambda: MixedPrecision("bf16-mixed", "cpu", torch.amp.GradScaler("cpu")),
            r"bfloat16 reaches as far as float32, and nothing has to be scaled\. Leave the scaler out",
        ),
    ],
    ids=["mixed", "half", "scaler"],
)
def test_a_precision_that_a_plugin_does_not_have_is_refused(make: Callable[[], Precision], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": CPUAccelerator()}, "device=.*it is a CPUAccelerator. Pass a device such as"),
        ({"device": "cpx"}, "device='cpx'.*Pass a device such as"),
        ({"device": True}, "device=True.*it is a bool"),
        ({"accelerator": "cpu"}, "accelerator='cpu'.: pass an instance of Accelerator"),
        ({"checkpoint_io": TorchCheckpointIO}, "pass an instance of CheckpointIO"),
        ({"precision_plugin": "64-true"}, "precision_plugin='64-true'.: pass an instance of Precision"),
        ({"device": "meta"}, 'has accelerators for "cpu" and "cuda".*pass an Accelerator of your own'),
    ],
    ids=["accelerator as device", "unknown", "bool", "text", "class", "name of a precision", "meta"],
)
def test_what_a_strategy_cannot_be_made_of_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=rf"^SingleDeviceStrategy\(.*{message}"):
        SingleDeviceStrategy(**arguments)


def test_a_strategy_knows_the_accelerator_of_its_device() -> None:
    made = SingleDeviceStrategy()
    assert (made.root_device, made.accelerator.name(), made.precision.name) == (torch.device("cpu"), "cpu", "32-true")
    assert type(made.checkpoint_io) is TorchCheckpointIO
    cuda = [SingleDeviceStrategy("cuda:1"), SingleDeviceStrategy(1), SingleDeviceStrategy(torch.device("cuda", 1))]
    assert {(one.root_device, one.accelerator.name()) for one in cuda} == {(torch.device("cuda", 1), "cuda")}
