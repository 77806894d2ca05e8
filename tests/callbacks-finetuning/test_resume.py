"""A run that is stopped and resumed is the run that was never stopped: what learns, groups, optimizers, weights."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import Optimizer

from hookloop import Callback, LightningModule
from hookloop.errors import CheckpointError
from hookloop.testing.equality import difference
from hookloop_callbacks_finetuning import BackboneFinetuning, BaseFinetuning, GradualUnfreezing

if TYPE_CHECKING:
    from finetuning_nets import BATCHES, Net, Optimize, StoppedError, Watch, adam, fit, loader, look, seeded
else:
    from .finetuning_nets import BATCHES, Net, Optimize, StoppedError, Watch, adam, fit, loader, look, seeded

EPOCHS = 4


class ByHand(BaseFinetuning):
    """Unfreezes in epoch 1, freezes a part again in epoch 2, and puts a parameter into the first group in epoch 3."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        self.freeze(pl_module.backbone, train_bn=False)

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        first, second = pl_module.get_submodule("backbone.0"), pl_module.get_submodule("backbone.1")
        if epoch == 1:
            self.unfreeze_and_add_param_group(second, optimizer, lr=0.01)
        if epoch == 2:
            self.freeze(second, train_bn=False)
        if epoch == 3:
            self.make_trainable(first)
            optimizer.param_groups[0]["params"].extend(self.filter_on_optimizer(optimizer, first.parameters()))


CALLBACKS: dict[str, Callable[[], Callback]] = {
    "a backbone": lambda: BackboneFinetuning(1),
    "a backbone without its batch norms": lambda: BackboneFinetuning(1, train_bn=False, should_align=False),
    "by epochs": lambda: GradualUnfreezing({1: "backbone.1", 2: "backbone.0"}),
    "by steps": lambda: GradualUnfreezing(
        [{"modules": "backbone.1", "step": 4, "lr": 0.01}, {"modules": "backbone.0.*", "step": 8}]
    ),
    "by hand": ByHand,
}

MOMENTS = [(epoch, batches) for epoch in range(EPOCHS) for batches in range(1, BATCHES + 2)]


def resumed_runs_are_the_same(
    make: Callable[[], Callback], optimize: Optimize, moments: list[tuple[int, int]], folder: Path, **arguments: Any
) -> None:
    whole = Watch()
    fit([make(), whole], seeded(optimize), EPOCHS, **arguments)
    assert list(whole.seen) == MOMENTS
    for moment in moments:
        path = folder / "stopped.ckpt"
        with pytest.raises(StoppedError):
            fit([make(), Watch(moment, path)], seeded(optimize), EPOCHS, **arguments)
        resumed = Watch()
        torch.manual_seed(99)
        fit([make(), resumed], Net(optimize), EPOCHS, path, **arguments)
        later = {key: seen for key, seen in whole.seen.items() if key > moment}
        assert difference(resumed.seen, later, f"after {moment}") is None


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    resumed_runs_are_the_same(CALLBACKS[name], adam, MOMENTS[:-1], tmp_path)


@pytest.mark.parametrize("name", ["a backbone", "by steps"])
def test_also_inside_an_accumulation_window(name: str, tmp_path: Path) -> None:
    resumed_runs_are_the_same(CALLBACKS[name], adam, MOMENTS[2:9], tmp_path, accumulate_grad_batches=2)


def plain(kind: Callable[..., Optimizer], **arguments: Any) -> Optimize:
    return lambda net: kind(net.learning(), lr=0.02, **arguments)


def with_all_parameters(net: Net) -> Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=0.1)


def with_names(net: Net) -> Optimizer:
    return torch.optim.AdamW([(name, one) for name, one in net.named_parameters() if one.requires_grad], lr=0.02)


def with_two_groups(net: Net) -> Optimizer:
    head: list[dict[str, Any]] = [
        {"params": [net.head.weight]},
        {"params": [net.head.bias], "lr": 0.1, "weight_decay": 0.0},
    ]
    others = [one for name, one in net.named_parameters() if one.requires_grad and not name.startswith("head")]
    return torch.optim.NAdam([*head, *([{"params": others}] if others else [])], lr=0.02, weight_decay=0.1)


OPTIMIZERS: dict[str, Optimize] = {
    "SGD": plain(torch.optim.SGD, momentum=0.9, nesterov=True),
    "AdamW with amsgrad": plain(torch.optim.AdamW, amsgrad=True),
    "Adagrad": plain(torch.optim.Adagrad, initial_accumulator_value=0.1),
    **{
        kind.__name__: plain(kind)
        for kind in (
            *(torch.optim.Adadelta, torch.optim.Adafactor, torch.optim.Adamax, torch.optim.ASGD, torch.optim.NAdam),
            *(torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop),
        )
    },
    "one that has all parameters": with_all_parameters,
    "LBFGS": lambda net: torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=2),
    "one that knows names": with_names,
    "one with groups of its own": with_two_groups,
    "a rate in a tensor": lambda net: torch.optim.Adam(net.learning(), lr=torch.tensor(0.02), foreach=False),
}


