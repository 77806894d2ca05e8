"""self.manual_backward: which hooks run, what it hands on, and what it says where it cannot work."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hookloop import Callback, LightningModule
from hookloop.errors import HookError, MisconfigurationError
from hookloop.view import TrainerView

from .recording import Batch, QuietModule, RecordingCallback, Trace, loader, make_trainer

Act = Callable[["ByHand"], Any]


class ByHand(LightningModule):
    """One weight of 4, and a training step that each test brings along."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = nn.Parameter(torch.tensor(4.0))
        self.act = act

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.act(self)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def gradient(module: ByHand) -> float:
    assert module.weight.grad is not None
    return module.weight.grad.item()


def fit(folder: Path, module: LightningModule, *callbacks: Callback, **arguments: Any) -> None:
    make_trainer(folder, list(callbacks), max_epochs=1, num_sanity_val_steps=0, **arguments).fit(module, loader(1))


def square(module: ByHand) -> None:
    module.manual_backward(module.weight.pow(2))


# Hooks


def test_the_hooks_around_backward_run_and_those_of_a_step_do_not(tmp_path: Path) -> None:
    trace = Trace()
    fit(tmp_path, ByHand(square), RecordingCallback("C", trace))
    heard = trace.of("C")
    start, end = heard.index("on_train_batch_start"), heard.index("on_train_batch_end")
    assert heard[start + 1 : end] == ["on_before_backward", "on_after_backward"]
    ((loss,),) = [args[2:] for args in trace.calls("C", "on_before_backward")]
    assert loss.item() == 16.0


def test_the_modules_own_hooks_and_backward_run_between_and_may_log(tmp_path: Path) -> None:
    class Hears(ByHand):
        heard: list[str]

        def on_before_backward(self, loss: Tensor) -> None:
            self.heard = [f"before {loss.item()}"]
            self.log("of the hook", 1.0)

        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.heard.append("backward")
            (3 * loss).backward(*args, **kwargs)
            self.log("of backward", 2.0)

        def on_after_backward(self) -> None:
            self.heard.append(f"after {gradient(self)}")

    def act(module: ByHand) -> None:
        square(module)
        module.log("of the step", 3.0)

    module = Hears(act)
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(module, loader(1))
    # The gradient of 3 w² at 4.
    assert module.heard == ["before 16.0", "backward", "after 24.0"]
    assert trainer.callback_metrics == {"of the hook": 1.0, "of backward": 2.0, "of the step": 3.0}


def test_arguments_reach_torchs_backward(tmp_path: Path) -> None:
    def act(module: ByHand) -> None:
        loss = module.weight.pow(2)
        module.manual_backward(loss, retain_graph=True)
        module.manual_backward(loss)
        seen.append(gradient(module))
        module.manual_backward(torch.stack([module.weight, 2 * module.weight]), torch.tensor([1.0, 10.0]))
        seen.append(gradient(module))
        module.manual_backward(torch.stack([module.weight, module.weight]), gradient=torch.tensor([1.0, 1.0]))
        seen.append(gradient(module))

    seen: list[float] = []
    fit(tmp_path, ByHand(act))
    assert seen == [8.0 + 8.0, 16.0 + 1.0 + 20.0, 37.0 + 2.0]


def test_an_overridden_backward_gets_them_too(tmp_path: Path) -> None:
    class Takes(ByHand):
        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            seen.append((args, kwargs))
            super().backward(loss, *args, **kwargs)

    seen: list[Any] = []
    fit(tmp_path, Takes(lambda module: module.manual_backward(module.weight.pow(2), None, retain_graph=True)))
    assert seen == [((None,), {"retain_graph": True})]


def test_a_second_derivative_can_be_taken_through_it(tmp_path: Path) -> None:
    def act(module: ByHand) -> None:
        (slope,) = torch.autograd.grad(module.weight.pow(3), module.weight, create_graph=True)
        module.manual_backward(slope)
        seen.append(gradient(module))

    seen: list[float] = []
    fit(tmp_path, ByHand(act))
    assert seen == [6.0 * 4.0]


def test_it_may_be_called_in_other_hooks_of_a_fit(tmp_path: Path) -> None:
    class Late(ByHand):
        def on_train_epoch_end(self) -> None:
            square(self)

    module = Late(lambda module: None)
    fit(tmp_path, module)
    assert gradient(module) == 8.0


# Where it cannot work


