"""Toggling: while an optimizer has its turn, only its parameters need gradients, and afterwards all is as it was."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError

from .recording import Batch, loader, make_trainer

NAMES = ("first", "shared", "second", "frozen")


class Shares(LightningModule):
    """Two optimizers, one parameter that both have, and one that is frozen."""

    def __init__(self, act: Callable[["Shares"], None]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.shared, self.second, self.frozen = (nn.Parameter(torch.tensor(1.0)) for _ in NAMES)
        self.frozen.requires_grad_(False)
        self.act = act

    @property
    def needs(self) -> str:
        """The parameters that need gradients."""
        return " ".join(name for name in NAMES if getattr(self, name).requires_grad)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.act(self)

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD([self.first, self.shared, self.frozen], lr=0.5),
            torch.optim.Adam([self.shared, self.second], lr=0.5),
        ]


ALL = "first shared second"


def fit(folder: Path, act: Callable[[Shares], None]) -> Shares:
    module = Shares(act)
    make_trainer(folder, [], max_epochs=1).fit(module, loader(1))
    return module


Turn = Callable[[Shares, Any], AbstractContextManager[None]]


def turns() -> list[Any]:
    return [
        pytest.param(lambda module, optimizer: module.toggled_optimizer(optimizer), id="of the module"),
        pytest.param(lambda module, optimizer: module.toggled_optimizer(optimizer.optimizer), id="with torch's own"),
        pytest.param(lambda module, optimizer: optimizer.toggle_model(), id="of the optimizer"),
        pytest.param(lambda module, optimizer: optimizer.toggle_model(sync_grad=False), id="without synchronizing"),
    ]


@pytest.mark.parametrize("turn", turns())
def test_a_turn_leaves_gradients_to_the_parameters_of_its_optimizer(turn: Turn, tmp_path: Path) -> None:
    seen: list[str] = []

    def act(module: Shares) -> None:
        one, other = module.optimizers()
        with turn(module, one):
            seen.append(module.needs)
        seen.append(module.needs)
        with turn(module, other):
            seen.append(module.needs)
        seen.append(module.needs)

    fit(tmp_path, act)
    assert seen == ["first shared", ALL, "shared second", ALL]


@pytest.mark.parametrize("own", [False, True], ids=["wrapped", "torch's own"])
def test_toggle_and_untoggle_do_the_same_in_two_calls(own: bool, tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, _ = module.optimizers(use_pl_optimizer=not own)
        module.toggle_optimizer(one)
        assert module.needs == "first shared"
        module.untoggle_optimizer(one)
        assert module.needs == ALL

    assert fit(tmp_path, act).needs == ALL


@pytest.mark.parametrize("turn", turns())
def test_turns_may_be_nested(turn: Turn, tmp_path: Path) -> None:
    seen: list[str] = []

    def act(module: Shares) -> None:
        one, other = module.optimizers()
        with turn(module, one):
            with turn(module, other):
                seen.append(module.needs)
                with turn(module, one):
                    seen.append(module.needs)
                seen.append(module.needs)
            seen.append(module.needs)

    assert fit(tmp_path, act).needs == ALL
    assert seen == ["shared second", "first shared", "shared second", "first shared"]


@pytest.mark.parametrize("turn", turns())
def test_after_an_exception_everything_is_as_before(turn: Turn, tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, other = module.optimizers()
        with pytest.raises(LookupError, match="planted"), turn(module, one), turn(module, other):
            raise LookupError("planted")
        assert module.needs == ALL

    fit(tmp_path, act)


def fails(module: Shares, one: Any, other: Any) -> None:
    with module.toggled_optimizer(one):
        module.toggle_optimizer(other)
        raise LookupError("planted")


def test_what_was_toggled_inside_a_context_and_not_untoggled_does_not_hide_its_exception(tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, other = module.optimizers()
        with pytest.raises(LookupError, match="planted"):
            fails(module, one, other)
        assert module.needs == ALL

    fit(tmp_path, act)


@pytest.mark.parametrize("raises", [True, False])
def test_what_is_still_toggled_at_the_end_of_the_fit_is_untoggled(raises: bool, tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, other = module.optimizers()
        module.toggle_optimizer(one)
        module.toggle_optimizer(other)
        if raises:
            raise LookupError("planted")

    module = Shares(act)
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    if raises:
        with pytest.raises(LookupError, match="planted"):
            trainer.fit(module, loader(1))
    else:
        trainer.fit(module, loader(1))
    assert module.needs == ALL


def test_a_turn_may_go_on_through_several_steps(tmp_path: Path) -> None:
    seen: list[str] = []

    class Through(Shares):
        def on_train_epoch_start(self) -> None:
            self.toggle_optimizer(self.optimizers()[1])

        def on_train_epoch_end(self) -> None:
            self.untoggle_optimizer(self.optimizers()[1])
            seen.append(self.needs)

    module = Through(lambda module: seen.append(module.needs))
    make_trainer(tmp_path, [], max_epochs=1).fit(module, loader(2))
    assert seen == ["shared second", "shared second", ALL]


def test_what_the_module_changes_during_a_turn_stays(tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, _ = module.optimizers()
        with module.toggled_optimizer(one):
            module.frozen.requires_grad_(True)
            module.first.requires_grad_(False)

    assert fit(tmp_path, act).needs == "shared second frozen"


def test_an_optimizer_of_a_turn_inside_has_what_was_frozen_between(tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, other = module.optimizers()
        with module.toggled_optimizer(one):
            module.shared.requires_grad_(False)
            with module.toggled_optimizer(other):
                assert module.needs == "second"
            assert module.needs == "first"

    assert fit(tmp_path, act).needs == "first second"


def test_gradients_reach_the_parameters_of_the_turn_alone(tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, _ = module.optimizers()
        with module.toggled_optimizer(one):
            module.manual_backward(module.first * module.shared * module.second * 3)

    module = fit(tmp_path, act)
    gradients = [parameter.grad for parameter in (module.first, module.shared, module.second)]
    assert gradients == [torch.tensor(3.0), torch.tensor(3.0), None]


def test_a_copy_made_during_a_turn_has_no_turn_to_end(tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        with module.toggled_optimizer(module.optimizers()[0]):
            copied = copy.deepcopy(module)
            assert copied.needs == "first shared"
            copied.trainer = module.trainer
            with pytest.raises(MisconfigurationError, match="the turn is nobody's"):
                copied.untoggle_optimizer(module.optimizers()[0])

    assert fit(tmp_path, act).needs == ALL


# What cannot be toggled


@pytest.mark.parametrize("method", ["toggle_optimizer", "untoggle_optimizer", "toggled_optimizer"])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda module: torch.optim.SGD(module.parameters(), lr=0.1), "a SGD"),
        (lambda module: copy.deepcopy(module.optimizers()[0]), "a LightningOptimizer"),
        (lambda module: module.optimizers(), "a list"),
        (lambda module: torch.optim.Adam, "a Adam"),
        (lambda module: 0, "a int"),
    ],
    ids=["another", "a copy", "all of them", "a class", "an index"],
)
def test_an_optimizer_that_is_not_the_fits_is_refused(
    method: str, make: Callable[[Shares], Any], named: str, tmp_path: Path
) -> None:
    def act(module: Shares) -> None:
        message = rf"Shares\.{method.replace('toggled', 'toggle')}\(\) got {named} that is none of .*\(SGD, Adam\)"
        with pytest.raises(MisconfigurationError, match=message):
            getattr(module, method)(make(module)).__enter__()

    assert fit(tmp_path, act).needs == ALL


def test_an_optimizer_whose_turn_it_is_not_cannot_be_untoggled(tmp_path: Path) -> None:
    def act(module: Shares) -> None:
        one, other = module.optimizers()
        with pytest.raises(
            MisconfigurationError, match=r"untoggle_optimizer was called with SGD.*the turn is nobody's"
        ):
            module.untoggle_optimizer(one)
        module.toggle_optimizer(one)
        with pytest.raises(
            MisconfigurationError, match=r"called with Adam.*the turn is that of SGD.*toggled_optimizer"
        ):
            module.untoggle_optimizer(other)
        assert module.needs == "first shared"

    assert fit(tmp_path, act).needs == ALL


# Clipping by hand


class Clips(Shares):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.first, self.second], lr=0.5)


def clip(folder: Path, *arguments: Any, **keywords: Any) -> tuple[float, float]:
    """What is left of gradients of 3 and 4."""

    def act(module: Shares) -> None:
        module.manual_backward(3 * module.first + 4 * module.second)
        module.clip_gradients(module.optimizers(), *arguments, **keywords)

    module = Clips(act)
    make_trainer(folder, [], max_epochs=1).fit(module, loader(1))
    assert module.first.grad is not None
    assert module.second.grad is not None
    return module.first.grad.item(), module.second.grad.item()


def test_clipping_by_hand_is_by_norm_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    assert clip(tmp_path, 2.5) == pytest.approx((1.5, 2.0), abs=1e-5)
    assert clip(tmp_path, 2.5, "norm") == pytest.approx((1.5, 2.0), abs=1e-5)
    assert clip(tmp_path, 3.5, "value") == (3.0, 3.5)
    assert clip(tmp_path, gradient_clip_val=3.5, gradient_clip_algorithm="VALUE") == (3.0, 3.5)
    assert clip(tmp_path) == clip(tmp_path, 0) == clip(tmp_path, None, "value") == (3.0, 4.0)


@pytest.mark.parametrize("value", [-1.0, float("nan"), True, "1", [1.0]])
def test_a_value_that_cannot_be_clipped_to_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"clip_gradients\(gradient_clip_val=.*a number of at least 0"):
        clip(tmp_path, value)


@pytest.mark.parametrize("algorithm", ["median", 2])
def test_an_algorithm_that_is_not_known_is_refused(algorithm: Any, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r'gradient_clip_algorithm=.*"norm".*"value"'):
        clip(tmp_path, 1.0, algorithm)


class Automatic(LightningModule):
    """Clips in its own way, with automatic optimization."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(4.0))
        self.arguments = arguments

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return 8 * self.weight

    def configure_gradient_clipping(self, optimizer: Any, *given: Any) -> None:
        self.clip_gradients(optimizer, **self.arguments)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def test_without_a_value_of_its_own_the_module_clips_as_the_trainer_was_told(tmp_path: Path) -> None:
    module = Automatic()
    arguments: dict[str, Any] = {"gradient_clip_val": 2.0, "gradient_clip_algorithm": "value"}
    make_trainer(tmp_path, [], max_epochs=1, **arguments).fit(module, loader(1))
    assert module.weight.grad == 2.0
    module = Automatic(**arguments)
    make_trainer(tmp_path, [], max_epochs=1, **arguments).fit(module, loader(1))
    assert module.weight.grad == 2.0


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"gradient_clip_val": 1.0}, r"gradient_clip_val=1\.0\), and Trainer\(gradient_clip_val=2\.0\) was given too"),
        ({"gradient_clip_algorithm": "norm"}, r"'norm'\), and Trainer\(gradient_clip_algorithm='value'\) was given"),
    ],
)
def test_a_module_and_a_trainer_that_disagree_are_an_error(own: dict[str, Any], message: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [], max_epochs=1, gradient_clip_val=2.0, gradient_clip_algorithm="value")
    with pytest.raises(MisconfigurationError, match=message):
        trainer.fit(Automatic(**own), loader(1))
