"""What is pruned: exactly as much as was asked for, and what torch.nn.utils.prune prunes in a plain loop."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from hookloop import Callback, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing.cost import added_calls
from hookloop.testing.runs import Subject
from hookloop_callbacks_pruning import ModelPruning, SparsityRamp

if TYPE_CHECKING:
    from pruning_nets import BATCHES, Net, Watch, data, fit, loader, look, masks, zeros
else:
    from .pruning_nets import BATCHES, Net, Watch, data, fit, loader, look, masks, zeros


def in_a_plain_loop(prune_it: Callable[[Net, int], None], epochs: int = 3) -> Net:
    """The same training by hand: what `Net` says, and nothing of hookloop's."""
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05, weight_decay=0.01)
    torch.manual_seed(4)
    x, y = data().tensors
    for epoch in range(epochs):
        for batch in range(BATCHES):
            chosen = slice(4 * batch, 4 * batch + 4)
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x[chosen]), y[chosen]).backward()
            optimizer.step()
        with torch.no_grad():
            net(x)  # an evaluation, as loops have one: it computes what is pruned from the last step's weights
        torch.manual_seed(epoch)
        prune_it(net, epoch)
    return net


class Seeds(Callback):
    """What a Trainer draws for itself has no part in what is pruned at random."""

    order = Order.FIRST

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        torch.manual_seed(trainer.current_epoch)


