"""The two callbacks that are ready to use: when they unfreeze what, at which rate, and what they refuse."""

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from hookloop import Callback, LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyModule
from hookloop.testing.cost import added_calls
from hookloop.testing.runs import Subject
from hookloop_callbacks_finetuning import BackboneFinetuning, GradualUnfreezing, Unfreeze

if TYPE_CHECKING:
    from finetuning_nets import Net, Watch, fit, seeded
else:
    from .finetuning_nets import Net, Watch, fit, seeded


def sgd(net: Net) -> Any:
    return torch.optim.SGD(net.learning(), lr=0.8)


def rates(watch: Watch) -> list[list[float]]:
    """Of all groups, in each epoch."""
    return [
        [group["lr"] for group in seen["optimizers"][0]["param_groups"]]
        for (_, batches), seen in watch.seen.items()
        if batches == 1
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [0.08, 0.16, 0.32, 0.64, 0.8]),
        ({"should_align": False}, [0.08, 0.16, 0.32, 0.64, 1.28]),
        ({"backbone_initial_ratio_lr": 0.5}, [0.4, 0.8, 0.8, 0.8, 0.8]),
        ({"backbone_initial_lr": 0.2, "should_align": False}, [0.2, 0.4, 0.8, 1.6, 3.2]),
        ({"backbone_initial_ratio_lr": None, "initial_denom_lr": 4.0}, [0.2, 0.4, 0.8, 0.8, 0.8]),
        # Epochs 2, 3, 4 and 5, each with its index plus 1.
        ({"lambda_func": lambda epoch: epoch / 2, "should_align": False}, [0.08, 0.12, 0.24, 0.6, 1.8]),
    ],
)
def test_the_backbones_rate_grows_from_epoch_to_epoch(arguments: dict[str, Any], expected: list[float]) -> None:
    watch = Watch()

    fit([BackboneFinetuning(1, train_bn=False, **arguments), watch], seeded(sgd), max_epochs=6)

    assert [len(one) for one in rates(watch)] == [1, 2, 2, 2, 2, 2]
    assert [one[1] for one in rates(watch)[1:]] == pytest.approx(expected)
    assert [one[0] for one in rates(watch)] == [0.8] * 6


def test_a_backbone_that_the_optimizer_has_already_leaves_the_heads_rate_alone() -> None:
    watch = Watch()

    with pytest.warns(
        UserWarning, match="4 of 4 parameters that are to get a group of their own are in the SGD already"
    ):
        fit(
            [BackboneFinetuning(1, train_bn=False), watch],
            seeded(lambda net: torch.optim.SGD(net.parameters(), lr=0.8)),
        )

    assert rates(watch) == [[0.8]] * 4
    norms = {"backbone.0.1.weight", "backbone.0.1.bias", "backbone.1.1.weight", "backbone.1.1.bias"}
    assert {name for name, on in watch.seen[1, 1]["requires_grad"].items() if not on} == norms


def test_rates_are_printed_if_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="hookloop"):
        fit(BackboneFinetuning(1, train_bn=False, verbose=True, rounding=2), seeded(sgd), max_epochs=3)
        fit(GradualUnfreezing({1: "backbone.?"}, verbose=True, rate_decay=0.5), seeded(sgd), max_epochs=2)

    assert [text for text in caplog.messages if "rate" in text] == [
        "Epoch 1: the learning rate is 0.8, of the backbone 0.08.",
        "Epoch 2: the learning rate is 0.8, of the backbone 0.16.",
        "backbone.0, backbone.1: unfrozen, at a learning rate of 0.4.",
    ]


def test_of_several_optimizers_the_first_one_gets_the_backbone() -> None:
    class Two(Net):
        automatic_optimization = False

        def __init__(self, optimize: Any) -> None:
            super().__init__(optimize)
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(nn.functional.mse_loss(self(batch[0]), batch[1]))
                optimizer.step()

    def both(net: Net) -> Any:
        return [torch.optim.SGD([net.head.weight], lr=0.1), torch.optim.SGD([net.head.bias], lr=0.1)]

    for callback in (BackboneFinetuning(1, train_bn=False), GradualUnfreezing({1: "backbone.?"})):
        watch = Watch()
        fit([callback, watch], seeded(both, kind=Two), max_epochs=2, validate=False)
        assert [len(groups) for groups in watch.seen[1, 1]["groups"]] == [2, 1]