def test_under_automatic_optimization_it_says_what_to_do_instead(tmp_path: Path) -> None:
    class Automatic(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            self.manual_backward(self.loss(batch))

    with pytest.raises(MisconfigurationError, match=r"Automatic\.manual_backward.*automatic_optimization is True.*Ret"):
        make_trainer(tmp_path, [], max_epochs=1).fit(Automatic())


def test_outside_of_a_fit_it_says_so(tmp_path: Path) -> None:
    module = ByHand(square)
    with pytest.raises(MisconfigurationError, match=r"ByHand\.manual_backward\(\) was called outside of a fit"):
        square(module)
    fit(tmp_path, module)
    with pytest.raises(MisconfigurationError, match=r"outside of a fit.*loss\.backward\(\) is what you need"):
        square(module)


def test_after_a_fit_that_failed_it_is_outside_of_one_too(tmp_path: Path) -> None:
    def fails(module: ByHand) -> None:
        raise LookupError("planted")

    module = ByHand(fails)
    with pytest.raises(LookupError, match="planted"):
        fit(tmp_path, module)
    with pytest.raises(MisconfigurationError, match="outside of a fit"):
        square(module)


def test_while_another_entry_point_runs_it_is_outside_of_a_fit(tmp_path: Path) -> None:
    class Validates(ByHand):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            square(self)

    module = Validates(square)
    fit(tmp_path, module)
    with pytest.raises(MisconfigurationError, match="outside of a fit"):
        make_trainer(tmp_path, []).validate(module, loader(1))


def test_a_copy_that_is_made_meanwhile_is_outside_of_the_fit(tmp_path: Path) -> None:
    def act(module: ByHand) -> None:
        with pytest.raises(MisconfigurationError, match="outside of a fit"):
            square(copy.deepcopy(module))
        square(module)

    module = ByHand(act)
    fit(tmp_path, module)
    assert gradient(module) == 8.0


@pytest.mark.parametrize("loss", [3.0, None, "loss"], ids=["a number", "nothing", "a string"])
def test_what_is_no_tensor_is_refused(loss: Any, tmp_path: Path) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"ByHand\.manual_backward\(\) was called with .*a tensor is needed"
    ):
        fit(tmp_path, ByHand(lambda module: module.manual_backward(loss)))


def detached(weight: Tensor) -> Tensor:
    return weight.detach().pow(2)


def without_grad(weight: Tensor) -> Tensor:
    with torch.no_grad():
        return weight.pow(2)


def made_anew(weight: Tensor) -> Tensor:
    return torch.tensor(weight.pow(2).item())


def compared(weight: Tensor) -> Tensor:
    return (weight > 0).sum()


CUT_OFF = [detached, without_grad, made_anew, compared]
SEVERAL: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda weight: torch.stack([weight, weight]), r"shape \(2,\) and dtype torch\.float32"),
    (lambda weight: weight.expand(2, 3), r"shape \(2, 3\) and dtype torch\.float32"),
    (lambda weight: weight.expand(2)[:0], r"shape \(0,\) and dtype torch\.float32"),
    (lambda weight: torch.complex(weight, weight), r"shape \(\) and dtype torch\.complex64"),
]


@pytest.mark.parametrize("loss", CUT_OFF)
def test_a_loss_that_was_cut_off_is_named_with_the_likely_causes(
    loss: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    message = r"ByHand\.manual_backward\(\) was called with a loss that no gradient can be computed from.*\.detach\(\)"
    with pytest.raises(MisconfigurationError, match=message):
        fit(tmp_path, ByHand(lambda module: module.manual_backward(loss(module.weight))))


@pytest.mark.parametrize(("loss", "described"), SEVERAL)
def test_a_loss_that_is_not_one_number_is_refused_with_its_shape(
    loss: Callable[[Tensor], Tensor], described: str, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match=rf"manual_backward.*a loss of {described}.*loss\.mean\(\)"):
        fit(tmp_path, ByHand(lambda module: module.manual_backward(loss(module.weight))))


# With automatic optimization


class Returns(LightningModule):
    """Returns what a function makes of its one weight."""

    def __init__(self, loss: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(4.0))
        self.loss = loss

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return self.loss(self.weight)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.25)


