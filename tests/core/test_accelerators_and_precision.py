"""Which device is chosen, and in which numbers a run computes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Trainer
from hookloop.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator, select_accelerator
from hookloop.errors import MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies import SingleDeviceStrategy
from hookloop.view import TrainerView

from .recording import make_trainer

F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def default_dtype() -> Iterator[None]:
    """Whatever a test finds wrong, the tests after it start as this one did."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


# Devices


class Eight(CUDAAccelerator):
    """Eight devices, whatever this machine has."""

    @staticmethod
    def name() -> str:
        return "eight"

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def auto_device_count() -> int:
        return 8

    @classmethod
    def get_parallel_devices(cls, devices: list[int]) -> list[torch.device]:
        return [torch.device("meta", index) for index in devices]


@pytest.mark.parametrize(
    ("devices", "indices"),
    [
        ("auto", [0]),
        (1, [0]),
        (3, [0, 1, 2]),
        ("3", [0, 1, 2]),
        (-1, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("-1", [0, 1, 2, 3, 4, 5, 6, 7]),
        ([5], [5]),
        ([5, 2], [5, 2]),
        ("5,", [5]),
        ("5, 2", [5, 2]),
        (" 2 ", [0, 1]),
    ],
    ids=repr,
)
def test_devices_are_counted_or_named(devices: Any, indices: list[int]) -> None:
    accelerator = Eight()
    chosen, selected = select_accelerator(accelerator, devices)
    assert chosen is accelerator
    assert selected == [torch.device("meta", index) for index in indices]


def test_the_list_of_devices_that_was_passed_is_left_alone() -> None:
    given = [5, 2]
    select_accelerator(Eight(), given)
    assert given == [5, 2]


def test_auto_takes_cuda_where_there_is_a_device_and_the_cpu_otherwise() -> None:
    chosen, (device,) = select_accelerator("auto", "auto")
    expected: type[Accelerator] = CUDAAccelerator if torch.cuda.is_available() else CPUAccelerator
    assert type(chosen) is expected
    assert device.type == chosen.name() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_is_always_there() -> None:
    chosen, devices = select_accelerator("cpu", 1)
    assert (chosen.name(), chosen.is_available(), devices) == ("cpu", True, [CPU])
    assert chosen.device_count() >= chosen.auto_device_count() == 1
    assert chosen.get_device_stats(CPU) == {"threads": torch.get_num_threads()}


@pytest.mark.parametrize("name", ["cuda", "gpu"])
def test_both_names_of_cuda_mean_the_same(name: str) -> None:
    if torch.cuda.is_available():
        chosen, devices = select_accelerator(name, 1)
        assert (type(chosen), devices) == (CUDAAccelerator, [torch.device("cuda", 0)])
    else:
        message = f"accelerator='{name}' was asked for, and torch .* finds no cuda device on this machine"
        with pytest.raises(MisconfigurationError, match=message):
            select_accelerator(name, 1)


def test_cuda_names_its_devices_without_looking_at_them() -> None:
    accelerator = CUDAAccelerator()
    assert accelerator.get_parallel_devices([0, 3]) == [torch.device("cuda", 0), torch.device("cuda", 3)]
    assert accelerator.device_count() == torch.cuda.device_count()
    assert accelerator.is_available() is torch.cuda.is_available()


def test_an_accelerator_is_told_the_device_before_the_module_moves_there(tmp_path: Path) -> None:
    events: list[str] = []

    class Here(CPUAccelerator):
        def setup_device(self, device: torch.device) -> None:
            events.append(f"set up {device}")

    class Moves(Numbers):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            events.append(f"move to {args[0]}")
            return super().to(*args, **kwargs)

        def configure_optimizers(self) -> Any:
            events.append("configure_optimizers")
            return super().configure_optimizers()

    accelerator = Here()
    trainer = Trainer(
        accelerator=accelerator, max_epochs=1, logger=False, default_root_dir=tmp_path, registered_callbacks=False
    )
    trainer.fit(Moves(), batches(1))
    assert events == ["set up cpu", "move to cpu", "configure_optimizers"]
    assert trainer.accelerator is accelerator


# Names of precisions


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *((name, name) for name in ("64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")),
        *((64, "64-true"), ("64", "64-true"), (32, "32-true"), ("32", "32-true"), (None, "32-true")),
        *((16, "16-mixed"), ("16", "16-mixed"), ("bf16", "bf16-mixed")),
    ],
    ids=repr,
)
def test_a_precision_goes_by_its_name_or_a_short_form(given: Any, name: str) -> None:
    assert Precision(given).name == name


@pytest.mark.parametrize("given", ["32-mixed", "bf16-ture", "", 8, 16.0, True, torch.float16, ["32-true"]], ids=repr)
def test_another_precision_is_an_error_that_lists_those_there_are(given: Any) -> None:
    names = '"64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"'
    with pytest.raises(MisconfigurationError, match=f"is not known. Use one of {names}"):
        Precision(given)