def test_a_schedule_unfreezes_by_epochs_and_steps_at_its_own_rates() -> None:
    schedule: list[Mapping[str, Any] | Unfreeze] = [
        Unfreeze(("backbone.1.0",), epoch=1),
        {"modules": ["backbone.0.1", "backbone.1.1"], "step": 2, "lr": 0.3},
        {"modules": "*.0.0", "step": 5, "ratio": 0.5},
    ]
    watch = Watch()

    fit([GradualUnfreezing(schedule, rate_decay=0.5), watch], seeded(sgd))

    def learning(moment: tuple[int, int]) -> list[str]:
        return [name for name, on in watch.seen[moment]["requires_grad"].items() if on]

    head, norms = ["head.weight", "head.bias"], ["backbone.0.1.weight", "backbone.0.1.bias"]
    norms_too = [*norms, "backbone.1.1.weight", "backbone.1.1.bias"]
    assert learning((0, 1)) == head
    assert learning((0, 2)) == [*norms_too, *head]
    assert learning((1, 1)) == [*norms, "backbone.1.0.weight", "backbone.1.0.bias", *norms_too[2:], *head]
    assert len(learning((1, 2))) == 10
    assert watch.seen[1, 2]["groups"] == [
        [head, norms_too, ["backbone.1.0.weight", "backbone.1.0.bias"], ["backbone.0.0.weight", "backbone.0.0.bias"]]
    ]
    assert rates(watch)[-1] == pytest.approx([0.8, 0.3, 0.8 * 0.5, 0.8 * 0.5])


def test_what_is_due_before_the_first_step_learns_in_it() -> None:
    watch = Watch()
    schedule = [{"modules": "backbone.0", "epoch": 0}, {"modules": "backbone.1", "step": 0}]

    fit([GradualUnfreezing(schedule), watch], seeded(sgd))

    assert all(watch.seen[0, 1]["requires_grad"].values())
    # What waits for a step comes when training starts, what waits for an epoch when that begins.
    assert rates(watch)[0] == pytest.approx([0.8, 0.8 / 2.6**2, 0.8 / 2.6])


