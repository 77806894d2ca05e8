"""What the kinds of devices answer to the questions that Lightning's users ask them."""

import os
from typing import Any

import pytest
import torch

from hookloop.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator, find_usable_cuda_devices
from hookloop.errors import MisconfigurationError

CPU = torch.device("cpu")


def test_names_and_counts_are_asked_of_the_class() -> None:
    assert (CPUAccelerator.name(), CPUAccelerator.is_available(), CPUAccelerator.auto_device_count()) == (
        "cpu",
        True,
        1,
    )
    assert (CUDAAccelerator.name(), CUDAAccelerator.is_available()) == ("cuda", torch.cuda.is_available())
    assert CUDAAccelerator.auto_device_count() == CUDAAccelerator.device_count() == torch.cuda.device_count()


def test_devices_of_cuda_are_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    given = [2, "3", "1,3", [0, 2], -1]
    assert [CUDAAccelerator.parse_devices(one) for one in given] == [
        *([0, 1], [0, 1, 2], [1, 3], [0, 2], [0, 1, 2, 3]),
    ]
    with pytest.raises(MisconfigurationError, match=r"devices=\[4\] asks for more than the 4 cuda device\(s\)"):
        CUDAAccelerator.parse_devices([4])


@pytest.mark.parametrize(("given", "processes"), [(1, 1), ("2", 2), (3, 3), ([0, 2], 2), (-1, 4)], ids=repr)
def test_devices_of_the_cpu_count_processes(
    monkeypatch: pytest.MonkeyPatch, given: int | str | list[int], processes: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert CPUAccelerator.parse_devices(given) == processes
    assert CPUAccelerator.get_parallel_devices(given) == [CPU] * processes


def test_more_processes_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with pytest.raises(MisconfigurationError, match=r"devices=5 asks for more than the 4 cpu device\(s\)"):
        CPUAccelerator.parse_devices(5)


@pytest.mark.parametrize(
    ("accelerator", "device", "name"),
    [(CPUAccelerator(), "cuda:0", "CPUAccelerator"), (CUDAAccelerator(), "cpu", "CUDAAccelerator")],
    ids=["cpu", "cuda"],
)
def test_an_accelerator_refuses_a_device_of_another_kind(accelerator: Accelerator, device: str, name: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"^{name} was given the device {device}\\. Use that device's own"):
        accelerator.setup_device(torch.device(device))


def cuda_machine(monkeypatch: pytest.MonkeyPatch, held: set[int], count: int = 4) -> None:
    """A machine with CUDA devices, some of which other processes hold."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    def zeros(size: tuple[int, ...], device: torch.device) -> None:
        assert (device.type, size) == ("cuda", ())
        if device.index in held:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch, "zeros", zeros)


@pytest.mark.parametrize(
    ("number", "held", "usable"),
    [(-1, set(), [0, 1, 2, 3]), (2, set(), [0, 1]), (2, {0, 2}, [1, 3]), (-1, {1, 2, 3}, [0]), (0, {0, 1, 2, 3}, [])],
    ids=["all", "two", "two that are free", "all that are free", "none"],
)
def test_devices_that_others_hold_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, number: int, held: set[int], usable: list[int]
) -> None:
    cuda_machine(monkeypatch, held)
    assert find_usable_cuda_devices(number) == usable


@pytest.mark.parametrize(
    ("number", "held", "count", "message"),
    [
        (5, set(), 4, r"5 CUDA device\(s\) were asked for, and torch .* finds 4 on this machine"),
        (-1, set(), 0, r"CUDA devices were asked for, and torch .* finds 0 on this machine"),
        (3, {0, 1}, 4, r"of the 4 CUDA device\(s\) of this machine, only \[2, 3\] can be used now"),
        (-1, {0, 1}, 2, r"only \[\] can be used now; other processes hold the rest"),
        (-2, set(), 4, "pass a number of devices, or -1"),
        (True, set(), 4, "pass a number of devices, or -1"),
        ("1", set(), 4, "pass a number of devices, or -1"),
    ],
    ids=["too many", "none there", "too few free", "none free", "negative", "bool", "text"],
)
def test_what_cannot_be_found_is_told(
    monkeypatch: pytest.MonkeyPatch, number: Any, held: set[int], count: int, message: str
) -> None:
    cuda_machine(monkeypatch, held, count)
    with pytest.raises(MisconfigurationError, match=rf"^find_usable_cuda_devices\({number!r}\): .*{message}"):
        find_usable_cuda_devices(number)