@pytest.mark.filterwarnings("ignore:.*parameters that are to get a group of their own are in the")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_any_optimizer(name: str, tmp_path: Path) -> None:
    before_at_and_after = [(0, BATCHES + 1), (1, 1), (2, 2)]
    make = CALLBACKS["by epochs"]
    resumed_runs_are_the_same(make, OPTIMIZERS[name], before_at_and_after, tmp_path)


LR = torch.optim.lr_scheduler

SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda one: LR.LambdaLR(one, lambda step: 0.95**step),
    "MultiplicativeLR": lambda one: LR.MultiplicativeLR(one, lambda step: 0.95),
    "StepLR": lambda one: LR.StepLR(one, 2, gamma=0.5),
    "MultiStepLR": lambda one: LR.MultiStepLR(one, [3, 7], gamma=0.5),
    "ConstantLR": lambda one: LR.ConstantLR(one, 0.5, 7),
    "LinearLR": lambda one: LR.LinearLR(one, 0.1, total_iters=9),
    "ExponentialLR": lambda one: LR.ExponentialLR(one, 0.9),
    "PolynomialLR": lambda one: LR.PolynomialLR(one, 20),
    "CosineAnnealingLR": lambda one: LR.CosineAnnealingLR(one, 20),
    "CosineAnnealingWarmRestarts": lambda one: LR.CosineAnnealingWarmRestarts(one, 5),
    "CyclicLR": lambda one: LR.CyclicLR(one, 0.01, 0.1, step_size_up=4, cycle_momentum=False),
    "OneCycleLR": lambda one: LR.OneCycleLR(one, 0.1, total_steps=20),
    "SequentialLR": lambda one: LR.SequentialLR(
        one, [LR.LinearLR(one, 0.1, total_iters=5), LR.CosineAnnealingLR(one, 20)], milestones=[5]
    ),
    "ChainedScheduler": lambda one: LR.ChainedScheduler([LR.ConstantLR(one, 0.5, 7), LR.ExponentialLR(one, 0.9)]),
}


def stepped(scheduler: Callable[[Optimizer], Any], net: Net) -> Any:
    optimizer = torch.optim.SGD(net.learning(), lr=0.02)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler(optimizer), "interval": "step"}}


def unfrozen_inside() -> Callback:
    return GradualUnfreezing(
        [{"modules": "backbone.1", "step": 2, "ratio": 0.25}, {"modules": "backbone.0", "epoch": 2}]
    )


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_follow_new_groups_and_do_so_after_a_resume(name: str, tmp_path: Path) -> None:
    optimize = partial(stepped, SCHEDULERS[name])
    resumed_runs_are_the_same(unfrozen_inside, optimize, [(0, 1), (0, 3), (1, 2), (2, 1)], tmp_path)
    watch = Watch()
    fit([unfrozen_inside(), watch], seeded(optimize), EPOCHS)

    rates = [[group["lr"] for group in seen["optimizers"][0]["param_groups"]] for seen in watch.seen.values()]
    assert {len(one) for one in rates} == {1, 2, 3}
    assert len({one[0] for one in rates}) > 1  # the schedule does something
    for one in rates:
        assert one[1:] == pytest.approx([one[0] * 0.25, one[0] / 2.6**2][: len(one) - 1], rel=1e-9)


def test_a_plateau_scheduler_follows_too(tmp_path: Path) -> None:
    def optimize(net: Net) -> Any:
        optimizer = torch.optim.SGD(net.learning(), lr=0.02)
        plateau = LR.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val_loss"}

    resumed_runs_are_the_same(unfrozen_inside, optimize, [(0, 1), (1, 2), (2, 1)], tmp_path)
    watch = Watch()
    fit([unfrozen_inside(), watch], seeded(optimize), EPOCHS)
    # Nothing is ever better by a threshold of 10, so each epoch halves all rates, in its end.
    at_the_end_of_0 = [group["lr"] for group in watch.seen[0, 4]["optimizers"][0]["param_groups"]]
    assert at_the_end_of_0 == [0.02 / 2, 0.02 * 0.25 / 2]
    at_the_end = [group["lr"] for group in watch.seen[3, 4]["optimizers"][0]["param_groups"]]
    assert at_the_end == pytest.approx([0.02 / 16, 0.02 * 0.25 / 16, 0.02 / 4 / 2.6**2 / 4])


def test_a_second_fit_goes_on_with_what_the_first_has_unfrozen() -> None:
    callback, net = GradualUnfreezing({1: "backbone.1", 3: "backbone.0"}), seeded()
    trainer = fit(callback, net, max_epochs=2)
    assert [len(group["params"]) for group in trainer.optimizers[0].param_groups] == [2, 4]
    trainer.max_epochs = 3
    again = Watch()
    trainer.callbacks.append(again)

    trainer.fit(net, loader())

    seen = again.seen[2, 1]
    assert [len(names) for names in seen["groups"][0]] == [2, 4]
    assert seen["requires_grad"]["backbone.1.0.weight"]
    assert not seen["requires_grad"]["backbone.0.0.weight"]


