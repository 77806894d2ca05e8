"""What is frozen does not change by a bit, batch norms included, until it is to learn; and fit alone freezes."""

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_finetuning import BackboneFinetuning, BaseFinetuning, GradualUnfreezing

if TYPE_CHECKING:
    from finetuning_nets import BATCHES, Net, Watch, fit, loader, seeded
else:
    from .finetuning_nets import BATCHES, Net, Watch, fit, loader, seeded


def every_parameter(net: Net) -> Any:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def values(seen: dict[str, Any], part: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in seen["weights"].items() if name.startswith(part)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("ignore:.*parameters that are to get a group of their own")
@pytest.mark.parametrize("kind", [BackboneFinetuning, GradualUnfreezing])
def test_a_frozen_part_does_not_change_by_a_bit_until_it_should(kind: type[Callback]) -> None:
    net = seeded(every_parameter)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)  # of somebody before: a momentum would live on it
    before, watch = {name: one.clone() for name, one in net.state_dict().items()}, Watch()

    callback = (
        BackboneFinetuning(2, train_bn=False) if kind is BackboneFinetuning else GradualUnfreezing({2: "backbone"})
    )
    fit([callback, watch], net)

    start = {name: value for name, value in before.items() if name.startswith("backbone")}
    assert len(start) == 14  # means, variances and counts of batch norms too
    for moment, seen in watch.seen.items():
        assert same(values(seen, "backbone"), start) is (moment < (2, 1)), moment
        assert not same(values(seen, "head"), {name: one for name, one in before.items() if name.startswith("head")})


def module_of(trainer: Trainer) -> LightningModule:
    module = trainer.lightning_module
    assert module is not None
    return module


class TrainsEverything(Net):
    """Puts all its parts into train mode, as modules do that look at themselves in between."""

    def on_train_epoch_start(self) -> None:
        self.train()

    def on_validation_model_train(self) -> None:
        self.train()


@pytest.mark.parametrize("kind", [Net, TrainsEverything])
def test_batch_norms_of_frozen_parts_stay_in_eval_mode(kind: type[Net]) -> None:
    net = seeded(kind=kind)
    norms = [net.get_submodule("backbone.0.1"), net.get_submodule("backbone.1.1")]
    modes: list[tuple[bool, ...]] = []

    class LooksInside(Callback):
        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            modes.append(tuple(norm.training for norm in norms))

    fit([GradualUnfreezing({1: "backbone.1"}), LooksInside()], net, max_epochs=2, val_check_interval=1)
    assert modes == [(True, False)] * BATCHES + [(True, True)] * BATCHES
    modes.clear()

    fit([GradualUnfreezing({9: "backbone.?"}), LooksInside()], net, max_epochs=2, val_check_interval=1)

    assert modes == [(False, False)] * 2 * BATCHES
    assert [norm.training for norm in norms] == [True, True]  # after the fit, as before
    assert not any(norm._forward_pre_hooks for norm in norms)


def test_batch_norms_learn_if_they_are_asked_to() -> None:
    watch = Watch()
    net = module_of(fit([BackboneFinetuning(9), watch], seeded()))

    assert [name for name, on in watch.seen[0, 1]["requires_grad"].items() if on] == [
        *("backbone.0.1.weight", "backbone.0.1.bias", "backbone.1.1.weight", "backbone.1.1.bias"),
        *("head.weight", "head.bias"),
    ]
    assert net.get_buffer("backbone.0.1.num_batches_tracked") == 4 * BATCHES


def test_a_backbone_that_is_unfrozen_without_its_batch_norms_leaves_them_frozen() -> None:
    watch = Watch()
    net = module_of(fit([BackboneFinetuning(1, train_bn=False), watch]))

    assert [name for name, on in watch.seen[1, 1]["requires_grad"].items() if not on] == [
        *("backbone.0.1.weight", "backbone.0.1.bias", "backbone.1.1.weight", "backbone.1.1.bias"),
    ]
    assert net.get_buffer("backbone.0.1.num_batches_tracked") == 0


def test_a_layer_without_weights_of_its_own_keeps_its_statistics_too() -> None:
    class Plain(Net):
        def __init__(self, optimize: Any) -> None:
            super().__init__(optimize)
            self.backbone[0] = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False))

    net = module_of(fit(GradualUnfreezing({1: "backbone"}), seeded(kind=Plain), max_epochs=1))
    assert net.get_buffer("backbone.0.1.num_batches_tracked") == 0

    net = module_of(fit(GradualUnfreezing({1: "backbone"}), seeded(kind=Plain), max_epochs=2))
    assert net.get_buffer("backbone.0.1.num_batches_tracked") == BATCHES


