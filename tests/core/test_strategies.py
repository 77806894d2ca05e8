"""`Strategy`: what the loops and callbacks ask of it, whoever it is that answers."""

from typing import Any

import pytest
import torch
from torch import nn

from hookloop.accelerators import CPUAccelerator
from hookloop.batches import move_data_to_device
from hookloop.errors import MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies import SingleDeviceStrategy

CPU, META = torch.device("cpu"), torch.device("meta")


class Anywhere(CPUAccelerator):
    """Takes the device "meta" too, which computes nothing and is on every machine."""

    def setup_device(self, device: torch.device) -> None:
        pass


def strategy(device: torch.device = CPU, precision: str = "32-true") -> SingleDeviceStrategy:
    return SingleDeviceStrategy(device, Anywhere(), precision_plugin=Precision(precision))


class TwoRanks:
    """What the second of two processes says to each other, with the first one's answers made up."""

    global_rank, local_rank, world_size = 1, 0, 2

    def __init__(self, other: bool = False) -> None:
        self.other = other
        self.asked: list[tuple[Any, ...]] = []

    def barrier(self, name: str | None = None) -> None:
        self.asked.append(("barrier", name))

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        self.asked.append(("broadcast", obj, src))
        return ("of rank", src)

    def reduce(self, tensor: torch.Tensor, reduce_op: str = "mean") -> torch.Tensor:
        self.asked.append(("reduce", tensor.tolist(), reduce_op))
        return tensor * 2

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack([tensor, tensor])

    def any(self, decision: bool) -> bool:
        return decision or self.other


def with_ranks(ranks: TwoRanks) -> SingleDeviceStrategy:
    made = strategy()
    made.collectives = ranks
    return made


# Ranks


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("other", [True, False])
def test_a_decision_is_taken_by_all_ranks_or_by_any(own: bool, other: bool) -> None:
    # `any` of the collectives is asked for what was decided, or for its opposite.
    assert with_ranks(TwoRanks(other)).reduce_boolean_decision(own, all=False) is (own or other)
    assert with_ranks(TwoRanks(not other)).reduce_boolean_decision(own, all=True) is (own and other)
    assert with_ranks(TwoRanks(not other)).reduce_boolean_decision(own) is (own and other)


def test_ranks_are_asked_under_the_names_that_callbacks_know() -> None:
    ranks = TwoRanks()
    made = with_ranks(ranks)
    made.barrier()
    made.barrier("saved")
    assert made.broadcast("path") == ("of rank", 0)
    assert made.broadcast("path", src=1) == ("of rank", 1)
    assert made.reduce(torch.tensor([1.0])).tolist() == [2.0]
    assert made.reduce(torch.tensor([1.0]), reduce_op="sum").tolist() == [2.0]
    assert made.all_gather(torch.ones(3)).shape == (2, 3)
    assert not made.is_global_zero
    assert ranks.asked == [
        *(("barrier", None), ("barrier", "saved"), ("broadcast", "path", 0), ("broadcast", "path", 1)),
        *(("reduce", [1.0], "mean"), ("reduce", [1.0], "sum")),
    ]


def test_one_process_is_alone() -> None:
    made = strategy()
    tensor = torch.arange(3.0)
    assert made.is_global_zero
    assert made.broadcast(tensor, src=0) is tensor
    assert made.reduce(tensor) is tensor
    assert made.all_gather(tensor).tolist() == [[0.0, 1.0, 2.0]]
    assert [made.reduce_boolean_decision(decision) for decision in (True, False)] == [True, False]
    assert [made.reduce_boolean_decision(decision, all=False) for decision in (True, False)] == [True, False]


# Clipping


def with_gradients(*gradients: list[float]) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """An optimizer with a group for each list of gradients, and a parameter that has none."""
    parameters = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    groups = [{"params": [parameter]} for parameter in [*parameters, nn.Parameter(torch.zeros(1))]]
    return torch.optim.SGD(groups, lr=0.1), parameters