def test_32_true_hands_back_what_it_was_given() -> None:
    precision, batch, loss = Precision(), {"x": torch.ones(2, dtype=F64)}, torch.ones(())

    def step() -> None: ...

    assert precision.around(step) is step
    assert precision.convert_input(batch) is batch
    assert precision.scale(loss) is loss
    assert (precision.converts_inputs, precision.state_dict()) == (False, {})
    module = torch.nn.Linear(1, 1).double()
    precision.convert_module(module)
    assert module.weight.dtype == F64


# What each precision does


class Kind(NamedTuple):
    """A row of the table: what a step sees."""

    name: str
    weights: torch.dtype
    inputs: torch.dtype
    default: torch.dtype
    autocast: torch.dtype | None
    output: torch.dtype


KINDS = [
    Kind("64-true", weights=F64, inputs=F64, default=F64, autocast=None, output=F64),
    Kind("32-true", weights=F32, inputs=F32, default=F32, autocast=None, output=F32),
    Kind("16-true", weights=F16, inputs=F16, default=F16, autocast=None, output=F16),
    Kind("bf16-true", weights=BF16, inputs=BF16, default=BF16, autocast=None, output=BF16),
    Kind("16-mixed", weights=F32, inputs=F32, default=F32, autocast=F16, output=F16),
    Kind("bf16-mixed", weights=F32, inputs=F32, default=F32, autocast=BF16, output=BF16),
]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

Batch = dict[str, Any]


def batches(count: int, device: str = "cpu") -> DataLoader[Any]:
    """Batches of four samples with three features, a target, a whole number, a truth and a name for each."""
    generator = torch.Generator().manual_seed(3)
    samples = [
        {
            "x": torch.randn(3, generator=generator),
            "y": torch.randn(1, generator=generator),
            "nested": [torch.randn(2, generator=generator), torch.tensor(index)],
            "wave": torch.complex(torch.randn(2, generator=generator), torch.ones(2)),
            "flag": torch.tensor(index % 2 == 0),
            "name": f"sample {index}",
        }
        for index in range(4 * count)
    ]
    return DataLoader(samples, batch_size=4)  # type: ignore[arg-type]


def autocast_dtype() -> torch.dtype | None:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


