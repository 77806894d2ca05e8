"""`ModelPruning`: prunes during training, and goes on with the same masks after a resume."""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy, deepcopy
from typing import Any, ClassVar
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.rank_zero import rank_zero_info
from hookloop.view import TrainerView
from hookloop_callbacks_pruning.amounts import Amount, SparsityRamp, check_amount
from hookloop_callbacks_pruning.methods import Method, resolve_method
from hookloop_callbacks_pruning.reparametrize import (
    Target,
    load_as_it_is,
    own_parameters,
    pruned_in,
    put_in_order,
    put_mask,
    refresh,
    save_folded,
    take_mask,
)
from hookloop_callbacks_pruning.targets import PARAMETER_NAMES, Pair, check_pairs, find_pairs, targets_of


class ModelPruning(Callback):
    """Prunes weights with torch.nn.utils.prune, at the end of epochs, of validations, or every so many steps.

    A pruned tensor keeps its values (`weight_orig`) under a mask (`weight_mask`) while training goes on. Each pruning
    chooses among what is left. Masks, and what is under them, are in every checkpoint, so a resumed run has the same
    ones and goes on with them.

    Args:
        pruning_fn: "l1_unstructured" (the smallest), "random_unstructured", "ln_structured" or "random_structured"
            (whole channels); or a subclass of torch's BasePruningMethod; or a function of (module, name, amount).
        parameters_to_prune: pairs (module, name of its parameter), and names as `named_parameters()` has them, with the
            wildcards of file names. Empty: all `parameter_names` of the module.
        parameter_names: which parameters are taken where `parameters_to_prune` is empty: "weight", "bias", or both
            (None).
        use_global_unstructured: choose single elements of all tensors together. False: prune each tensor by itself.
        amount: how much each pruning takes of what is left: a share (float, 0 to 1), or a number of elements, or
            channels (int); or a function of the epoch's index, or the step with `every_n_steps`, that returns one; or a
            `SparsityRamp`, which says how much of everything is pruned afterwards.
        apply_pruning: whether to prune; a function of the epoch, or step, decides each time.
        make_pruning_permanent: export what is pruned as plain weights with zeros: the weights in checkpoints, and the
            module after a fit. Resumed runs have their masks all the same. False: `weight_orig` and `weight_mask` are
            in both.
        use_lottery_ticket_hypothesis: after each pruning, put all weights that are pruned here back to what they were
            when training began (Frankle and Carbin, 2019, "The Lottery Ticket Hypothesis"), so that what is left is
            trained anew; a function of the epoch, or step, decides each time. True by default, as in Lightning.
        resample_parameters: with that, draw initial weights anew (`reset_parameters` of each layer).
        pruning_dim: of structured pruning, the dimension whose channels are pruned.
        pruning_norm: of "ln_structured", the norm that channels are compared by: 1, 2, float("inf"), "fro".
        verbose: 1 prints how much is pruned, 2 of each tensor too.
        prune_on_train_epoch_end: prune at the end of training epochs; False: of validations.
        every_n_steps: prune after so many optimizer steps instead, and call functions with the step's number.

    Raises:
        MisconfigurationError: an argument is wrong, there is nothing to prune, or a parameter is shared.
    """

    order: ClassVar[Order] = Order.MONITOR
    family: ClassVar[str | None] = "pruning"
    # An average of weights that were pruned at different times has no zeros.
    conflicts: ClassVar[Collection[str]] = (
        "weight_averaging",
        "hookloop_callbacks_swa.StochasticWeightAveraging",
        "hookloop_callbacks_swa.WeightAveraging",
    )

    PARAMETER_NAMES: ClassVar[tuple[str, ...]] = PARAMETER_NAMES

    def __init__(
        self,
        pruning_fn: str | type | Callable[..., Any],
        parameters_to_prune: Sequence[Pair | str] = (),
        parameter_names: Sequence[str] | None = None,
        use_global_unstructured: bool = True,
        amount: Amount = 0.5,
        apply_pruning: bool | Callable[[int], bool] = True,
        make_pruning_permanent: bool = True,
        use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = True,
        resample_parameters: bool = False,
        pruning_dim: int | None = None,
        pruning_norm: int | float | str | None = None,
        verbose: int = 0,
        prune_on_train_epoch_end: bool = True,
        every_n_steps: int | None = None,
    ) -> None:
        check_pairs(parameters_to_prune)
        for name in parameter_names or ():
            if isinstance(parameter_names, str) or name not in PARAMETER_NAMES:
                raise MisconfigurationError(
                    f"ModelPruning(parameter_names={parameter_names!r}): a list of {', '.join(PARAMETER_NAMES)} is "
                    "allowed. Other parameters are named in parameters_to_prune."
                )
        if not callable(amount):
            check_amount(amount, "ModelPruning(amount) is ")
        for argument, switch in (
            ("apply_pruning", apply_pruning),
            ("use_lottery_ticket_hypothesis", use_lottery_ticket_hypothesis),
        ):
            if not isinstance(switch, bool) and not callable(switch):
                raise MisconfigurationError(
                    f"ModelPruning({argument}={switch!r}): True, False, or a function of an epoch."
                )
        if isinstance(verbose, bool) or verbose not in (0, 1, 2):
            raise MisconfigurationError(f"ModelPruning(verbose={verbose!r}) must be 0, 1 or 2.")
        if every_n_steps is not None and (
            isinstance(every_n_steps, bool) or not isinstance(every_n_steps, int) or every_n_steps < 1
        ):
            raise MisconfigurationError(
                f"ModelPruning(every_n_steps={every_n_steps!r}) must be a number of steps (1 or more), or None."
            )
        if resample_parameters and not use_lottery_ticket_hypothesis:
            raise MisconfigurationError(
                "ModelPruning(resample_parameters=True) draws anew the weights that use_lottery_ticket_hypothesis puts "
                "back, and that is False. Set both, or neither."
            )
        self.method: Method = resolve_method(pruning_fn, use_global_unstructured, pruning_dim, pruning_norm)
        self.amount = amount
        self.every_n_steps = every_n_steps
        self._given = tuple(parameters_to_prune)
        self._names = tuple(parameter_names or PARAMETER_NAMES)
        self._applies = apply_pruning
        self._permanent = make_pruning_permanent
        self._rewinds = use_lottery_ticket_hypothesis
        self._resamples = resample_parameters
        self._verbose = verbose
        self._targets: list[Target] = []
        self._initial: dict[str, Tensor] = {}
        self._templates: dict[str, nn.Module] = {}
        self._pruned_at: list[int] = []
        self._hooks: list[RemovableHandle] = []
        self._module: ReferenceType[nn.Module] | None = None
        self._last: dict[str, Any] = {}
        self._last_module: ReferenceType[nn.Module] | None = None
        self._to_restore: dict[str, Any] | None = None
        # On the instance: only that hook is called which is needed.
        if every_n_steps is not None:
            self.on_train_batch_end = self._after_batch  # type: ignore[method-assign,assignment]
        elif prune_on_train_epoch_end:
            self.on_train_epoch_end = self._after_epoch  # type: ignore[method-assign]
        else:
            self.on_validation_epoch_end = self._after_validation  # type: ignore[method-assign]

    @property
    def state_key(self) -> str:
        """The class with the method and what it is for, so that a run may have one for each of several parts."""
        names = (one if isinstance(one, str) else one[1] for one in self._given)
        return f"{type(self).__qualname__}[{', '.join((self.method.name, *names))}]"

    # what a subclass may override, and what it may call

    def filter_parameters_to_prune(self, parameters_to_prune: Sequence[Pair] = ()) -> Sequence[Pair]:
        """Those of the tensors that are pruned; override it to leave some out.

        Args:
            parameters_to_prune: pairs (module, name of its parameter).
        """
        return parameters_to_prune

    @staticmethod
    def sanitize_parameters_to_prune(
        pl_module: LightningModule, parameters_to_prune: Sequence[Pair | str] = (), parameter_names: Sequence[str] = ()
    ) -> list[Pair]:
        """The pairs (module, name of its parameter) that are meant; see the arguments of the same names."""
        check_pairs(parameters_to_prune)
        return find_pairs(pl_module, parameters_to_prune, parameter_names or PARAMETER_NAMES)

    def apply_pruning(self, amount: int | float) -> None:
        """Prune now.

        Args:
            amount: a share (float) or a number (int) of what is left.

        Raises:
            MisconfigurationError: it is out of range, or more than there is left.
        """
        check_amount(amount, "ModelPruning: the amount is ")
        self._prune([amount] * len(self._targets), repr(amount))

    def apply_lottery_ticket_hypothesis(self) -> None:
        """Put all weights that are pruned here back to what they were when training began, or draw them anew."""
        values: Mapping[str, Tensor] = self._initial
        if self._resamples:
            values = {}
            for target in self._targets:
                layer = self._templates[target.path]
                layer.reset_parameters()  # type: ignore[operator]
                values[target.path] = getattr(layer, target.name).detach()
        with torch.no_grad():
            for target in self._targets:
                target.original.copy_(values[target.path])
                refresh(target)

    def make_pruning_permanent(self, module: nn.Module) -> None:
        """Make plain weights with zeros of everything in a module that is pruned in torch's way."""
        for target in pruned_in(module):
            take_mask(target, permanent=True)

    # hooks

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            self._hooks = [_watch_loads(pl_module)]
            return
        pairs = find_pairs(pl_module, self._given, self._names)
        targets = targets_of(pl_module, self.filter_parameters_to_prune(pairs))
        self._check(targets)
        goes_on = trainer.global_step > 0 or trainer.current_epoch > 0
        same = self._last_module is not None and self._last_module() is pl_module
        # A second fit of the same trainer goes on where the first one ended.
        self._to_restore = dict(self._last) if goes_on and same else None
        self._last, self._initial, self._pruned_at = {}, {}, []
        masked = [target for target in targets if target.pruned]
        if masked:
            # configure_optimizers sees the same names, in the same order, in every fit.
            self._to_restore = {**(self._to_restore or _NOTHING), **_masks_of(targets)}
            for target in masked:
                take_mask(target, permanent=False)
        self._targets, self._module = targets, ref(pl_module)
        self._hooks = [_watch_loads(pl_module)]
        if self._permanent:
            self._hooks.append(_watch_saves(pl_module))

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        saved, self._to_restore = self._to_restore or _NOTHING, None
        self._templates = {target.path: deepcopy(target.module) for target in self._targets} if self._resamples else {}
        self._pruned_at = list(saved["pruned_at"])
        self._initial = dict(saved["initial"])
        if self._rewinds and not self._resamples:
            for target in self._targets:
                self._initial.setdefault(target.path, target.original.detach().clone())
        known = {target.path for target in self._targets}
        if missing := [path for path in saved["masks"] if path not in known]:
            raise MisconfigurationError(
                f"ModelPruning: the run that is gone on with has pruned {', '.join(missing)}, which are not among what "
                "is to be pruned now. Pass the same parameters_to_prune and parameter_names as then."
            )
        self._put_masks(saved)

    def _put_masks(self, saved: Mapping[str, Any]) -> None:
        for target in self._targets:
            if target.path in saved["masks"]:
                mask, values = saved["masks"][target.path], target.original.detach().clone()
                values[~mask.to(values.device)] = saved["hidden"][target.path].to(values.device, values.dtype)
                put_mask(target, mask, values)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        if self._module is not None:
            self._last, self._last_module = self.state_dict(), ref(pl_module)
            self._module = None
            if self._to_restore is not None:
                self._put_masks(self._to_restore)  # the run has failed before it came to that
            if self._permanent:
                for target in self._targets:
                    take_mask(target, permanent=True)
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._targets, self._templates, self._to_restore = [], [], {}, None

    def _after_batch(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
        step = trainer.global_step
        # A window of several batches takes one step; before the first one there is nothing to choose by.
        if not step % self.every_n_steps and step and self._pruned_at != [step]:  # type: ignore[operator]
            self._run_pruning(step, [step])

    def _after_epoch(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self._run_pruning(trainer.current_epoch, [trainer.current_epoch])

    def _after_validation(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        moment = [trainer.current_epoch, trainer.batch_idx]
        # A validation that was saved in its middle comes again when the run is resumed.
        if trainer.validating and self._targets and self._pruned_at != moment:
            self._run_pruning(trainer.current_epoch, moment)

    def _run_pruning(self, when: int, moment: list[int]) -> None:
        self._pruned_at = moment
        if not (self._applies(when) if callable(self._applies) else self._applies):
            return
        if isinstance(self.amount, SparsityRamp):
            changed = self._prune_up_to(self.amount(when))
        else:
            amount = self.amount(when) if callable(self.amount) else self.amount
            if callable(self.amount):
                check_amount(amount, f"ModelPruning(amount), a function, returned for {when}: ")
            changed = bool(amount)
            if changed:
                self.apply_pruning(amount)
        if changed and (self._rewinds(when) if callable(self._rewinds) else self._rewinds):
            self.apply_lottery_ticket_hypothesis()

    # pruning

    def _prune_up_to(self, share: float) -> bool:
        """Prune as much as is missing from a share of everything; False if nothing is."""
        units = [self.method.units(target) for target in self._targets]
        if self.method.kind is not None:  # all tensors together
            units = [(sum(all_of for all_of, _ in units), sum(gone for _, gone in units))] * len(units)
        amounts = [max(round(share * all_of) - gone, 0) for all_of, gone in units]
        if not any(amounts):
            return False
        self._prune(amounts, f"a share of {share:g} in all")
        return True

    def _prune(self, amounts: Sequence[int | float], asked: str) -> None:
        for target in self._targets:
            refresh(target)
        left = [all_of - gone for all_of, gone in map(self.method.units, self._targets)]
        together = self.method.kind is not None
        for target, amount, there in zip(
            self._targets, amounts, [sum(left)] * len(left) if together else left, strict=True
        ):
            if isinstance(amount, int) and amount > there:
                where = f"all {len(left)} tensors together" if together else target.path
                raise MisconfigurationError(
                    f"ModelPruning: {amount} of {where} are to be pruned, and {there} are left. Give a smaller amount, "
                    "or a share of what is left (a float)."
                )
        before = {target.path: target.mask for target in self._targets} if self._verbose else {}
        values = [target.original.detach().clone() for target in self._targets]
        orders = {target.module: own_parameters(target.module) for target in self._targets}
        self.method.prune(self._targets, amounts)
        for module, order in orders.items():
            put_in_order(module, order)
        for target, original in zip(self._targets, values, strict=True):
            if target.pruned:
                put_mask(target, target.mask, original)
        if self._verbose:
            self._report(before, asked)

    def _report(self, before: Mapping[str, Tensor], asked: str) -> None:
        after = {target.path: target.mask for target in self._targets}
        counts = {path: (int((~before[path]).sum()), int((~mask).sum()), mask.numel()) for path, mask in after.items()}
        was, now, every = (sum(count[index] for count in counts.values()) for index in range(3))
        rank_zero_info(f"{self.method.name} has pruned {asked}: {_told(was, every)} before, {_told(now, every)} now.")
        if self._verbose == 2:
            for path, (was, now, every) in counts.items():
                rank_zero_info(f"  {path}: {_told(was, every)} before, {_told(now, every)} now.")

    def _check(self, targets: Sequence[Target]) -> None:
        if not targets:
            raise MisconfigurationError(
                f"{type(self).__name__}: there is nothing to prune: filter_parameters_to_prune left nothing."
            )
        for target in targets:
            if self.method.dim is not None and not -target.original.dim() <= self.method.dim < target.original.dim():
                raise MisconfigurationError(
                    f"ModelPruning(pruning_dim={self.method.dim}): {target.path} has the shape "
                    f"{tuple(target.original.shape)}, so no such dimension. Name tensors that have it in "
                    'parameters_to_prune, or leave out biases with parameter_names=["weight"].'
                )
            if self.method.name.endswith("structured") and self.method.dim is not None and target.original.dim() < 2:
                raise MisconfigurationError(
                    f"ModelPruning: {target.path} has the shape {tuple(target.original.shape)}, and structured "
                    "pruning takes channels of tensors with two dimensions or more. Leave out biases with "
                    'parameter_names=["weight"].'
                )
            if self._resamples and not callable(getattr(target.module, "reset_parameters", None)):
                raise MisconfigurationError(
                    f"ModelPruning(resample_parameters=True): {target.path} is in a {type(target.module).__name__}, "
                    "which has no reset_parameters() to draw it anew. Define it, or leave the tensor out."
                )

    # state

    def state_dict(self) -> dict[str, Any]:
        """Masks and the values under them, by the tensors' names, initial weights, and when pruning came last."""
        if self._module is None:
            return dict(self._last)
        if self._to_restore is not None:
            return dict(self._to_restore)  # nothing has been restored yet: what is saved now is what was loaded
        return {**_masks_of(self._targets), "initial": dict(self._initial), "pruned_at": list(self._pruned_at)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._module is None:  # of a run that evaluates: kept, for whoever asks for the state
            self._last = dict(state_dict)
        else:
            self._to_restore = dict(state_dict)

    def __getstate__(self) -> object:
        # A copy or a pickle that is made during a run belongs to none.
        state = copy(super().__getstate__())
        if isinstance(state, dict):
            state |= {"_last": self.state_dict(), "_module": None, "_last_module": None, "_to_restore": None}
            state |= {"_targets": [], "_templates": {}, "_hooks": []}
        return state


_NOTHING: dict[str, Any] = {"masks": {}, "hidden": {}, "initial": {}, "pruned_at": []}


def _masks_of(targets: Sequence[Target]) -> dict[str, Any]:
    masks = {target.path: target.mask for target in targets if target.pruned}
    hidden = {target.path: target.original.detach()[~target.mask] for target in targets if target.pruned}
    return {"masks": masks, "hidden": hidden}


def _watch_loads(module: nn.Module) -> RemovableHandle:
    handle: RemovableHandle = module.register_load_state_dict_pre_hook(load_as_it_is)
    return handle


def _watch_saves(module: nn.Module) -> RemovableHandle:
    handle: RemovableHandle = module.register_state_dict_post_hook(save_folded)
    return handle


def _told(pruned: int, every: int) -> str:
    return f"{pruned} of {every} ({pruned / every:.2%})"