def gradients_of(parameters: list[nn.Parameter]) -> list[list[float]]:
    return [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None]


@pytest.mark.parametrize(
    ("arguments", "clipped"),
    [
        # The norm of 3, 4 and 12 is 13.
        ((6.5, "norm"), [[1.5, 2.0], [6.0]]),
        ((6.5,), [[1.5, 2.0], [6.0]]),
        ((13.0,), [[3.0, 4.0], [12.0]]),
        ((100, "norm"), [[3.0, 4.0], [12.0]]),
        ((3.5, "value"), [[3.0, 3.5], [3.5]]),
        ((1, "value"), [[1.0, 1.0], [1.0]]),
        ((None, "norm"), [[3.0, 4.0], [12.0]]),
        ((0, "norm"), [[3.0, 4.0], [12.0]]),
        ((0.0, "value"), [[3.0, 4.0], [12.0]]),
    ],
    ids=repr,
)
def test_gradients_are_clipped_over_all_groups(arguments: tuple[Any, ...], clipped: list[list[float]]) -> None:
    optimizer, parameters = with_gradients([3.0, 4.0], [12.0])
    strategy().clip_gradients(optimizer, *arguments)
    assert gradients_of(parameters) == [pytest.approx(gradient, rel=1e-5) for gradient in clipped]


@pytest.mark.parametrize("value", [1.0, None])
def test_another_algorithm_is_refused_whatever_the_value(value: float | None) -> None:
    optimizer, parameters = with_gradients([3.0])
    with pytest.raises(MisconfigurationError, match=r"gradient_clip_algorithm='median' is not known\. Use \"norm\""):
        strategy().clip_gradients(optimizer, value, "median")
    assert gradients_of(parameters) == [[3.0]]


# Batches and weights


@pytest.mark.parametrize(
    ("device", "precision", "moves"),
    [(CPU, "32-true", False), (CPU, "bf16-mixed", False), (CPU, "64-true", True), (META, "32-true", True)],
)
def test_batches_move_where_the_device_or_the_precision_asks_for_it(
    device: torch.device, precision: str, moves: bool
) -> None:
    made = strategy(device, precision)
    assert made.moves_batches is moves
    batch = made.to_device({"x": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)})
    assert {part.device for part in batch.values()} == {device}
    assert batch["x"].dtype == (torch.float64 if precision == "64-true" else torch.float32)
    assert batch["n"].dtype == torch.int64


def test_a_module_is_placed_in_its_precision_and_released_as_it_is() -> None:
    made, module = strategy(precision="64-true"), nn.Linear(1, 1)
    made.place(module)
    assert (module.weight.dtype, module.weight.device) == (torch.float64, CPU)
    weight = module.weight
    made.release(module)
    assert module.weight is weight


def test_a_module_on_another_device_is_brought_back() -> None:
    class Notes(nn.Linear):
        brought_back = 0

        def cpu(self) -> Any:
            self.brought_back += 1
            return self

    module = Notes(1, 1)
    made = strategy(META)
    made.place(module)
    assert module.weight.device == META
    made.release(module)
    assert module.brought_back == 1
    on_the_cpu = Notes(1, 1)
    strategy().release(on_the_cpu)
    assert on_the_cpu.brought_back == 0


def test_weights_go_out_and_come_in_by_their_names() -> None:
    made, one, two = strategy(), nn.Linear(1, 1), nn.Linear(1, 1)
    state = made.module_state_dict(one)
    assert list(state) == ["weight", "bias"]
    made.load_module_state_dict(two, state)
    assert torch.equal(one.weight, two.weight)
    del state["bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        made.load_module_state_dict(two, state)
    made.load_module_state_dict(two, state, strict=False)


def test_nothing_of_a_batch_is_lost_on_the_way() -> None:
    batch = {"name": "a", "x": [torch.ones(1)], "none": None}
    there = strategy(META).to_device(batch)
    assert (there["name"], there["none"]) == ("a", None)
    assert there["x"][0].device == move_data_to_device(batch, META)["x"][0].device == META