def test_a_schedule_that_has_got_another_line_goes_on_with_what_it_has_done(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(StoppedError):
        fit([GradualUnfreezing({1: "backbone.1"}), Watch((1, 2), path)])
    watch = Watch()

    fit([GradualUnfreezing({3: "backbone.0", 1: "backbone.1"}), watch], checkpoint=path)

    assert [len(watch.seen[epoch, 3]["groups"][0]) for epoch in (1, 2, 3)] == [2, 2, 2]
    # What learned when the file was saved is not frozen again by a line that came later.
    assert watch.seen[1, 3]["requires_grad"]["backbone.0.0.weight"]


def test_a_fit_of_another_trainer_begins_anew() -> None:
    callback, net = BackboneFinetuning(1), seeded()
    fit(callback, net, max_epochs=2)
    watch = Watch()

    trainer = fit([callback, watch], net, max_epochs=1)

    assert not any(on for name, on in watch.seen[0, 1]["requires_grad"].items() if name.startswith("backbone.0.0"))
    assert len(trainer.optimizers[0].param_groups) == 1


def test_a_group_of_a_parameter_that_is_gone_is_told(tmp_path: Path) -> None:
    class Renamed(Net):
        def __init__(self, optimize: Optimize) -> None:
            super().__init__(optimize)
            self.head, self.top = torch.nn.Identity(), self.head  # type: ignore[assignment]
            self.strict_loading = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answers: torch.Tensor = self.top(self.backbone(x))
            return answers

    path = tmp_path / "stopped.ckpt"
    with pytest.raises(StoppedError):
        fit([BackboneFinetuning(1), Watch((1, 1), path)])
    with (
        pytest.warns(),
        pytest.raises(CheckpointError, match=r"group 0 of the Adam held .*head.weight.* Renamed has no"),
    ):
        fit(BackboneFinetuning(1), seeded(kind=Renamed), checkpoint=path)


def test_other_groups_than_those_of_the_saved_run_are_told(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(StoppedError):
        fit([BackboneFinetuning(9), Watch((1, 1), path)], seeded(plain(torch.optim.NAdam)))
    with pytest.raises(CheckpointError, match=r"the NAdam had 1 parameter group\(s\), and .* returned one with 3"):
        fit(BackboneFinetuning(9), seeded(with_two_groups), checkpoint=path)


def test_a_state_that_lightning_saved_brings_its_groups(tmp_path: Path) -> None:
    callback, net = BackboneFinetuning(1, train_bn=False), seeded()
    names = ["backbone.0.0.weight", "backbone.0.0.bias", "backbone.1.0.weight", "backbone.1.0.bias"]
    groups = [{"params": ["head.weight", "head.bias"], "lr": 0.02}, {"params": names, "lr": 0.004}]

    class Loads(Callback):
        def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None: ...

        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            state = {"internal_optimizer_metadata": {0: groups}, "previous_backbone_lr": 0.004}
            callback.load_state_dict(state)

    class Looks(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.seen = look(trainer, pl_module)

    looks = Looks()
    looks.order = Watch.order  # type: ignore[misc]
    loads = Loads()
    loads.order = Watch.order  # type: ignore[misc]
    fit([callback, loads, looks], net, max_epochs=1)

    assert looks.seen["groups"] == [[["head.weight", "head.bias"], names]]
    assert [group["lr"] for group in looks.seen["optimizers"][0]["param_groups"]] == [0.02, 0.004]
    assert [name for name, on in looks.seen["requires_grad"].items() if on] == [*names, "head.weight", "head.bias"]


def test_a_part_that_is_compiled_goes_on_where_it_is_not_and_the_other_way_round(tmp_path: Path) -> None:
    class Compiled(Net):
        def __init__(self, optimize: Optimize) -> None:
            super().__init__(optimize)
            self.backbone[0] = torch.compile(self.backbone[0], backend="eager")  # type: ignore[assignment]

    def make() -> Callback:
        return GradualUnfreezing({1: "backbone.0"})

    path, whole = tmp_path / "stopped.ckpt", Watch()
    fit([make(), whole], max_epochs=2)
    kinds: list[type[Net]] = [Net, Compiled]
    for saved, resumed in (kinds, kinds[::-1]):
        with pytest.raises(StoppedError):
            fit([make(), Watch((1, 1), path)], seeded(kind=saved), max_epochs=2)
        watch = Watch()
        fit([make(), watch], seeded(kind=resumed), max_epochs=2, checkpoint=path)
        found = watch.seen[1, 3]["weights"]
        for name, value in whole.seen[1, 3]["weights"].items():
            assert torch.equal({one.replace("_orig_mod.", ""): two for one, two in found.items()}[name], value)