def test_rates_fall_with_depth_as_in_the_paper() -> None:
    watch = Watch()

    fit([GradualUnfreezing({1: "backbone.1", 2: "backbone.0"}), watch], seeded(sgd))

    assert rates(watch)[-1] == pytest.approx([0.8, 0.8 / 2.6, 0.8 / 2.6 / 2.6])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("head", r"GradualUnfreezing\(schedule='head'\): a schedule is a dict from epochs to names of modules"),
        ([], "is empty: name at least one module"),
        (["head"], "'head' cannot be a line of it: a line is a dict with some of modules, epoch, step, lr, ratio"),
        ([{"module": "head", "epoch": 1}], "'module' is not known, .* Did you mean \"modules\"?"),
        ([{"epoch": 1}], '"modules" must be a name of a module'),
        ({1: []}, '"modules" must be a name of a module'),
        ([{"modules": "head"}], 'it needs one of "epoch" and "step", and not both'),
        ([{"modules": "head", "epoch": 1, "step": 2}], 'it needs one of "epoch" and "step", and not both'),
        ({-1: "head"}, '"epoch" and "step" are whole numbers of at least 0'),
        ([{"modules": "head", "step": 1.5}], '"epoch" and "step" are whole numbers of at least 0'),
        ([{"modules": "head", "step": 1, "lr": 0}], '"lr" and "ratio" are numbers above 0'),
        (
            [{"modules": "head", "step": 1, "lr": 1, "ratio": 1}],
            'it has "lr" and "ratio", and one of them says the rate',
        ),
    ],
)
def test_a_schedule_that_cannot_be_read_is_an_error(schedule: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        GradualUnfreezing(schedule)


def test_a_decay_that_is_none_is_an_error() -> None:
    with pytest.raises(MisconfigurationError, match=r"GradualUnfreezing\(rate_decay=0\): it must be a number above 0"):
        GradualUnfreezing({1: "head"}, rate_decay=0)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({1: "bckbone.0"}, r"'bckbone.0' matches no module\. Did you mean 'backbone.0'\? .* backbone.0.0, .*, head\.$"),
        ({1: "backbone.0.2"}, r"'backbone.0.2' matches backbone.0.2 alone, which has no parameters\."),
        (
            {1: "backbone", 2: "backbone.0.0"},
            r"backbone.0.0.weight is unfrozen by two lines, backbone \(epoch 1\) and back",
        ),
        ({1: "backbone.*", 2: "head"}, r"freezes all parameters of Net, .* The parts are: backbone, head\.$"),
    ],
)
def test_a_schedule_that_does_not_fit_the_module_is_an_error(schedule: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        fit(GradualUnfreezing(schedule))


class Tied(Net):
    def __init__(self, optimize: Any) -> None:
        super().__init__(optimize)
        self.decoder = nn.Linear(6, 6)
        self.decoder.weight = self.get_parameter("backbone.1.0.weight")


def test_a_parameter_that_a_frozen_part_shares_with_a_learning_one_is_an_error() -> None:
    names = r"backbone.1.0.weight and decoder.weight are one parameter, which Tied uses in the part that is frozen"
    with pytest.raises(MisconfigurationError, match=rf"^BackboneFinetuning: {names}"):
        fit(BackboneFinetuning(), seeded(kind=Tied))
    with pytest.raises(MisconfigurationError, match=rf"^GradualUnfreezing\(schedule\): {names}"):
        fit(GradualUnfreezing({1: "backbone.1"}), seeded(kind=Tied))
    with pytest.raises(
        MisconfigurationError, match=r"decoder.weight \(which is backbone.1.0.weight too\) is unfrozen by two"
    ):
        fit(GradualUnfreezing({1: "backbone.1", 2: "decoder"}), seeded(kind=Tied))
    fit(GradualUnfreezing({1: ["backbone.1", "decoder"]}), seeded(kind=Tied), max_epochs=2)


class Headless(LightningModule):
    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        if backbone is not None:
            self.backbone = backbone

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (None, r"Headless has no backbone\. Its parts are: layer\. Give it a torch.nn.Module of that name"),
        ("resnet", r"Headless has a backbone that is a str\."),
        (nn.Identity(), r"Headless.backbone has no parameters, so there is nothing to freeze"),
    ],
)
def test_a_module_without_a_backbone_is_told_what_it_has(backbone: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        fit(BackboneFinetuning(), Headless(backbone), validate=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unfreeze_backbone_at_epoch": -1}, r"\(unfreeze_backbone_at_epoch=-1\): it must be the index of an epoch"),
        ({"unfreeze_backbone_at_epoch": 1.5}, r"\(unfreeze_backbone_at_epoch=1.5\): it must be the index of an epoch"),
        ({"lambda_func": 2.0}, r"\(lambda_func=2.0\): it must be a function of an epoch's index"),
        ({"backbone_initial_ratio_lr": 0}, r"\(backbone_initial_ratio_lr=0\): it must be a number above 0, or None"),
        ({"backbone_initial_lr": "fast"}, r"\(backbone_initial_lr='fast'\): it must be a number above 0, or None"),
        ({"initial_denom_lr": None}, r"\(initial_denom_lr=None\): it must be a number above 0\."),
        ({"rounding": -1}, r"\(rounding=-1\): it must be a number of digits"),
    ],
)
def test_an_argument_out_of_range_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        BackboneFinetuning(**arguments)


def test_copies_and_pickles_that_are_made_in_a_run_belong_to_none() -> None:
    made: list[GradualUnfreezing] = []

    class Copies(Watch):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            made.append(copy.deepcopy(trainer.callbacks[0]))
            made.append(pickle.loads(pickle.dumps(trainer.callbacks[0])))

    fit([GradualUnfreezing([{"modules": "backbone.1", "step": 2}]), Copies()], max_epochs=1)

    assert [one.done for one in made] == [set(), set(), {0}, {0}, {0}, {0}]
    assert [len(one.state_dict()["layout"]["groups"][0]) for one in made] == [1, 1, 2, 2, 2, 2]


def test_it_costs_nothing_in_a_step_and_two_calls_where_it_waits_for_one(tmp_path: Path) -> None:
    def cost(callback: type[Callback], *arguments: Any) -> float:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return added_calls(Subject(lambda: callback(*arguments), folder, changes_training=True))

    by_hand = cost(FreezesByHand)  # what is frozen saves calls of the optimizer
    assert by_hand < 0
    assert cost(GradualUnfreezing, {9: "net.0"}) == by_hand
    assert cost(GradualUnfreezing, [{"modules": "net.0", "step": 10**6}]) == by_hand + 2


def test_it_costs_a_look_at_each_batch_norm_where_a_module_chooses_modes_itself(tmp_path: Path) -> None:
    class Chooses(TinyModule):
        def on_validation_model_train(self) -> None:
            self.train()

    def cost(callback: type[Callback], *arguments: Any) -> float:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        subject = Subject(lambda: callback(*arguments), folder, changes_training=True, module=Chooses)
        return added_calls(subject)

    assert cost(GradualUnfreezing, {9: "net.0"}) == cost(FreezesByHand) + 5  # it has one


class FreezesByHand(Callback):
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.net[0].requires_grad_(False)