class Numbers(LightningModule):
    """A small network whose steps write down in what they compute."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.layer = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.scale: torch.Tensor
        self.counts: torch.Tensor
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("counts", torch.zeros(1, dtype=torch.int64))
        self.steps: list[str] = []
        self.seen: set[tuple[Any, ...]] = set()
        self.losses: list[torch.Tensor] = []

    def loss(self, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = (self.layer(batch["x"]) * self.scale - batch["y"]).pow(2).mean()
        return loss

    def step(self, name: str, batch: Batch) -> torch.Tensor:
        loss = self.loss(batch)
        self.steps.append(name)
        self.seen.add(
            (
                self.layer[0].weight.dtype,
                batch["x"].dtype,
                torch.get_default_dtype(),
                autocast_dtype(),
                self.layer(batch["x"]).dtype,
            )
        )
        assert [part.dtype for part in batch["nested"]] == [batch["x"].dtype, torch.int64]
        assert (batch["wave"].dtype, batch["flag"].dtype) == (torch.complex64, torch.bool)
        assert batch["name"][0].startswith("sample")
        assert self.dtype == self.scale.dtype == self.layer[0].weight.dtype
        assert self.counts.dtype == torch.int64
        self.losses.append(loss.detach())
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self.step("training", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.step("validation", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.step("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self.step("predict", batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def precise(tmp_path: Path, kind: Kind, callbacks: list[Callback] | None = None) -> Trainer:
    return make_trainer(tmp_path, callbacks or [], precision=kind.name, max_epochs=1, num_sanity_val_steps=1)


@EVERY_KIND
def test_every_step_computes_in_the_numbers_of_the_table(kind: Kind, tmp_path: Path) -> None:
    module = Numbers()
    trainer = precise(tmp_path, kind)
    assert trainer.precision == kind.name
    trainer.fit(module, batches(2), batches(1))
    trainer.validate(module, batches(1), verbose=False)
    trainer.test(module, batches(1), verbose=False)
    trainer.predict(module, batches(1))
    assert module.steps == ["validation", "training", "training", "validation", "validation", "test", "predict"]
    assert module.seen == {(kind.weights, kind.inputs, kind.default, kind.autocast, kind.output)}
    assert all(torch.isfinite(loss) for loss in module.losses)
    # The numbers of a module are its own: they stay what training made of them.
    assert module.dtype == kind.weights


@EVERY_KIND
def test_a_loader_that_is_in_another_precision_than_the_weights_is_converted_and_nothing_else_is(
    kind: Kind, tmp_path: Path
) -> None:
    seen: list[torch.dtype] = []

    class Looks(Numbers):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            seen.append(batch["x"].dtype)
            loss: torch.Tensor = self.layer(batch["x"].to(self.dtype)).mean()
            return loss

    double = [{"x": torch.ones(2, 3, dtype=F64)}]
    precise(tmp_path, kind).fit(Looks(), DataLoader(double, batch_size=None))  # type: ignore[arg-type]
    assert seen == [kind.weights if kind.name.endswith("-true") and kind.name != "32-true" else F64]


@EVERY_KIND
def test_hooks_around_a_step_run_in_the_numbers_of_the_program(kind: Kind, tmp_path: Path) -> None:
    seen: set[tuple[torch.dtype, torch.dtype | None]] = set()
    heard: list[str] = []

    class Looks(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            self.look("start")

        def on_before_backward(self, *args: Any) -> None:
            self.look("backward")

        def on_before_optimizer_step(self, *args: Any) -> None:
            self.look("optimizer")

        def on_validation_batch_end(self, *args: Any) -> None:
            self.look("validation")

        def look(self, name: str) -> None:
            heard.append(name)
            seen.add((torch.get_default_dtype(), autocast_dtype()))

    precise(tmp_path, kind, [Looks()]).fit(Numbers(), batches(1), batches(1))
    assert heard == ["validation", "start", "backward", "optimizer", "validation"]
    assert seen == {(F32, None)}


@EVERY_KIND
@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step", "predict_step"])
def test_an_error_in_a_step_leaves_the_program_in_its_numbers(kind: Kind, step: str, tmp_path: Path) -> None:
    class Fails(Numbers):
        pass

    def fail(self: Fails, batch: Batch, batch_idx: int) -> None:
        assert torch.get_default_dtype() == kind.default
        raise RuntimeError("planted")

    setattr(Fails, step, fail)
    trainer, module = precise(tmp_path, kind), Fails()
    run: dict[str, Callable[[], object]] = {
        "training_step": lambda: trainer.fit(module, batches(1)),
        "validation_step": lambda: trainer.validate(module, batches(1)),
        "test_step": lambda: trainer.test(module, batches(1)),
        "predict_step": lambda: trainer.predict(module, batches(1)),
    }
    with pytest.raises(RuntimeError, match="planted"):
        run[step]()
    assert torch.get_default_dtype() == F32
    assert autocast_dtype() is None


@pytest.mark.parametrize("name", ["64-true", "16-true", "bf16-true"])
def test_complex_weights_and_buffers_keep_their_imaginary_part(name: str, tmp_path: Path) -> None:
    class Waves(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.wave: torch.Tensor
            self.register_buffer("wave", torch.tensor([1 + 2j]))
            self.phases = torch.nn.ParameterList([torch.tensor([3 - 4j])])

    module = Waves()
    make_trainer(tmp_path, [], precision=name).validate(module, batches(1), verbose=False)
    assert module.layer[0].weight.dtype != F32
    assert module.wave.is_complex()
    assert module.phases[0].is_complex()
    assert (module.wave.item(), module.phases[0].item()) == (1 + 2j, 3 - 4j)


# The numbers themselves, against loops that are written out


def weights_of(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def loop(kind: Kind, epochs: int) -> list[torch.Tensor]:
    """The same training in plain PyTorch."""
    module = Numbers()
    if kind.autocast is None:
        module.layer.to(kind.weights)
        module.scale = module.scale.to(kind.weights)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(epochs):
        for batch in batches(3):
            x, y = batch["x"].to(kind.inputs), batch["y"].to(kind.inputs)
            with torch.autocast("cpu", dtype=kind.autocast or BF16, enabled=kind.autocast is not None):
                loss = module.loss({"x": x, "y": y})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return weights_of(module)


@EVERY_KIND
def test_training_equals_a_loop_that_is_written_out_bit_for_bit(kind: Kind, tmp_path: Path) -> None:
    module = Numbers()
    make_trainer(tmp_path, [], precision=kind.name, max_epochs=4).fit(module, batches(3))
    trained = weights_of(module)
    expected = loop(kind, epochs=4)
    assert {weight.dtype for weight in trained} == {kind.weights}
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(trained, expected, strict=True))
    # The kinds differ from each other, so that equality says something.
    others = [loop(other, epochs=4) for other in KINDS if other is not kind]
    assert not any(torch.equal(trained[0].double(), other[0].double()) for other in others)


def test_half_precision_on_the_cpu_is_not_scaled(tmp_path: Path) -> None:
    module = Numbers()
    losses: list[torch.Tensor] = []

    class Looks(Callback):
        def on_before_backward(self, trainer: TrainerView, pl_module: LightningModule, loss: torch.Tensor) -> None:
            losses.append(loss.detach())

    make_trainer(tmp_path, [Looks()], precision="16-mixed", max_epochs=1).fit(module, batches(2))
    assert len(losses) == 2
    assert losses == module.losses
    assert Precision("16-mixed", "cpu").state_dict() == {}


def test_a_strategy_object_brings_its_precision(tmp_path: Path) -> None:
    strategy = SingleDeviceStrategy(CPU, CPUAccelerator(), precision_plugin=Precision("64-true"))
    module = Numbers()
    trainer = Trainer(
        strategy=strategy, max_epochs=1, logger=False, default_root_dir=tmp_path, registered_callbacks=False
    )
    trainer.fit(module, batches(1))
    assert (trainer.precision, trainer.device, module.dtype) == ("64-true", CPU, F64)
