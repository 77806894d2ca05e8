"""`BackboneFinetuning`: the head learns first, the backbone joins in at an epoch, with a rate that grows."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.rank_zero import rank_zero_info
from hookloop.view import TrainerView
from hookloop_callbacks_finetuning import freezing
from hookloop_callbacks_finetuning.base import BaseFinetuning
from hookloop_callbacks_finetuning.schedulers import follow, schedulers_of
from hookloop_callbacks_finetuning.sharing import check_not_shared


def multiplicative(epoch: int) -> float:
    """The backbone's rate doubles with every epoch."""
    return 2.0


class BackboneFinetuning(BaseFinetuning):
    """Freezes `pl_module.backbone`, and lets it learn from an epoch on.

    The backbone gets a parameter group of its own. Its rate is multiplied at the beginning of every later epoch, until
    it has reached that of the first group. Schedulers of the optimizer treat the new group like the first one.

    Args:
        unfreeze_backbone_at_epoch: index of the epoch in which it begins to learn, 0-based.
        lambda_func: is called with the index of each later epoch plus 1 and returns what the backbone's rate is
            multiplied by. `multiplicative`: 2.
        backbone_initial_ratio_lr: the backbone's first rate, as a ratio to that of the first group then; None divides
            that by `initial_denom_lr` instead.
        backbone_initial_lr: the backbone's first rate itself, in place of a ratio.
        should_align: whether the backbone's rate is never above that of the first group.
        initial_denom_lr: see `backbone_initial_ratio_lr`.
        train_bn: whether batch norms of the backbone learn, from the beginning. False: they are frozen with it and
            stay as they are, in eval mode, after it has begun to learn too.
        verbose: print both rates in every epoch.
        rounding: digits after the point of what is printed.

    Raises:
        MisconfigurationError: an argument is out of range, the module has no backbone, or the backbone shares a
            parameter with the rest of the module.
    """

    def __init__(
        self,
        unfreeze_backbone_at_epoch: int = 10,
        lambda_func: Callable[[int], float] = multiplicative,
        backbone_initial_ratio_lr: float | None = 0.1,
        backbone_initial_lr: float | None = None,
        should_align: bool = True,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
        verbose: bool = False,
        rounding: int = 12,
    ) -> None:
        if isinstance(unfreeze_backbone_at_epoch, bool) or not isinstance(unfreeze_backbone_at_epoch, int):
            raise _wrong("unfreeze_backbone_at_epoch", unfreeze_backbone_at_epoch, "the index of an epoch, at least 0")
        if unfreeze_backbone_at_epoch < 0:
            raise _wrong("unfreeze_backbone_at_epoch", unfreeze_backbone_at_epoch, "the index of an epoch, at least 0")
        if not callable(lambda_func):
            raise _wrong("lambda_func", lambda_func, "a function of an epoch's index that returns a factor")
        for name, value in (
            ("backbone_initial_ratio_lr", backbone_initial_ratio_lr),
            ("backbone_initial_lr", backbone_initial_lr),
            ("initial_denom_lr", initial_denom_lr),
        ):
            optional = name != "initial_denom_lr"
            if not (optional and value is None) and not _is_positive(value):
                raise _wrong(name, value, "a number above 0" + (", or None" if optional else ""))
        if isinstance(rounding, bool) or not isinstance(rounding, int) or rounding < 0:
            raise _wrong("rounding", rounding, "a number of digits, at least 0")
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.previous_backbone_lr: float | None = None
        self._group: int | None = None

    def begin_anew(self) -> None:
        self.previous_backbone_lr, self._group = None, None

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        self.freeze(_backbone_of(pl_module), train_bn=self.train_bn)

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        if epoch < self.unfreeze_backbone_at_epoch:
            return
        current = float(optimizer.param_groups[0]["lr"])
        if self.previous_backbone_lr is None:
            rate = self._first_rate(current)
            before = len(optimizer.param_groups)
            self.unfreeze_and_add_param_group(_backbone_of(pl_module), optimizer, rate, train_bn=self.train_bn)
            self._group = before if len(optimizer.param_groups) > before else None
        else:
            rate = float(self.lambda_func(epoch + 1)) * self.previous_backbone_lr
            if self.should_align:
                rate = min(rate, current)
            if self._group is not None:
                optimizer.param_groups[self._group]["lr"] = rate
        self.previous_backbone_lr = rate
        if self.verbose:
            rates = f"{round(current, self.rounding)}, of the backbone {round(rate, self.rounding)}"
            rank_zero_info(f"Epoch {epoch}: the learning rate is {rates}.")

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        # Of several optimizers it is the first one: a parameter that two of them step is stepped twice.
        for optimizer in trainer.optimizers[:1]:
            before = len(optimizer.param_groups)
            self.finetune_function(pl_module, trainer.current_epoch, optimizer)
            self._take_over(trainer, pl_module, optimizer, before)
            if self._group is not None:
                follow(schedulers_of(trainer), optimizer, self._group)
        freezing.keep_norms_in_eval(pl_module)

    def _first_rate(self, current: float) -> float:
        if self.backbone_initial_lr is not None:
            return self.backbone_initial_lr
        if self.backbone_initial_ratio_lr is None:
            return current / self.initial_denom_lr
        return current * self.backbone_initial_ratio_lr

    def state_dict(self) -> dict[str, Any]:
        own = {"previous_backbone_lr": self.previous_backbone_lr, "group": self._group}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]
        if "group" in state_dict:
            self._group = state_dict["group"]
        elif self.previous_backbone_lr is not None:  # Lightning's: the last group
            groups = state_dict["internal_optimizer_metadata"][0]
            self._group = len(groups) - 1 if len(groups) > 1 else None


def _backbone_of(module: LightningModule) -> nn.Module:
    backbone = getattr(module, "backbone", None)
    name = type(module).__name__
    if not isinstance(backbone, nn.Module):
        parts = ", ".join(part for part, _ in module.named_children()) or "none"
        what = "has no backbone" if backbone is None else f"has a backbone that is a {type(backbone).__name__}"
        raise MisconfigurationError(
            f"BackboneFinetuning freezes self.backbone of the module, and {name} {what}. Its parts are: {parts}. Give "
            "it a torch.nn.Module of that name in __init__ or setup, or use GradualUnfreezing, which takes any names."
        )
    if next(backbone.parameters(), None) is None:
        raise MisconfigurationError(
            f"BackboneFinetuning: {name}.backbone has no parameters, so there is nothing to freeze."
        )
    check_not_shared(module, ["backbone"], "BackboneFinetuning")
    return backbone


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _wrong(name: str, value: Any, allowed: str) -> MisconfigurationError:
    return MisconfigurationError(f"BackboneFinetuning({name}={value!r}): it must be {allowed}.")
