"""Freezing beside what else a run may have: pruning by torch, gradient accumulation, a fit that fails."""

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.utils import prune

from hookloop.errors import MisconfigurationError
from hookloop_callbacks_finetuning import BackboneFinetuning, GradualUnfreezing

if TYPE_CHECKING:
    from finetuning_nets import Net, Watch, fit, seeded
else:
    from .finetuning_nets import Net, Watch, fit, seeded


class Pruned(Net):
    def __init__(self, optimize: Any) -> None:
        super().__init__(optimize)
        prune.l1_unstructured(self.get_submodule("backbone.0.0"), "weight", amount=8)


def test_what_torch_has_pruned_is_frozen_and_learns_on_time() -> None:
    watch = Watch()
    net = seeded(kind=Pruned)
    before = net.get_parameter("backbone.0.0.weight_orig").detach().clone()

    fit([GradualUnfreezing({1: "backbone"}), watch], net, max_epochs=2)

    name = "backbone.0.0.weight_orig"
    assert torch.equal(watch.seen[0, 4]["weights"][name], before)
    assert not torch.equal(watch.seen[1, 4]["weights"][name], before)
    assert name in watch.seen[1, 1]["groups"][0][1]


@pytest.mark.parametrize("kind", [BackboneFinetuning, GradualUnfreezing])
def test_a_callback_can_be_used_again_after_a_fit_that_failed(kind: type) -> None:
    def fails(net: Net) -> Any:
        raise MisconfigurationError("no optimizer")

    callback = BackboneFinetuning(1) if kind is BackboneFinetuning else GradualUnfreezing({1: "backbone"})
    net, watch = seeded(fails), Watch()
    with pytest.raises(MisconfigurationError, match="no optimizer"):
        fit(callback, net)
    assert net.get_submodule("backbone.0.1").training

    fit([callback, watch], seeded(), max_epochs=2)

    assert not watch.seen[0, 1]["requires_grad"]["backbone.0.0.weight"]
    assert watch.seen[1, 1]["requires_grad"]["backbone.0.0.weight"]


def test_an_unfreezing_in_the_middle_of_an_epoch_waits_for_the_end_of_a_window() -> None:
    watch = Watch()
    schedule = [{"modules": "backbone", "step": 1}]

    fit([GradualUnfreezing(schedule), watch], max_epochs=1, accumulate_grad_batches=2)

    learns = [seen["requires_grad"]["backbone.0.0.weight"] for seen in watch.seen.values()]
    assert learns == [False, True, True, True]