@pytest.mark.parametrize("loss", CUT_OFF)
def test_a_returned_loss_that_was_cut_off_is_named_with_the_likely_causes(
    loss: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    message = r"Returns\.training_step returned a loss that no gradient can be computed from.*frozen parameters"
    with pytest.raises(MisconfigurationError, match=message):
        fit(tmp_path, Returns(loss))
    with pytest.raises(MisconfigurationError, match=message):
        fit(tmp_path, Returns(lambda weight: {"loss": loss(weight)}), accumulate_grad_batches=2)


def test_frozen_parameters_are_named_as_a_cause(tmp_path: Path) -> None:
    module = Returns(lambda weight: weight.pow(2))
    module.requires_grad_(False)
    with pytest.raises(MisconfigurationError, match=r"training_step returned a loss .*frozen parameters"):
        fit(tmp_path, module)


@pytest.mark.parametrize(("loss", "described"), SEVERAL)
def test_a_returned_loss_that_is_not_one_number_is_refused_with_its_shape(
    loss: Callable[[Tensor], Tensor], described: str, tmp_path: Path
) -> None:
    with pytest.raises(
        MisconfigurationError, match=rf"Returns\.training_step returned a loss of {described}.*Reduce it"
    ):
        fit(tmp_path, Returns(loss))


def test_a_loss_with_one_element_in_a_dimension_is_fine(tmp_path: Path) -> None:
    module = Returns(lambda weight: weight.pow(2).reshape(1, 1))
    fit(tmp_path, module)
    assert module.weight.item() == 2.0


def test_a_backward_of_ones_own_may_do_without_a_gradient(tmp_path: Path) -> None:
    class Computes(Returns):
        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.weight.grad = torch.tensor(8.0)

    module = Computes(detached)
    fit(tmp_path, module)
    assert module.weight.item() == 2.0


def test_what_a_backward_of_ones_own_raises_is_left_alone(tmp_path: Path) -> None:
    class Fails(Returns):
        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted") as caught:
        fit(tmp_path, Fails(lambda weight: weight.pow(2)))
    assert type(caught.value) is RuntimeError
    assert not hasattr(caught.value, "__notes__")


def test_a_training_step_that_calls_backward_itself_is_told_who_does(tmp_path: Path) -> None:
    def loss(weight: Tensor) -> Tensor:
        squared = weight.pow(2)
        squared.backward()
        return squared

    with pytest.raises(RuntimeError, match="second time") as caught:
        fit(tmp_path, Returns(loss))
    (note,) = caught.value.__notes__
    assert "the trainer calls backward on what training_step returns" in note


def test_a_step_of_the_optimizer_inside_an_automatic_training_step_is_refused(tmp_path: Path) -> None:
    class Steps(Returns):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            loss = self.weight.pow(2)
            self.optimizers().step()
            return loss

    message = r"optimizer\.step\(\) was called in Steps\.training_step.*automatic_optimization = False"
    with pytest.raises(MisconfigurationError, match=message):
        fit(tmp_path, Steps(lambda weight: weight))


@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_epoch_start"])
def test_the_mode_cannot_be_changed_once_optimizers_are_configured(hook: str, tmp_path: Path) -> None:
    def change(module: LightningModule) -> None:
        module.automatic_optimization = True  # as it is
        module.automatic_optimization = False

    changes = type("Changes", (QuietModule,), {hook: change})
    message = r"Changes\.automatic_optimization was set to False while the fit runs.*Set it in __init__"
    module = changes()
    with pytest.raises(MisconfigurationError, match=message):
        make_trainer(tmp_path, [], max_epochs=1).fit(module)
    module.automatic_optimization = False


@pytest.mark.parametrize("hook", ["setup", "configure_model", "configure_optimizers"])
def test_the_mode_may_be_set_until_then(hook: str, tmp_path: Path) -> None:
    def change(module: ByHand, *args: Any) -> Any:
        module.automatic_optimization = False
        return ByHand.configure_optimizers(module)

    class WasAutomatic(ByHand):
        def __init__(self) -> None:
            super().__init__(square)
            self.automatic_optimization = True

    module = type("Changes", (WasAutomatic,), {hook: change})()
    fit(tmp_path, module)
    assert gradient(module) == 8.0
    module.automatic_optimization = True
    with pytest.raises(MisconfigurationError, match="gradient_clip_val=2 works with automatic optimization"):
        fit(tmp_path, module, gradient_clip_val=2)


@pytest.mark.parametrize("name", ["toggle_optimizers", "manual_backwards", "optimizer", "clip_gradient"])
def test_a_helper_whose_name_is_almost_that_of_a_method_that_nobody_defines_is_fine(name: str, tmp_path: Path) -> None:
    helped = type("Helped", (QuietModule,), {name: lambda self: None})
    make_trainer(tmp_path, [], max_epochs=1).fit(helped())
    misspelt = type("Misspelt", (QuietModule,), {"configure_optimizer": lambda self: None})
    with pytest.raises(HookError, match="configure_optimizers"):
        make_trainer(tmp_path, [], max_epochs=1).fit(misspelt())


def test_the_view_is_enough_for_those_who_ask(tmp_path: Path) -> None:
    class Looks(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            self.seen = trainer.gradient_clip_val, trainer.gradient_clip_algorithm

    looks = Looks()
    fit(tmp_path, Returns(lambda weight: weight), looks, gradient_clip_val=2.0, gradient_clip_algorithm="value")
    assert looks.seen == (2.0, "value")