class Smallest(prune.BasePruningMethod):
    """A method of a user's: the elements that are closest to minus one."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        mask = default_mask.clone()
        count = self.amount if isinstance(self.amount, int) else round(self.amount * t.nelement())
        if count:
            mask.view(-1)[torch.topk((t + 1).abs().view(-1), k=count, largest=False).indices] = 0
        return mask

    @classmethod
    def apply(cls, module: nn.Module, name: str, amount: float) -> Any:  # type: ignore[override]
        return super().apply(module, name, amount=amount)  # type: ignore[no-untyped-call]


def both_weights(net: Net) -> list[tuple[nn.Module, str]]:
    return [(net.body, "weight"), (net.head, "weight")]


def globally(kind: Any, net: Net, epoch: int) -> None:
    prune.global_unstructured(both_weights(net), pruning_method=kind, amount=0.3)


def locally(function: Any, net: Net, epoch: int) -> None:
    for module, name in both_weights(net):
        function(module, name=name, amount=0.3)


def halves_it(module: nn.Module, name: str, amount: float) -> None:
    prune.l1_unstructured(module, name, amount=amount / 2)


WAYS: dict[str, tuple[dict[str, Any], Callable[[Net, int], None]]] = {
    "global, by name": ({"pruning_fn": "l1_unstructured"}, partial(globally, prune.L1Unstructured)),
    "global, at random": ({"pruning_fn": "random_unstructured"}, partial(globally, prune.RandomUnstructured)),
    "global, by class": ({"pruning_fn": Smallest}, partial(globally, Smallest)),
    "local, by name": (
        {"pruning_fn": "L1_unstructured", "use_global_unstructured": False},
        partial(locally, prune.l1_unstructured),
    ),
    "local, by class": ({"pruning_fn": Smallest, "use_global_unstructured": False}, partial(locally, Smallest.apply)),
    "local, by function": ({"pruning_fn": halves_it, "use_global_unstructured": False}, partial(locally, halves_it)),
    "rows": (
        {"pruning_fn": "random_structured", "use_global_unstructured": False, "pruning_dim": 1},
        partial(locally, partial(prune.random_structured, dim=1)),
    ),
    "columns": (
        {"pruning_fn": "ln_structured", "use_global_unstructured": False, "pruning_dim": -1, "pruning_norm": 1},
        partial(locally, partial(prune.ln_structured, n=1, dim=-1)),
    ),
    "structured, by class": (
        {"pruning_fn": prune.RandomStructured, "use_global_unstructured": False, "pruning_dim": 1},
        partial(locally, partial(prune.random_structured, dim=1)),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_masks_and_weights_are_those_of_a_plain_loop(way: str) -> None:
    arguments, prune_it = WAYS[way]
    watch = Watch()
    callback = ModelPruning(amount=0.3, parameter_names=["weight"], use_lottery_ticket_hypothesis=False, **arguments)

    net = fit([Seeds(), callback, watch]).lightning_module

    expected = in_a_plain_loop(prune_it)
    assert set(watch.seen[2, 4]["masks"]) == {"body.weight", "head.weight"}
    for name, mask in masks(expected).items():
        assert torch.equal(watch.seen[2, 4]["masks"][name], mask)
    for module, name in both_weights(expected):
        prune.remove(module, name)
    assert net is not None
    for name, value in expected.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)


def test_a_lottery_ticket_is_trained_anew_from_its_first_weights() -> None:
    watch, first = Watch(), {name: one.clone() for name, one in Net().state_dict().items()}

    fit([ModelPruning("l1_unstructured", ["*.weight"], amount=0.3), watch])

    def rewound(net: Net, epoch: int) -> None:
        globally(prune.L1Unstructured, net, epoch)
        with torch.no_grad():
            for module, path in ((net.body, "body.weight"), (net.head, "head.weight")):
                module.get_parameter("weight_orig").copy_(first[path])

    expected = in_a_plain_loop(rewound)
    for name, mask in masks(expected).items():
        assert torch.equal(watch.seen[2, 4]["masks"][name], mask)
        assert torch.equal(watch.seen[2, 4]["parameters"][f"{name}_orig"], first[name])
    assert torch.equal(watch.seen[2, 4]["parameters"]["body.bias"], expected.body.bias)


def test_initial_weights_can_be_drawn_anew() -> None:
    watch = Watch()
    fit([ModelPruning("l1_unstructured", ["body.weight"], resample_parameters=True), watch], max_epochs=2)

    drawn = [watch.seen[epoch, 4]["parameters"]["body.weight_orig"] for epoch in (0, 1)]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], Net().body.weight)
    assert all(one.abs().max() <= 0.5 for one in drawn)  # a Linear with 4 inputs begins with at most 1 / sqrt(4)


@pytest.mark.parametrize("amount", [0.25, 8])
def test_it_prunes_what_it_is_asked_to_of_what_is_left(amount: float) -> None:
    watch = Watch()
    callback = ModelPruning("l1_unstructured", ["body.weight"], amount=amount, use_lottery_ticket_hypothesis=False)
    net = fit([callback, watch], max_epochs=2).lightning_module

    assert net is not None
    assert [int((watch.seen[epoch, 4]["masks"]["body.weight"] == 0).sum()) for epoch in (0, 1)] == (
        [8, 8 + 6] if amount == 0.25 else [8, 16]
    )
    assert int((net.get_parameter("body.weight") == 0).sum()) == (14 if amount == 0.25 else 16)


def test_functions_say_how_much_and_whether() -> None:
    asked: list[int] = []

    def amount(epoch: int) -> int:
        asked.append(epoch)
        return 4 * epoch

    watch = Watch()
    fit(
        [
            ModelPruning(
                *("random_unstructured", ["body.weight"]),
                amount=amount,
                apply_pruning=lambda epoch: epoch != 2,
                use_lottery_ticket_hypothesis=lambda epoch: epoch == 3,
            ),
            watch,
        ],
        max_epochs=4,
    )

    assert asked == [0, 1, 3]
    counts = [sum(int((one == 0).sum()) for one in watch.seen[epoch, 4]["masks"].values()) for epoch in range(4)]
    assert counts == [0, 4, 4, 16]
    first = Net().body.weight
    assert [torch.equal(watch.seen[epoch, 4]["parameters"]["body.weight_orig"], first) for epoch in (1, 3)] == [
        *(False, True)
    ]


def test_a_ramp_reaches_each_share_to_the_element() -> None:
    def share(step: int) -> float:  # Zhu and Gupta's formula, from 10% at step 2 to 80% at step 8
        done = min(max((step - 2) / 6, 0), 1)
        return 0.8 + (0.1 - 0.8) * (1 - done) ** 3

    counts: list[int] = []

    class Counts(Callback):
        order = Watch.order

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            counts.append(sum(zeros(pl_module).values()))

    ramp = SparsityRamp(0.8, begin=2, end=8, initial=0.1)
    callback = ModelPruning("l1_unstructured", amount=ramp, every_n_steps=1, use_lottery_ticket_hypothesis=False)
    net = fit([callback, Counts()], max_epochs=4).lightning_module

    every = 32 + 8 + 8 + 1
    assert counts == [round(share(step) * every) for step in range(1, 4 * BATCHES + 1)]
    assert net is not None
    assert sum(int((one == 0).sum()) for one in net.parameters()) == round(0.8 * every)


def test_a_ramp_of_channels_counts_channels() -> None:
    watch = Watch()
    callback = ModelPruning(
        *("ln_structured", ["body.weight"]),
        use_global_unstructured=False,
        amount=SparsityRamp(0.75, end=2, power=1),
        pruning_dim=0,
        pruning_norm=float("inf"),
    )
    fit([callback, watch])

    kept = [watch.seen[epoch, 4]["masks"].get("body.weight", torch.ones(8, 4)).sum(dim=1) for epoch in range(3)]
    assert [int((one == 0).sum()) for one in kept] == [0, 3, 6]
    assert [int((one == 4).sum()) for one in kept] == [8, 5, 2]


def test_it_prunes_by_steps_and_not_inside_a_window() -> None:
    watch = Watch()
    callback = ModelPruning(
        "l1_unstructured", ["body.weight"], amount=2, every_n_steps=2, use_lottery_ticket_hypothesis=False
    )
    fit([callback, watch], accumulate_grad_batches=2)

    counts = [sum(int((one == 0).sum()) for one in seen["masks"].values()) for seen in watch.seen.values()]
    # Windows of 2 and 1 batches: two steps in an epoch.
    assert counts == [*(0, 0, 2, 2, 2), *(2, 2, 4, 4, 4), *(4, 4, 6, 6, 6)]


def test_a_validation_inside_a_fit_prunes_and_no_other() -> None:
    watch = Watch()
    callback = ModelPruning("l1_unstructured", ["body.weight"], amount=2, prune_on_train_epoch_end=False)
    fit([callback, watch], max_epochs=1, val_check_interval=1)

    assert sum(int((one == 0).sum()) for one in watch.seen[0, 4]["masks"].values()) == 2 * BATCHES
    before = {name: one.clone() for name, one in Net().state_dict().items()}
    net = Net()
    Trainer(callbacks=callback, accelerator="cpu", registered_callbacks=False, logger=False).validate(net, loader())
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_pruning_chooses_by_the_weights_after_the_last_step() -> None:
    seen: dict[str, Tensor] = {}

    class Looks(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.update({name: one.clone() for name, one in look(trainer, pl_module)["parameters"].items()})

    watch = Watch()
    callback = ModelPruning("l1_unstructured", ["body.weight"], amount=8, use_lottery_ticket_hypothesis=False)
    fit([Looks(), callback, watch], max_epochs=2, limit_val_batches=0)

    mask, original = watch.seen[1, 4]["masks"]["body.weight"], seen["body.weight_orig"]
    before = watch.seen[1, 1]["masks"]["body.weight"]
    left = original.abs()[before == 1].sort().values
    chosen = original.abs()[(before == 1) & (mask == 0)].sort().values
    assert torch.equal(chosen, left[:8])


def test_a_subclass_can_leave_tensors_out() -> None:
    class NoHead(ModelPruning):
        def filter_parameters_to_prune(self, parameters_to_prune: Any = ()) -> Any:
            return [(module, name) for module, name in parameters_to_prune if module.out_features != 1]

    watch = Watch()
    fit([NoHead("l1_unstructured"), watch], max_epochs=1)

    assert set(watch.seen[0, 4]["masks"]) == {"body.weight", "body.bias"}


def test_memory_does_not_grow_with_the_number_of_prunings() -> None:
    class CountsHooks(Callback):
        order = Watch.order

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            hooks = list(pl_module.body._forward_pre_hooks.values())
            assert [type(hook) for hook in hooks] == [prune.CustomFromMask]

    fit([ModelPruning("l1_unstructured", ["body.weight"], amount=1, every_n_steps=1), CountsHooks()])


def test_it_reports_how_much_is_pruned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="hookloop"):
        fit(ModelPruning("l1_unstructured", ["*.weight"], amount=10, verbose=1), max_epochs=2)
        fit(
            ModelPruning(halves_it, ["body.weight"], amount=0.5, use_global_unstructured=False, verbose=2), max_epochs=1
        )

    assert [text for text in caplog.messages if "prune" in text or "before" in text] == [
        "l1_unstructured has pruned 10: 0 of 40 (0.00%) before, 10 of 40 (25.00%) now.",
        "l1_unstructured has pruned 10: 10 of 40 (25.00%) before, 20 of 40 (50.00%) now.",
        "halves_it has pruned 0.5: 0 of 32 (0.00%) before, 8 of 32 (25.00%) now.",
        "  body.weight: 0 of 32 (0.00%) before, 8 of 32 (25.00%) now.",
    ]


def test_copies_and_pickles_that_are_made_in_a_run_belong_to_none() -> None:
    made: list[ModelPruning] = []

    class Copies(Watch):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            made.append(copy.deepcopy(trainer.callbacks[0]))
            made.append(pickle.loads(pickle.dumps(trainer.callbacks[0])))

    fit([ModelPruning("l1_unstructured", ["body.weight"], amount=4), Copies()], max_epochs=1)

    assert [int((~one.state_dict()["masks"]["body.weight"]).sum()) for one in made] == [4, 4]


@pytest.mark.parametrize("averages", ["its family", "StochasticWeightAveraging", "WeightAveraging"])
def test_averages_of_weights_are_refused(averages: str) -> None:
    members: dict[str, Any] = {"family": "weight_averaging"} if averages == "its family" else {}
    kind = type(averages.replace(" ", ""), (Callback,), {"__module__": "hookloop_callbacks_swa.any", **members})

    with pytest.raises(MisconfigurationError, match=r"ModelPruning \(.*\) cannot be in a run with "):
        fit([ModelPruning("l1_unstructured"), kind()])


def test_what_it_costs_in_a_step(tmp_path: Path) -> None:
    def cost(**arguments: Any) -> float:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        callback = lambda: ModelPruning("l1_unstructured", ["net.0.weight"], **arguments)  # noqa: E731
        return added_calls(Subject(callback, folder, changes_training=True))

    assert cost() == 0  # until something is pruned
    assert cost(every_n_steps=10**6) == 2
