"""Small helpers for scripts and callbacks: memory, shared parameters, operations, workers, overridden methods."""

import os
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule
from hookloop.batches import extract_batch_size, recursive_detach
from hookloop.errors import MisconfigurationError
from hookloop.hook_checks import is_overridden
from hookloop.loaders.worker_count import suggested_max_num_workers
from hookloop.memory import (
    garbage_collection_cuda,
    is_cuda_out_of_memory,
    is_cudnn_snafu,
    is_oom_error,
    is_out_of_cpu_memory,
)
from hookloop.profilers.flops import measure_flops
from hookloop.tied_parameters import find_shared_parameters, set_shared_parameters

# Memory

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.79 GiB total capacity)"
CUDNN = "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError(CUDA), is_cuda_out_of_memory),
        (torch.cuda.OutOfMemoryError("Allocation on device 0 would exceed the limit"), is_cuda_out_of_memory),
        (RuntimeError(CUDNN), is_cudnn_snafu),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), is_out_of_cpu_memory),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), is_out_of_cpu_memory),
    ],
)
def test_an_error_says_which_memory_ran_out(error: BaseException, kind: Any) -> None:
    assert is_oom_error(error)
    kinds = (is_cuda_out_of_memory, is_cudnn_snafu, is_out_of_cpu_memory)
    assert [one for one in kinds if one(error)] == [kind]


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert"), ValueError(CUDA), RuntimeError(), KeyError(3)]
)
def test_other_errors_are_not_about_memory(error: BaseException) -> None:
    assert not is_oom_error(error)


def test_torch_itself_says_so_when_a_tensor_does_not_fit() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_oom_error(caught.value)


class Cycle:
    """Two that refer to each other, so that only the collector frees them."""

    alive = 0

    def __init__(self) -> None:
        Cycle.alive += 1
        self.other = self

    def __del__(self) -> None:
        Cycle.alive -= 1


def test_collecting_frees_what_nobody_refers_to() -> None:
    Cycle()
    garbage_collection_cuda()
    assert Cycle.alive == 0


def test_detaching_goes_through_every_container_and_leaves_the_rest() -> None:
    weight = torch.ones(2, requires_grad=True)
    given: dict[str, Any] = {"loss": weight * 2, "more": [weight * 3, (weight * 4, "text")], "n": 5}
    found = recursive_detach(given)
    assert not found["loss"].requires_grad
    assert [found["loss"].tolist(), found["more"][0].tolist(), found["more"][1][0].tolist()] == [[2, 2], [3, 3], [4, 4]]
    assert not found["more"][0].requires_grad
    assert (found["more"][1][1], found["n"]) == ("text", 5)
    assert given["loss"].requires_grad
    assert found["loss"].data_ptr() == given["loss"].data_ptr()
    assert recursive_detach(weight, to_cpu=True).device.type == "cpu"


def test_the_size_of_a_batch_is_that_of_its_first_tensor() -> None:
    assert extract_batch_size([{"x": torch.ones(3, 2), "y": torch.ones(3)}]) == 3
    assert extract_batch_size(torch.tensor(1.0)) == 1
    with pytest.raises(MisconfigurationError, match="batch size cannot be told"):
        extract_batch_size({"x": "text"})


# Shared parameters


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.decoder = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
        self.decoder[0].weight = self.encoder.weight
        self.decoder[1].weight = self.encoder.weight
        self.head = nn.Linear(2, 2)
        self.tail = nn.Linear(2, 2)
        self.tail.bias = self.head.bias


GROUPS = [["encoder.weight", "decoder.0.weight", "decoder.1.weight"], ["head.bias", "tail.bias"]]


def test_shared_parameters_are_found_by_all_their_names() -> None:
    assert find_shared_parameters(Tied()) == GROUPS
    assert find_shared_parameters(nn.Linear(2, 2)) == []


def test_a_module_used_twice_shares_all_it_has() -> None:
    layer = nn.Linear(1, 1)
    assert find_shared_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == [
        ["0.weight", "2.weight"],
        ["0.bias", "2.bias"],
    ]


