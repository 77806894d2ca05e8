"""`BaseFinetuning`: what all callbacks have in common that freeze parts of a model and thaw them during training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar
from weakref import ReferenceType, ref

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_finetuning import freezing
from hookloop_callbacks_finetuning.freezing import Modules, freeze_norms, frozen_norms, give_modes_back
from hookloop_callbacks_finetuning.groups import (
    add_group,
    filter_on_optimizer,
    layout_of,
    names_of_parameters,
    parameters_of,
    put_names,
    restore_layout,
)
from hookloop_callbacks_finetuning.schedulers import follow, schedulers_of


class BaseFinetuning(Callback):
    """Freezes parts of a model before training, and lets them learn later: inherit from it to say which, and when.

        class UnfreezeLate(BaseFinetuning):
            def freeze_before_training(self, pl_module):
                self.freeze(pl_module.encoder)

            def finetune_function(self, pl_module, epoch, optimizer):
                if epoch == 5:
                    self.unfreeze_and_add_param_group(pl_module.encoder, optimizer, lr=1e-4)

    In `configure_optimizers` give the optimizer what learns from the beginning,
    `filter(lambda p: p.requires_grad, self.parameters())`, so that a part can get its rate when it is unfrozen.

    Its Order is MONITOR, so that parts which the module makes in its own `setup` are there when they are frozen, and
    what the module's `on_train_epoch_start` does comes before a part is unfrozen. Freezing concerns fit alone. What is
    frozen, the parameter groups and the optimizer's state are the same after a resume, inside an epoch too.
    """

    order: ClassVar[Order] = Order.MONITOR
    family: ClassVar[str | None] = "finetuning"

    # Class attributes, so that subclasses need not call __init__.
    _run: "tuple[ReferenceType[Any], ReferenceType[nn.Module]] | None" = None
    _last: dict[str, Any] | None = None
    _last_module: "ReferenceType[nn.Module] | None" = None
    _to_restore: dict[str, Any] | None = None
    _guards: Sequence[RemovableHandle] = ()

    # what a subclass defines

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freeze what is to be frozen when training begins; called in every fit before configure_optimizers."""
        raise MisconfigurationError(
            f"{type(self).__name__} does not define freeze_before_training(self, pl_module). Define it to say what is "
            "frozen when training begins: self.freeze(pl_module.encoder)."
        )

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        """Unfreeze what is to be unfrozen; called when a training epoch begins, for each optimizer.

        Args:
            pl_module: the module.
            epoch: index of the epoch, 0-based.
            optimizer: torch's.
        """
        raise MisconfigurationError(
            f"{type(self).__name__} does not define finetune_function(self, pl_module, epoch, optimizer). Define it to "
            "say what is unfrozen when: self.unfreeze_and_add_param_group(pl_module.encoder, optimizer)."
        )

    # what it does that with

    @staticmethod
    def flatten_modules(modules: Modules) -> list[nn.Module]:
        """The leaves of modules, and the parts that hold parameters themselves; see `freezing.flatten_modules`."""
        return freezing.flatten_modules(modules)

    @staticmethod
    def filter_params(modules: Modules, train_bn: bool = True, requires_grad: bool = True) -> Iterator[Parameter]:
        """The parameters of modules that learn, or those that do not.

        Args:
            modules: a module, or a collection of them, which may be nested.
            train_bn: whether those of batch norms are among them.
            requires_grad: those that learn, or those that do not.
        """
        return freezing.filter_params(modules, train_bn, requires_grad)

    @staticmethod
    def freeze(modules: Modules, train_bn: bool = True) -> None:
        """Freeze modules: no gradients, and batch norms in eval mode.

        Args:
            modules: a module, or a collection of them, which may be nested.
            train_bn: whether batch norms in there go on to learn.
        """
        freezing.freeze(modules, train_bn)

    @staticmethod
    def freeze_module(module: nn.Module) -> None:
        """Freeze the parameters that a module holds itself, not those of its parts."""
        freezing.freeze_module(module)

    @staticmethod
    def make_trainable(modules: Modules) -> None:
        """Let modules learn; the optimizer is not told.

        Args:
            modules: a module, or a collection of them, which may be nested.
        """
        freezing.make_trainable(modules)

    @staticmethod
    def filter_on_optimizer(optimizer: Optimizer, params: Iterable[Parameter]) -> list[Parameter]:
        """Those of the parameters that an optimizer does not have yet; it warns of the others."""
        return filter_on_optimizer(optimizer, params)

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Modules,
        optimizer: Optimizer,
        lr: float | None = None,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
    ) -> None:
        """Let modules learn, and give an optimizer their parameters as a new group.

        Args:
            modules: a module, or a collection of them, which may be nested.
            optimizer: torch's. Parameters that it has already stay where they are, with a warning.
            lr: the group's rate; None: that of the first group, divided by `initial_denom_lr`.
            initial_denom_lr: see there.
            train_bn: whether batch norms in there learn too; else they stay as they are.

        Raises:
            MisconfigurationError: a rate is negative, or the optimizer cannot have the group.
        """
        if lr is not None and not lr >= 0:
            raise MisconfigurationError(f"lr={lr!r} of a part that is unfrozen must be at least 0, or None.")
        if not initial_denom_lr > 0:
            raise MisconfigurationError(
                f"initial_denom_lr={initial_denom_lr!r} must be above 0: the rate of the first group is divided by it."
            )
        # Batch norms may have learned all the time, in the first group: there they stay, and nobody is warned.
        learned = set(freezing.filter_params(modules)) & parameters_of(optimizer)
        freezing.make_trainable(modules, train_bn)
        new = [one for one in freezing.filter_params(modules, train_bn) if one not in learned]
        params = filter_on_optimizer(optimizer, new)
        if params:
            rate = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else float(lr)
            add_group(optimizer, params, rate)

    # hooks

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._run = ref(trainer), ref(pl_module)
        goes_on = trainer.global_step > 0 or trainer.current_epoch > 0
        same = self._last_module is not None and self._last_module() is pl_module
        # A second fit of the same trainer goes on where the first one ended, with an optimizer that is new.
        self._to_restore = self._last if goes_on and same else None
        self._last = None
        if self._to_restore is None:
            self.begin_anew()
        self.freeze_before_training(pl_module)
        if type(pl_module).on_validation_model_train is not LightningModule.on_validation_model_train:
            self._guards = freezing.guard_norms(pl_module)  # no hook comes between that method and the next batch

    def begin_anew(self) -> None:
        """Forget what was done in a former training. A subclass with a state of its own resets it here."""

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self._run is not None:
            self._last, self._last_module = self._layout(), ref(pl_module)
            self._run = None
            self._to_restore = None
            for guard in self._guards:
                guard.remove()
            self._guards = ()
            give_modes_back(pl_module)

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        saved, self._to_restore = self._to_restore, None
        if saved is not None:
            self._restore(trainer, pl_module, saved)

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        freezing.keep_norms_in_eval(pl_module)

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        for optimizer in trainer.optimizers:
            before = len(optimizer.param_groups)
            self.finetune_function(pl_module, trainer.current_epoch, optimizer)
            self._take_over(trainer, pl_module, optimizer, before)
        freezing.keep_norms_in_eval(pl_module)

    def _take_over(self, trainer: TrainerView, module: nn.Module, optimizer: Optimizer, before: int) -> None:
        """What has to be known of groups that an optimizer has more than `before`."""
        if len(optimizer.param_groups) == before:
            return
        put_names(module, optimizer)
        for index in range(before, len(optimizer.param_groups)):
            follow(schedulers_of(trainer), optimizer, index)

    # state

    def state_dict(self) -> dict[str, Any]:
        layout = self._layout()
        return {} if layout is None else {"layout": layout}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "layout" in state_dict:
            self._to_restore = state_dict["layout"]
        elif "internal_optimizer_metadata" in state_dict:
            self._to_restore = _layout_of_lightning(state_dict["internal_optimizer_metadata"])
        if self._run is None:  # of a run that evaluates: kept, for whoever asks for the state
            self._last, self._to_restore = self._to_restore, None

    def _layout(self) -> dict[str, Any] | None:
        """Which parameters learn, and how the optimizers hold them: of the run that goes on, or of the last one."""
        trainer, module = (None, None) if self._run is None else (self._run[0](), self._run[1]())
        if trainer is None or module is None:
            return self._last
        if self._to_restore is not None:
            return self._to_restore  # nothing has been restored yet: what is saved now is what was loaded
        return {
            "frozen": [name for parameter, name in names_of_parameters(module).items() if not parameter.requires_grad],
            "norms": frozen_norms(module),
            "groups": [layout_of(module, optimizer) for optimizer in trainer.optimizers],
        }

    def _restore(self, trainer: TrainerView, module: LightningModule, saved: Mapping[str, Any]) -> None:
        groups: Sequence[Sequence[Mapping[str, Any]]] = saved["groups"]
        given = [len(optimizer.param_groups) for optimizer in trainer.optimizers]
        for optimizer, layout, before in zip(trainer.optimizers, groups, given, strict=False):
            restore_layout(module, optimizer, layout)
            for index in range(before, len(optimizer.param_groups)):
                follow(schedulers_of(trainer), optimizer, index)
        if saved["frozen"] is None:
            _let_groups_learn(trainer.optimizers, given)
            return
        frozen = set(saved["frozen"])
        for parameter, name in names_of_parameters(module).items():
            if parameter.requires_grad is (name in frozen):
                parameter.requires_grad = name not in frozen
        freeze_norms(module, saved["norms"])

    def __getstate__(self) -> object:
        # A copy or a pickle that is made during a run belongs to none.
        state = copy(super().__getstate__())
        if isinstance(state, dict):
            state["_last"] = self._layout()
            state.pop("_run", None)
            state.pop("_guards", None)
            state.pop("_last_module", None)
        return state


def _layout_of_lightning(metadata: Mapping[Any, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The same of a state that Lightning saved, which does not say what was frozen."""
    groups = [
        [
            {"names": list(group["params"]), "settings": {key: one for key, one in group.items() if key != "params"}}
            for group in metadata[index]
        ]
        for index in sorted(metadata)
    ]
    return {"frozen": None, "norms": [], "groups": groups}


def _let_groups_learn(optimizers: Sequence[Optimizer], given: Sequence[int]) -> None:
    """What is in a group that was added has been unfrozen."""
    with torch.no_grad():
        for optimizer, before in zip(optimizers, given, strict=True):
            for group in optimizer.param_groups[before:]:
                for parameter in group["params"]:
                    parameter.requires_grad = True
