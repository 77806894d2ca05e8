"""What `ModelPruning` refuses, and what it says then."""

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_pruning import ModelPruning, SparsityRamp

if TYPE_CHECKING:
    from pruning_nets import Net, fit
else:
    from .pruning_nets import Net, fit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"amount": 2.0},
            r"ModelPruning\(amount\) is 2.0: it must be a float from 0.0 to 1.0, .* or an int",
        ),
        ({"amount": -0.1}, r"ModelPruning\(amount\) is -0.1: it must be"),
        ({"amount": -1}, r"ModelPruning\(amount\) is -1: it must be"),
        ({"amount": True}, r"ModelPruning\(amount\) is True: it must be"),
        ({"amount": "half"}, r"ModelPruning\(amount\) is 'half': it must be"),
        ({"amount": float("nan")}, r"ModelPruning\(amount\) is nan: it must be"),
        (
            {"pruning_fn": "l3"},
            r"pruning_fn='l3'\) is none of torch.nn.utils.prune's: ln_structured, l1_",
        ),
        ({"pruning_fn": 3}, r"pruning_fn=3\): it must be one of .*, a subclass of BasePruningMethod, or a function"),
        ({"pruning_fn": nn.Linear}, r"it must be one of .*, a subclass of BasePruningMethod"),
        ({"pruning_fn": prune.Identity()}, r"pass the class Identity, not an instance of it"),
        ({"pruning_fn": "random_structured"}, r"'random_structured'\) prunes whole channels: say of which dimension"),
        ({"pruning_fn": "ln_structured", "pruning_dim": 0}, r"compares channels by a norm: pass pruning_norm"),
        ({"pruning_fn": "random_structured", "pruning_dim": 0}, r"tensors together, and random_structured does not"),
        (
            {"pruning_fn": prune.LnStructured},
            r"LnStructured \(PRUNING_TYPE = 'structured'\) does not\. Pass",
        ),
        ({"pruning_fn": prune.l1_unstructured}, r"and the function l1_unstructured does not\. Pass"),
        (
            {"pruning_fn": prune.RandomStructured, "use_global_unstructured": False},
            r"'RandomStructured'\) prunes whole channels: say of which dimension",
        ),
        ({"parameter_names": ["wieght"]}, r"parameter_names=\['wieght'\]\): a list of weight, bias is allowed"),
        ({"parameter_names": "weight"}, r"parameter_names='weight'\): a list of weight, bias is allowed"),
        ({"parameters_to_prune": "weight"}, r"parameters_to_prune='weight'\): it is a list of pairs \(module, name"),
        ({"parameters_to_prune": [nn.Linear(1, 1)]}, r"it is a list of pairs \(module, name of a parameter\)"),
        ({"apply_pruning": None}, r"apply_pruning=None\): True, False, or a function"),
        ({"use_lottery_ticket_hypothesis": 1}, r"use_lottery_ticket_hypothesis=1\): True, False, or a function"),
        ({"verbose": 3}, r"verbose=3\) must be 0, 1 or 2"),
        ({"every_n_steps": 0}, r"every_n_steps=0\) must be a number of steps"),
        (
            {"resample_parameters": True, "use_lottery_ticket_hypothesis": False},
            r"resample_parameters=True\) draws anew .* Set both, or neither",
        ),
    ],
)
def test_an_argument_that_cannot_be_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        ModelPruning(**{"pruning_fn": "l1_unstructured", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"final": 1.5, "end": 3}, r"SparsityRamp\(final=1.5, .* 0 <= initial <= final <= 1"),
        ({"final": 0.5, "end": 3, "initial": 0.6}, r"with 0 <= initial <= final <= 1"),
        ({"final": 0.5, "end": 0}, r"begin and end are epochs or steps, with 0 <= begin < end"),
        ({"final": 0.5, "end": 3.5}, r"begin and end are epochs or steps"),
        ({"final": 0.5, "end": 3, "power": 0}, r"power must be above 0"),
    ],
)
def test_a_ramp_that_does_not_rise_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        SparsityRamp(**arguments)