class Evaluated(Net):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_nothing_is_frozen_outside_of_fit(entry: str) -> None:
    net = seeded(kind=Evaluated)
    trainer = Trainer(callbacks=BackboneFinetuning(), registered_callbacks=False, logger=False, accelerator="cpu")

    getattr(trainer, entry)(net, loader())

    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_part_that_the_module_makes_in_its_setup_is_frozen_too() -> None:
    class Late(Net):
        def setup(self, stage: str) -> None:
            self.backbone = nn.Sequential(nn.Linear(4, 6), nn.Tanh())

    watch = Watch()
    fit([BackboneFinetuning(1), watch], Late(lambda net: torch.optim.SGD(net.learning(), lr=0.1)), max_epochs=1)

    assert watch.seen[0, 1]["groups"] == [[["head.weight", "head.bias"]]]


def test_helpers_look_at_each_part_once() -> None:
    shared = nn.Linear(2, 2)

    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.zeros(1))
            self.inner = nn.Sequential(shared, nn.BatchNorm1d(2), shared)

    owner = Owner()
    assert BaseFinetuning.flatten_modules([owner, [shared]]) == [owner, shared, owner.inner[1]]
    assert BaseFinetuning.flatten_modules(nn.ModuleDict({"a": shared})) == [shared]
    params = list(BaseFinetuning.filter_params(owner))
    assert [id(one) for one in params] == [id(one) for one in owner.parameters()]
    assert len(list(BaseFinetuning.filter_params(owner, train_bn=False))) == 3
    assert list(BaseFinetuning.filter_params(owner, requires_grad=False)) == []

    BaseFinetuning.freeze_module(owner)
    assert not owner.own.requires_grad
    assert shared.weight.requires_grad
    BaseFinetuning.freeze(owner, train_bn=False)
    assert list(BaseFinetuning.filter_params(owner)) == []
    assert not owner.inner[1].training
    BaseFinetuning.make_trainable(owner.inner)
    assert [name for name, one in owner.named_parameters() if not one.requires_grad] == ["own"]
    assert owner.inner[1].training


def test_a_parameter_that_equals_one_in_the_optimizer_is_another_one() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([first], lr=0.5)

    assert [id(one) for one in BaseFinetuning.filter_on_optimizer(optimizer, [second])] == [id(second)]
    with pytest.warns(
        UserWarning, match=r"1 of 2 parameters .* in the SGD already, .* filter\(lambda p: p.requires_grad"
    ):
        assert [id(one) for one in BaseFinetuning.filter_on_optimizer(optimizer, [first, second])] == [id(second)]


def test_a_group_that_is_added_has_a_tenth_of_the_rate_or_the_one_that_is_given() -> None:
    layer, other = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    BaseFinetuning.freeze([layer, other])

    BaseFinetuning.unfreeze_and_add_param_group(layer, optimizer)
    BaseFinetuning.unfreeze_and_add_param_group([other], optimizer, lr=0.25)

    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05, 0.25]
    assert layer.weight.requires_grad
    with pytest.raises(MisconfigurationError, match=r"^lr=-1 of a part that is unfrozen must be at least 0"):
        BaseFinetuning.unfreeze_and_add_param_group(layer, optimizer, lr=-1)
    with pytest.raises(MisconfigurationError, match=r"^initial_denom_lr=0 must be above 0"):
        BaseFinetuning.unfreeze_and_add_param_group(layer, optimizer, initial_denom_lr=0)


def test_optimizers_that_cannot_have_another_group_say_so() -> None:
    layer = nn.Linear(2, 2)
    BaseFinetuning.freeze(layer)

    with pytest.raises(MisconfigurationError, match=r"LBFGS has one parameter group for good.* Give it all parameters"):
        BaseFinetuning.unfreeze_and_add_param_group(layer, torch.optim.LBFGS(nn.Linear(1, 1).parameters()))
    with pytest.raises(MisconfigurationError, match=r"Muon steps matrices alone.* 1 are none \(shapes: \(2,\)\)"):
        BaseFinetuning.unfreeze_and_add_param_group(layer, torch.optim.Muon(nn.Linear(2, 2, bias=False).parameters()))


def test_what_a_subclass_has_to_define_is_told() -> None:
    class Half(BaseFinetuning):
        def freeze_before_training(self, pl_module: LightningModule) -> None:
            pass

    with pytest.raises(
        MisconfigurationError, match=r"^BaseFinetuning does not define freeze_before_training\(self, pl"
    ):
        fit(BaseFinetuning())
    with pytest.raises(MisconfigurationError, match=r"^Half does not define finetune_function\(self, pl_module, epoch"):
        fit(Half())