def test_parameters_that_were_torn_apart_are_tied_again() -> None:
    module = Tied()
    for name in ("decoder.0", "decoder.1"):
        layer: Any = module.get_submodule(name)
        layer.weight = nn.Parameter(layer.weight.detach().clone())
    assert find_shared_parameters(module) == GROUPS[1:]

    assert set_shared_parameters(module, GROUPS) is module

    assert find_shared_parameters(module) == GROUPS
    assert module.decoder[1].weight is module.encoder.weight


def test_a_name_that_the_module_does_not_have_is_an_error_and_nothing_is_tied() -> None:
    module = Tied()
    with pytest.raises(MisconfigurationError, match=r"Tied has no parameter 'decoder\.9\.weight'\. It has encoder"):
        set_shared_parameters(module, [["head.weight", "tail.weight"], ["encoder.weight", "decoder.9.weight"]])
    assert find_shared_parameters(module) == GROUPS


# Operations


def test_operations_of_a_product_are_two_for_each_multiplication() -> None:
    with torch.device("meta"):
        model = nn.Linear(32, 64, bias=False)
        x = torch.randn(8, 32)
    forward = 2 * 8 * 32 * 64
    assert measure_flops(model, lambda: model(x)) == forward
    # The input needs no gradient: backward is the product for the weight alone.
    assert measure_flops(model, lambda: model(x), lambda out: out.sum()) == 2 * forward


def test_counting_leaves_gradients_as_they_were() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[5.0, 6.0]])
    measure_flops(model, lambda: model(torch.ones(1, 2)), lambda out: out.sum())
    assert model.weight.grad.tolist() == [[5.0, 6.0]]
    assert model.bias.grad is None


@pytest.mark.parametrize("arguments", [{"forward_fn": 3}, {"forward_fn": lambda: torch.ones(()), "loss_fn": 3}])
def test_what_is_counted_has_to_be_a_function(arguments: dict[str, Any]) -> None:
    name = list(arguments)[-1]
    with pytest.raises(MisconfigurationError, match=rf"measure_flops\({name}=3\): pass a function"):
        measure_flops(nn.Linear(1, 1), **arguments)


# Workers


def test_workers_share_the_cores_and_leave_one_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert [suggested_max_num_workers(processes) for processes in (1, 2, 3, 8, 16, 99)] == [15, 7, 4, 1, 1, 1]


def test_where_the_system_does_not_tell_its_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert suggested_max_num_workers(2) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert suggested_max_num_workers(1) == 1


@pytest.mark.parametrize("given", [0, -1, 1.0, True, "1"], ids=repr)
def test_a_number_of_processes_is_needed(given: Any) -> None:
    with pytest.raises(MisconfigurationError, match="pass the number of training processes on this machine, 1 or more"):
        suggested_max_num_workers(given)


# Overridden methods


class Module(LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> None: ...


class Data(LightningDataModule):
    def train_dataloader(self) -> list[int]:
        return [1]


@pytest.mark.parametrize(
    ("name", "instance", "expected"),
    [
        ("training_step", Module(), True),
        ("validation_step", Module(), False),
        ("train_dataloader", Data(), True),
        ("val_dataloader", Data(), False),
        ("on_fit_start", LambdaCallback(on_fit_start=lambda *_: None), True),
        ("on_fit_end", LambdaCallback(on_fit_start=lambda *_: None), False),
        ("on_fit_end", Callback(), False),
        ("training_step", None, False),
    ],
)
def test_a_method_of_ones_own_is_told_from_the_inherited_one(name: str, instance: object, expected: bool) -> None:
    assert is_overridden(name, instance) is expected


def test_the_parent_can_be_given() -> None:
    class Child(Module): ...

    assert is_overridden("training_step", Child())
    assert not is_overridden("training_step", Child(), parent=Module)
    assert is_overridden("forward", nn.Linear(1, 1), parent=nn.Module)


def test_without_a_parent_or_its_method_there_is_nothing_to_override() -> None:
    with pytest.raises(MisconfigurationError, match=r"a Linear is no LightningModule.*Pass the class.*parent=\.\.\."):
        is_overridden("forward", nn.Linear(1, 1))
    with pytest.raises(MisconfigurationError, match="LightningModule has no such method"):
        is_overridden("trainig_step", Module())