def test_a_name_that_matches_nothing_is_told_what_there_is() -> None:
    with pytest.raises(MisconfigurationError, match=r"'body.wieght' matches no parameter\. Did you mean 'body.weight'"):
        fit(ModelPruning("l1_unstructured", ["body.wieght"]))
    with pytest.raises(MisconfigurationError, match=r"Net has body.weight, body.bias, head.weight, head.bias\.$"):
        fit(ModelPruning("l1_unstructured", ["encoder.*"]))


def test_a_pair_that_is_not_in_the_module_is_an_error() -> None:
    net = Net()
    with pytest.raises(MisconfigurationError, match=r"a Linear of it is no part of the Net that is trained"):
        fit(ModelPruning("l1_unstructured", [(nn.Linear(4, 4), "weight")]), net)
    with pytest.raises(MisconfigurationError, match=r"a Linear of it has no parameter 'wieght'. It has weight, bias"):
        fit(ModelPruning("l1_unstructured", [(net.body, "wieght")]), net)
    fit(ModelPruning("l1_unstructured", [(net.body, "weight"), "body.*"]), net, max_epochs=1)
    assert int((net.body.weight == 0).sum() + (net.body.bias == 0).sum()) == 20


class Bare(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(4))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = (self.factor * batch[0]).sum()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:val_dataloaders were passed")
def test_nothing_to_prune_is_an_error() -> None:
    with pytest.raises(MisconfigurationError, match=r"no part of Bare has a parameter named weight or bias. It has"):
        fit(ModelPruning("l1_unstructured"), Bare())

    class Nothing(ModelPruning):
        def filter_parameters_to_prune(self, parameters_to_prune: Any = ()) -> Any:
            return []

    with pytest.raises(MisconfigurationError, match=r"^Nothing: there is nothing to prune: filter_parameters_to_prune"):
        fit(Nothing("l1_unstructured"))


@pytest.mark.filterwarnings("ignore:val_dataloaders were passed")
def test_a_parameter_of_the_module_itself_can_be_named() -> None:
    module = Bare()
    with pytest.raises(MisconfigurationError, match=r"factor is in a Bare, which has no reset_parameters\(\)"):
        fit(ModelPruning("l1_unstructured", ["factor"], resample_parameters=True), module)


def test_a_parameter_that_is_shared_is_an_error() -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(4, 8)
            self.other.weight = self.body.weight

    with pytest.raises(MisconfigurationError, match=r"body.weight and other.weight are one parameter, .* Untie them"):
        fit(ModelPruning("l1_unstructured"), Tied())


def test_channels_need_a_dimension_that_is_there() -> None:
    with pytest.raises(MisconfigurationError, match=r"body.weight has the shape \(8, 4\), so no such dimension"):
        fit(ModelPruning("random_structured", ["body.weight"], use_global_unstructured=False, pruning_dim=2))
    with pytest.raises(MisconfigurationError, match=r"body.bias has the shape \(8,\), and structured pruning takes"):
        fit(ModelPruning("random_structured", ["body.bias"], use_global_unstructured=False, pruning_dim=0))


def test_more_than_there_is_left_is_an_error() -> None:
    with pytest.raises(MisconfigurationError, match=r"30 of all 1 tensors together are to be pruned, and 2 are left"):
        fit(ModelPruning("l1_unstructured", ["body.weight"], amount=30))
    with pytest.raises(MisconfigurationError, match=r"5 of body.weight are to be pruned, and 3 are left"):
        fit(ModelPruning("random_structured", ["body.weight"], amount=5, use_global_unstructured=False, pruning_dim=0))


def test_a_function_that_returns_no_amount_is_an_error() -> None:
    with pytest.raises(MisconfigurationError, match=r"ModelPruning\(amount\), a function, returned for 0: 1.5: it"):
        fit(ModelPruning("l1_unstructured", amount=lambda epoch: 1.5))
