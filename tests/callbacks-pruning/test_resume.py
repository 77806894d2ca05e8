"""A run that is stopped and resumed has the same masks, and prunes on as the run that was never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing.equality import difference
from hookloop_callbacks_pruning import ModelPruning, SparsityRamp

if TYPE_CHECKING:
    from pruning_nets import BATCHES, Net, StoppedError, Watch, data, fit, loader, look, masks, zeros
else:
    from .pruning_nets import BATCHES, Net, StoppedError, Watch, data, fit, loader, look, masks, zeros

CALLBACKS: dict[str, Callable[[], ModelPruning]] = {
    "a lottery ticket": lambda: ModelPruning("l1_unstructured", amount=0.3),
    "drawn anew": lambda: ModelPruning("l1_unstructured", amount=0.3, resample_parameters=True),
    "at random, after validations": lambda: ModelPruning(
        "random_unstructured", amount=0.2, prune_on_train_epoch_end=False, use_lottery_ticket_hypothesis=False
    ),
    "channels": lambda: ModelPruning(
        *("ln_structured", ["body.weight"]),
        use_global_unstructured=False,
        amount=1,
        pruning_dim=0,
        pruning_norm=2,
        use_lottery_ticket_hypothesis=False,
    ),
    "a ramp by steps, that stays": lambda: ModelPruning(
        *("l1_unstructured", ["*.weight"]),
        amount=SparsityRamp(0.9, end=8),
        every_n_steps=1,
        use_lottery_ticket_hypothesis=False,
        make_pruning_permanent=False,
    ),
}

MOMENTS = [(epoch, batches) for epoch in range(3) for batches in (1, 2, 3, 3.5, 4)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(
    name: str, accumulate: int, tmp_path: Path
) -> None:
    make = CALLBACKS[name]
    whole = Watch()
    net = module_of(fit([make(), whole], accumulate_grad_batches=accumulate))
    assert list(whole.seen) == MOMENTS
    assert whole.seen[2, 4]["masks"]
    for moment in MOMENTS[:-1]:
        path = tmp_path / "stopped.ckpt"
        with pytest.raises(StoppedError):
            fit([make(), Watch(moment, path)], accumulate_grad_batches=accumulate)
        resumed = Watch()
        again = module_of(fit([make(), resumed], checkpoint=path, accumulate_grad_batches=accumulate))
        later = {key: seen for key, seen in whole.seen.items() if key > moment}
        assert difference(resumed.seen, later, f"after {moment}") is None
        assert difference(again.state_dict(), net.state_dict()) is None


def module_of(trainer: Trainer) -> LightningModule:
    assert trainer.lightning_module is not None
    return trainer.lightning_module


class SavesInside(Callback):
    """Saves while a validation runs, after it has pruned and before it is over."""

    order = Order.LAST

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)
            raise StoppedError


def test_a_validation_that_comes_again_does_not_prune_again(tmp_path: Path) -> None:
    make, path = CALLBACKS["at random, after validations"], tmp_path / "stopped.ckpt"
    whole = Watch()
    fit([make(), whole])
    with pytest.raises(StoppedError):
        fit([make(), SavesInside(path)])
    resumed = Watch()

    fit([make(), resumed], checkpoint=path)

    for moment, seen in resumed.seen.items():
        assert pruned(seen) == pruned(whole.seen[moment])


def pruned(seen: dict[str, Any]) -> int:
    return sum(int((one == 0).sum()) for one in seen["masks"].values())


@pytest.mark.parametrize("permanent", [True, False])
def test_a_checkpoint_is_exported_as_it_was_asked_for_and_resumed_in_any_case(permanent: bool, tmp_path: Path) -> None:
    def make() -> ModelPruning:
        return ModelPruning("l1_unstructured", amount=0.5, make_pruning_permanent=permanent)

    path, weights = tmp_path / "stopped.ckpt", tmp_path / "weights.ckpt"

    class SavesWeights(Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            trainer.save_checkpoint(weights, weights_only=True)

    watch = Watch((1, 2), path)
    with pytest.raises(StoppedError):
        fit([make(), SavesWeights(), watch])
    seen = watch.seen[1, 2]
    expected = {
        name.removesuffix("_orig"): value * seen["masks"].get(name.removesuffix("_orig"), 1)
        for name, value in seen["parameters"].items()
    }
    raw = {**seen["parameters"], **{f"{name}_mask": mask for name, mask in seen["masks"].items()}}

    for file in (path, weights):
        saved = torch.load(file, weights_only=True)["state_dict"]
        assert difference(dict(saved), expected if permanent else raw) is None
    if permanent:
        loaded = Net.load_from_checkpoint(path)
        assert difference(dict(loaded.state_dict()), expected) is None
    # Who evaluates it has a module that is not pruned.
    net = Net()
    trainer = Trainer(accelerator="cpu", callbacks=make(), registered_callbacks=False, logger=False)
    trainer.test(net, loader(), ckpt_path=path, verbose=False)
    assert difference(dict(net.state_dict()), expected) is None


@pytest.mark.parametrize("permanent", [True, False])
def test_a_second_fit_goes_on_with_the_masks_of_the_first(permanent: bool, tmp_path: Path) -> None:
    def make() -> ModelPruning:
        return ModelPruning(
            "l1_unstructured",
            ["*.weight"],
            amount=10,
            make_pruning_permanent=permanent,
            use_lottery_ticket_hypothesis=False,
        )

    first, second = Watch(), Watch()
    trainer = fit([make(), first], max_epochs=2)
    net = trainer.lightning_module
    assert net is not None
    assert [name for name, _ in net.named_parameters()] == (
        ["body.weight", "body.bias", "head.weight", "head.bias"]
        if permanent
        else ["body.weight_orig", "body.bias", "head.weight_orig", "head.bias"]
    )
    after = tmp_path / "after.ckpt"
    trainer.save_checkpoint(after)
    trainer.max_epochs = 3
    trainer.callbacks.append(second)

    trainer.fit(net, loader(), loader(1))

    assert pruned(first.seen[1, 4]) == 20
    assert pruned(second.seen[2, 4]) == 30
    for name, mask in first.seen[1, 4]["masks"].items():
        assert bool(second.seen[2, 4]["masks"][name][mask == 0].eq(0).all())
    # And so does a run that is resumed from what was saved after the first one.
    resumed, net = Watch(), Net()
    fit([make(), resumed], net, checkpoint=after)
    assert difference(resumed.seen[2, 1]["masks"], first.seen[1, 4]["masks"]) is None
    assert pruned(resumed.seen[2, 4]) == 30


def test_a_module_that_another_run_left_pruned_goes_on_with_its_masks() -> None:
    first, second = Watch(), Watch()
    stays: dict[str, Any] = {"use_lottery_ticket_hypothesis": False, "make_pruning_permanent": False}
    net = fit([ModelPruning("l1_unstructured", ["*.weight"], amount=10, **stays), first], max_epochs=1).lightning_module
    assert net is not None

    fit([ModelPruning("l1_unstructured", ["*.weight"], amount=10), second], net, max_epochs=1)

    before, mask = first.seen[0, 4]["masks"]["body.weight"], second.seen[0, 1]["masks"]["body.weight"]
    assert torch.equal(mask, before)
    assert masks(net) == {}
    assert int((net.get_parameter("body.weight") == 0).sum() + (net.get_parameter("head.weight") == 0).sum()) == 20


def test_a_second_fit_that_fails_before_it_begins_costs_no_mask() -> None:
    callback = ModelPruning(
        "l1_unstructured",
        ["*.weight"],
        amount=10,
        make_pruning_permanent=False,
        use_lottery_ticket_hypothesis=False,
    )
    trainer = fit(callback, max_epochs=1)
    net = module_of(trainer)
    before = {name: one.clone() for name, one in net.state_dict().items()}
    trainer.max_epochs = 2
    net.configure_optimizers = lambda: 7  # type: ignore[method-assign]

    with pytest.raises(MisconfigurationError):
        trainer.fit(net, loader(), loader(1))

    assert difference(dict(net.state_dict()), before) is None


def test_a_run_that_prunes_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    with pytest.raises(StoppedError):
        fit([ModelPruning("l1_unstructured", ["body.weight"]), Watch((1, 1), path)])
    with pytest.raises(MisconfigurationError, match=r"has pruned body\.weight, which are not among what is to be"):
        fit(ModelPruning("l1_unstructured", ["head.weight"]), checkpoint=path)


def test_weights_that_were_taken_and_put_back_in_a_run_are_the_same() -> None:
    class TakesAndPutsBack(Callback):
        order = Order.LAST

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.dense = {name: one.clone() for name, one in pl_module.state_dict().items()}

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            before = look(trainer, pl_module)
            pl_module.load_state_dict(pl_module.state_dict())
            assert difference(look(trainer, pl_module), before) is None
            assert zeros(pl_module) == {"body.weight": 16}
            if trainer.current_epoch == 1:
                pl_module.load_state_dict(self.dense)  # of before anything was pruned
                assert zeros(pl_module) == {"body.weight": 0}
                assert torch.equal(pl_module.get_parameter("body.weight_orig"), self.dense["body.weight"])

    amount = lambda epoch: 16 if epoch == 0 else 0  # noqa: E731
    net = fit([ModelPruning("l1_unstructured", ["body.weight"], amount=amount), TakesAndPutsBack()], max_epochs=2)
    assert net.lightning_module is not None
    assert int((net.lightning_module.get_parameter("body.weight") == 0).sum()) == 0
    assert len(data()) == 4 * BATCHES


def test_a_part_that_is_compiled_goes_on_where_it_is_not_and_the_other_way_round(tmp_path: Path) -> None:
    class Compiled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.compile(self.body, backend="eager")  # type: ignore[assignment]

    def make() -> ModelPruning:
        return ModelPruning("l1_unstructured", ["body.weight"], amount=8, use_lottery_ticket_hypothesis=False)

    path = tmp_path / "stopped.ckpt"
    expected = module_of(fit(make())).state_dict()
    kinds: list[type[Net]] = [Net, Compiled]
    for saved, resumed in (kinds, kinds[::-1]):
        with pytest.raises(StoppedError):
            fit([make(), Watch((1, 1), path)], saved())
        found = module_of(fit(make(), resumed(), checkpoint=path)).state_dict()
        assert difference({name.replace("_orig_mod.", ""): one for name, one in found.items()}, dict(expected)) is None
