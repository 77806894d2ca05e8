"""Norms of gradients: their names, and their values against the definition."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Trainer
from hookloop.errors import MisconfigurationError
from hookloop.gradients import GradClipAlgorithmType, grad_norm


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 1)
        self.second = nn.Linear(1, 1, bias=False)
        self.unused = nn.Parameter(torch.zeros(3))


def with_gradients() -> Two:
    module = Two()
    module.first.weight.grad = torch.tensor([[3.0, -4.0]])
    module.first.bias.grad = torch.tensor([12.0])
    module.second.weight.grad = torch.tensor([[-84.0]])
    return module


@pytest.mark.parametrize(
    ("given", "norm", "weight", "total"),
    [
        (1, "1.0", 7.0, 103.0),
        (2, "2.0", 5.0, 85.0),
        (2.0, "2.0", 5.0, 85.0),
        ("2", "2.0", 5.0, 85.0),
        ("inf", "inf", 4.0, 84.0),
        (math.inf, "inf", 4.0, 84.0),
    ],
    ids=repr,
)
def test_each_gradient_has_its_norm_and_all_of_them_together(
    given: Any, norm: str, weight: float, total: float
) -> None:
    norms = grad_norm(with_gradients(), given)
    assert {name: value.item() for name, value in norms.items()} == {
        f"grad_{norm}_norm/first.weight": weight,
        f"grad_{norm}_norm/first.bias": 12.0,
        f"grad_{norm}_norm/second.weight": 84.0,
        f"grad_{norm}_norm_total": total,
    }
    assert list(norms)[-1] == f"grad_{norm}_norm_total"
    assert all(value.shape == () and not value.requires_grad for value in norms.values())


@pytest.mark.parametrize("order", [0.5, 1, 2, 3, math.inf])
def test_the_total_is_the_norm_of_all_gradients_as_one_vector(order: float) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    module(torch.rand(5, 3, dtype=torch.float64)).square().sum().backward()
    gradients = [parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
    together = torch.cat(gradients).abs()
    expected = together.max() if math.isinf(order) else together.pow(order).sum().pow(1 / order)

    total = grad_norm(module, order)[f"grad_{float(order)}_norm_total"]

    assert total.dtype == torch.float64
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_gradients_of_several_precisions_have_a_total_in_the_widest() -> None:
    module = with_gradients()
    module.second.to(torch.bfloat16)
    module.second.weight.grad = torch.tensor([[-84.0]], dtype=torch.bfloat16)
    norms = grad_norm(module, 2)
    assert norms["grad_2.0_norm/second.weight"].dtype == torch.bfloat16
    assert norms["grad_2.0_norm_total"].dtype == torch.float32
    assert norms["grad_2.0_norm_total"].item() == 85.0


def test_another_separator_can_stand_before_the_parameters_name() -> None:
    assert next(iter(grad_norm(with_gradients(), 2, group_separator="."))) == "grad_2.0_norm.first.weight"


def test_without_a_gradient_there_is_no_norm() -> None:
    assert grad_norm(Two(), 2) == {}


def test_the_gradients_are_left_as_they_are() -> None:
    module = with_gradients()
    before = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    grad_norm(module, 2)
    after = [p.grad for p in module.parameters()]
    assert all(one is other is None or torch.equal(one, other) for one, other in zip(before, after, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [0, -1, "-inf", math.nan, "many", None, [2]], ids=repr)
def test_a_norm_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"grad_norm\(norm_type=.*must be a positive number, or \"inf\""):
        grad_norm(with_gradients(), given)


def test_ways_to_clip_are_text_that_the_trainer_takes() -> None:
    assert (GradClipAlgorithmType.NORM, GradClipAlgorithmType.VALUE) == ("norm", "value")
    assert sorted(GradClipAlgorithmType.supported_types()) == ["norm", "value"]
    assert [GradClipAlgorithmType.supported_type(one) for one in ("norm", "value", "max")] == [True, True, False]
    trainer = Trainer(
        gradient_clip_val=1.0,
        gradient_clip_algorithm=GradClipAlgorithmType.VALUE,
        logger=False,
        registered_callbacks=False,
    )
    assert trainer.gradient_clip_algorithm == "value"
