"""A value of the CPU is read when it is logged; one of another device stays there as a copy. Both come to the same.

What stays on its device is told by `Tensor.is_cpu`. A mode of torch's answers False for every tensor here, so that the
values are kept as those of a GPU are.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

from hookloop import LightningModule, Trainer
from hookloop.metrics.accumulators import MOST_PENDING, accumulator

BATCHES = MOST_PENDING + 6
ON_THE_CPU = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
VALUES = [((7 * index) % 11) / 8 - 0.5 for index in range(BATCHES)]  # exact in every dtype
SIZES = [1 + index % 3 for index in range(BATCHES)]


class Elsewhere(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return False if func == ON_THE_CPU else func(*args, **(kwargs or {}))


@contextmanager
def elsewhere() -> Iterator[None]:
    with Elsewhere():
        yield


PLACES = pytest.mark.parametrize("place", [nullcontext, elsewhere], ids=["on the CPU", "elsewhere"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])


class Logging(LightningModule):
    def __init__(self, dtype: torch.dtype, values: list[float]) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.of_the_step: list[Tensor] = []
        self._dtype, self._values = dtype, values

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        value = torch.tensor(self._values[batch_idx], dtype=self._dtype)
        for name in ("mean", "sum", "min", "max"):
            self.log(name, value, on_step=True, on_epoch=True, reduce_fx=name, batch_size=SIZES[batch_idx])
        value += 100  # is not what was logged
        self.of_the_step.append(self.trainer.callback_metrics["mean_step"])
        loss: Tensor = self.layer(batch).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(place: Any, dtype: torch.dtype, values: list[float]) -> tuple[Logging, dict[str, Tensor]]:
    module = Logging(dtype, values)
    trainer = Trainer(max_epochs=1, logger=False, registered_callbacks=False)
    with place():
        trainer.fit(module, DataLoader(torch.ones(len(values), 1)))  # type: ignore[arg-type]
    return module, trainer.callback_metrics


@PLACES
@DTYPES
def test_step_values_and_reductions_are_tensors_with_the_exact_values(place: Any, dtype: torch.dtype) -> None:
    module, metrics = fitted(place, dtype, VALUES)

    wide = torch.promote_types(dtype, torch.float32)
    mean = math.fsum(value * size for value, size in zip(VALUES, SIZES, strict=True)) / sum(SIZES)
    assert all(torch.equal(*pair) for pair in zip(module.of_the_step, torch.tensor(VALUES, dtype=dtype), strict=True))
    for name, expected in {
        "mean": torch.tensor(mean, dtype=wide),
        "sum": torch.tensor(math.fsum(VALUES), dtype=wide),
        "min": torch.tensor(min(VALUES), dtype=dtype),
        "max": torch.tensor(max(VALUES), dtype=dtype),
    }.items():
        for key in (name, f"{name}_epoch"):
            assert metrics[key].dtype == expected.dtype, key
            assert torch.equal(metrics[key], expected), key
        assert metrics[f"{name}_step"].dtype == dtype


@PLACES
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_shows_in_step_and_mean(place: Any, bad: float) -> None:
    module, metrics = fitted(place, torch.float32, [0.5, bad, 0.25])

    torch.testing.assert_close(torch.stack(module.of_the_step), torch.tensor([0.5, bad, 0.25]), equal_nan=True)
    torch.testing.assert_close(metrics["mean_epoch"], torch.tensor(bad), equal_nan=True)


@PLACES
def test_a_key_that_is_logged_as_a_tensor_and_as_a_number_has_the_mean_of_both(place: Any) -> None:
    class Both(Logging):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            self.log("both", torch.tensor(1.0) if batch_idx % 2 else 0.5, on_step=True, on_epoch=True, batch_size=1)
            self.of_the_step.append(self.trainer.callback_metrics["both_step"])
            loss: Tensor = self.layer(batch).sum()
            return loss

    module = Both(torch.float32, [])
    trainer = Trainer(max_epochs=1, logger=False, registered_callbacks=False)
    with place():
        trainer.fit(module, DataLoader(torch.ones(4, 1)))  # type: ignore[arg-type]

    assert [value.item() for value in module.of_the_step] == [0.5, 1.0, 0.5, 1.0]
    assert torch.equal(trainer.callback_metrics["both_epoch"], torch.tensor(0.75))


@pytest.mark.parametrize("reduction", ["mean", "sum", "min", "max"])
@pytest.mark.parametrize("taken", [0, 1, MOST_PENDING - 1, MOST_PENDING, BATCHES - 1])
def test_a_reduction_on_a_device_goes_on_from_its_state_to_the_last_bit(reduction: str, taken: int) -> None:
    torch.manual_seed(0)
    values = list(torch.rand(BATCHES))
    straight, first, second = (accumulator(reduction) for _ in range(3))
    for value, size in zip(values, SIZES, strict=True):
        straight.update(value, size)
    for value, size in zip(values[:taken], SIZES[:taken], strict=True):
        first.update(value, size)

    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    for value, size in zip(values[taken:], SIZES[taken:], strict=True):
        second.update(value, size)

    expected, result = straight.compute(), second.compute()
    assert isinstance(expected, Tensor)
    assert isinstance(result, Tensor)
    assert torch.equal(result, expected)


def test_a_compiled_step_that_logs_stays_one_graph(tmp_path: Path) -> None:
    class Compiled(Logging):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            loss: Tensor = self.layer(batch).sum()
            self.log("loss", loss, on_step=True, on_epoch=True, batch_size=1)
            self.of_the_step.append(loss.detach())
            return loss

    module = Compiled(torch.float32, [])
    module.training_step = torch.compile(module.training_step, backend="eager", fullgraph=True)  # type: ignore[method-assign]
    trainer = Trainer(max_epochs=1, logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    trainer.fit(module, DataLoader(torch.ones(3, 1)))  # type: ignore[arg-type]

    expected = torch.stack(module.of_the_step)
    assert torch.equal(trainer.callback_metrics["loss_step"], expected[-1])
    torch.testing.assert_close(trainer.callback_metrics["loss_epoch"], expected.double().mean().float())
