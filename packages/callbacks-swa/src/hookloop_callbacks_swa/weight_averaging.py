"""`WeightAveraging`: keeps an average of the weights of a run, and puts it in their place where it is asked for."""

import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from hookloop import Callback, LightningModule
from hookloop.checkpoint_file.weight_sets import LIVE, weight_sets
from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop.hook_checks import overrides
from hookloop.view import TrainerView
from hookloop_callbacks_swa.arguments import device_of, flag, function, whole_or_none
from hookloop_callbacks_swa.rules import AvgFn, MultiAvgFn, all_at_once, one_by_one, running_mean
from hookloop_callbacks_swa.statistics import compute_statistics, first_tensor
from hookloop_callbacks_swa.weights import Average, AveragedWeights, has_batch_norm

AVERAGED = "averaged"
"""Under which name checkpoints have the averaged weights."""


class WeightAveraging(Callback):
    """Averages the weights after each optimizer step: the mean of all of them, or what `average` makes of it.

    The first update copies the weights, all others call `average`. `should_update` decides which steps and epochs are
    averaged. Until something has been, everything is as without this callback. When a fit has ended well, the averaged
    weights are in the module; a second fit of it goes on with the live ones. After an error the live ones are in it.

    In checkpoints, `state_dict` has the live weights at all times, and `checkpoint["weights"]["averaged"]` the averaged
    ones, under the same names. A resumed run goes on with both, bit for bit.

    Parameters are averaged, frozen ones too; buffers of floating-point numbers with `use_buffers`. Buffers of integers
    and those that are not saved are never averaged: the module has the latest ones, whichever weights are in it.

    Args:
        device: where the averages are; None is where the model is.
        use_buffers: whether buffers are averaged.
        avg_fn: averages one tensor: avg_fn(averaged, live, n_averaged) returns the new average, as for
            `torch.optim.swa_utils.AveragedModel`.
        multi_avg_fn: averages lists of tensors of one device and dtype in place, likewise.
        swap_for_eval: whether validation, test and prediction use the averaged weights.
        bn_batches: batches of training data over which statistics of batch norms are computed for the averaged weights,
            before they are used: 0 is no such pass, None an epoch. With a pass, statistics are not averaged.

    Raises:
        MisconfigurationError: an argument that is not among those described here.

    Attributes:
        n_averaged: how many updates there were.
    """

    family: ClassVar[str | None] = "weight_averaging"
    # Pruned weights are products with masks, and an average of products is no product of averages.
    conflicts: ClassVar[tuple[str, ...]] = ("weight_averaging", "hookloop_callbacks_pruning.ModelPruning")

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        *,
        swap_for_eval: bool = True,
        bn_batches: int | None = 0,
    ) -> None:
        owner = type(self).__name__
        self.device = device_of(owner, device)
        self.use_buffers = flag(owner, "use_buffers", use_buffers)
        function(owner, "avg_fn", avg_fn)
        function(owner, "multi_avg_fn", multi_avg_fn)
        if avg_fn is not None and multi_avg_fn is not None:
            raise MisconfigurationError(f"{owner} got avg_fn and multi_avg_fn, and there is one average. Pass one.")
        self.swap_for_eval = flag(owner, "swap_for_eval", swap_for_eval)
        self.bn_batches = whole_or_none(owner, "bn_batches", bn_batches, 0, "batches of a pass, or None for an epoch")
        self._rule: Average = running_mean
        if avg_fn is not None:
            self._rule = one_by_one(avg_fn)
        elif multi_avg_fn is not None:
            self._rule = all_at_once(multi_avg_fn)
        self._owner: weakref.ref[LightningModule] | None = None
        self._evaluates = False
        self._forget()

    def _forget(self) -> None:
        """Nothing was averaged."""
        self.n_averaged = 0
        self._steps: int | None = None  # optimizer steps, and epochs, that have been looked at
        self._epochs: int | None = None
        self._epoch = 0
        self._fresh = False  # whether the statistics are those of the averaged weights
        self._ended = False  # whether a fit has left the averages in the module
        self._weights: AveragedWeights | None = None
        self._loaded: Mapping[str, Tensor] | None = None

    # what subclasses may change

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the weights are averaged now. Default: after each optimizer step.

        Args:
            step_idx: index of the last optimizer step, 0-based; None at the end of an epoch. In manual optimization
                with several optimizers, of the last one in its batch.
            epoch_idx: index of the epoch that ends, 0-based; None after a step.
        """
        return step_idx is not None

    def average(self, averages: list[Tensor], live: list[Tensor], n_averaged: int) -> None:
        """Bring averages, in place, closer to the live weights. Called without gradients, and not for the first update.

        Args:
            averages: tensors of one device and dtype.
            live: the module's, in the same order, on the same device.
            n_averaged: how many updates there were before; at least 1.
        """
        self._rule(averages, live, n_averaged)

    def forward_for_statistics(self, pl_module: LightningModule, batch: Any) -> object:
        """Run the module on a batch, in the pass over the training data that computes statistics of batch norms.

        Default: its `forward`, with the batch, or with the first part of one that is a list or tuple. Override it where
        that is not what is trained. No loss is needed, and nothing must be logged.
        """
        return first_tensor(pl_module, batch)

    # a run begins

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Begin anew, or go on where the last fit of the module ended."""
        self._evaluates = False
        weights = self._of(pl_module)
        if trainer.ckpt_path is not None:
            self._forget()  # what comes is in the checkpoint
        elif stage == "fit" and (trainer.global_step == 0 or weights is None):
            self._forget()
        elif weights is not None and weights.inside and not weights.marked:
            self._forget()  # somebody has given the module other weights since then: they are not ours to replace
        elif stage == "fit" and weights is not None:
            weights.take_out()
            self._ended = False

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Take over what a checkpoint had, where the model is now."""
        if self.bn_batches == 0 or not has_batch_norm(pl_module):
            pass
        elif not self._has_forward(pl_module):
            raise MisconfigurationError(
                f"{type(self).__name__} computes statistics of batch norms with averaged weights by calling "
                f"{type(pl_module).__name__}.forward(), which is not defined. Define it, override "
                "forward_for_statistics(self, pl_module, batch), or pass bn_batches=0 to go without."
            )
        self._take_over(pl_module)

    def _has_forward(self, module: LightningModule) -> bool:
        own = type(self).forward_for_statistics is not WeightAveraging.forward_for_statistics
        return own or overrides(module, torch.nn.Module, "forward")

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Catch up on what a checkpoint still owed: it was saved in a hook before this callback's."""
        self._epoch = trainer.current_epoch
        if self._steps is None or self._epochs is None:
            self._steps, self._epochs = trainer.global_step, trainer.current_epoch
        self._follow_step(trainer, pl_module)
        self._follow_epoch(trainer, pl_module, trainer.current_epoch - 1)

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Look whether weights have come to the module."""
        self._epoch = trainer.current_epoch
        if self._weights is not None:
            self._weights.gather(pl_module)

    # it goes on

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average, if the optimizer has stepped and it is time."""
        if trainer.global_step != self._steps:
            self._follow_step(trainer, pl_module)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Average, if it is time; compute statistics, if this was the last epoch, so that it is saved with them."""
        self._follow_step(trainer, pl_module)
        self._follow_epoch(trainer, pl_module, trainer.current_epoch)
        if _ends(trainer) and self._needs_statistics(pl_module):
            weights = self._of(pl_module)
            assert weights is not None
            weights.put_in()
            try:
                self._refresh(trainer, pl_module)
            finally:
                weights.take_out()

    def _follow_step(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Look at a step after which there was no on_train_batch_end."""
        step = trainer.global_step
        if step != self._steps:
            self._steps = step
            if self.should_update(step_idx=step - 1):
                self._update(pl_module)

    def _follow_epoch(self, trainer: TrainerView, pl_module: LightningModule, epoch: int) -> None:
        if self._epochs is not None and epoch >= self._epochs:
            self._epochs = epoch + 1
            if self.should_update(epoch_idx=epoch):
                self._update(pl_module)

    def _update(self, pl_module: LightningModule) -> None:
        n_averaged = self.n_averaged
        self.n_averaged = n_averaged + 1
        self._fresh = False
        if n_averaged and self._weights is not None:
            self._weights.update(pl_module, self.average, n_averaged)
        else:
            self._gather(pl_module, None)

    def _gather(self, pl_module: LightningModule, known: Mapping[str, Tensor] | None) -> None:
        statistics = self.bn_batches != 0 and has_batch_norm(pl_module)
        self._weights = AveragedWeights(self.device, self.use_buffers, statistics)
        self._weights.gather(pl_module, known)
        self._owner = weakref.ref(pl_module)

    def _take_over(self, pl_module: LightningModule) -> None:
        if self._loaded is not None and self.n_averaged:
            loaded, self._loaded = self._loaded, None
            self._gather(pl_module, loaded)

    def _of(self, pl_module: LightningModule) -> AveragedWeights | None:
        """The averages, if they are this module's."""
        return self._weights if self._owner is not None and self._owner() is pl_module else None

    # in and out

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The averaged weights, if they are to be evaluated."""
        self._put_in(trainer, pl_module)

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The live weights."""
        self._take_out()

    def on_test_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The averaged weights, if they are to be evaluated."""
        self._put_in(trainer, pl_module)

    def on_test_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The live weights, if they were in the module before."""
        self._take_out()

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The averaged weights, if predictions are to be theirs."""
        self._put_in(trainer, pl_module)

    def on_predict_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The live weights, if they were in the module before."""
        self._take_out()

    def _put_in(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        in_fit = trainer.state.fn == "fit"
        if not self.swap_for_eval or (not in_fit and trainer.ckpt_weights is not None):
            return
        if in_fit and not trainer.sanity_checking:
            self._follow_step(trainer, pl_module)
        with torch.inference_mode(False):  # what is kept here is trained with later
            self._take_over(pl_module)
            weights = self._of(pl_module)
            if not self.n_averaged or weights is None or weights.inside:
                return
            weights.gather(pl_module)
            self._evaluates = True
            weights.put_in()
            if in_fit and self._needs_statistics(pl_module):
                self._refresh(trainer, pl_module)

    def _take_out(self) -> None:
        if self._evaluates and self._weights is not None:
            self._weights.take_out()
        self._evaluates = False

    def _needs_statistics(self, pl_module: LightningModule) -> bool:
        weights = self._of(pl_module)
        return bool(self.n_averaged) and weights is not None and weights.statistics and not self._fresh

    def _refresh(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        compute_statistics(trainer, pl_module, self.forward_for_statistics, self.bn_batches)
        self._fresh = True

    # it ends

    def on_fit_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The averaged weights, for good."""
        weights = self._of(pl_module)
        if not self.n_averaged or weights is None:
            return
        weights.put_in()
        if self._needs_statistics(pl_module):
            self._refresh(trainer, pl_module)
        weights.mark()
        self._ended = True

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        """The live weights: at once, because of what is saved in this hook."""
        if trainer.state.fn == "fit":
            weights = self._of(pl_module)
            if weights is not None:
                weights.take_out()
            self._ended = False
        self._take_out()

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Give back what an evaluation took, if it did not end."""
        self._take_out()

    # state

    def state_dict(self) -> dict[str, Any]:
        """Counters. The averages are among the checkpoint's weights, see `named_weights`."""
        return {"n_averaged": self.n_averaged, "steps": self._steps, "epochs": self._epochs, "statistics": self._fresh}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the counters; `on_load_checkpoint` has found the averages."""
        self.n_averaged = int(state_dict.get("n_averaged", self.n_averaged))
        self._steps = state_dict.get("steps", state_dict.get("latest_update_step"))
        self._epochs = state_dict.get("epochs")
        self._fresh = bool(state_dict.get("statistics", False))
        if self.n_averaged and self._loaded is None:
            raise CheckpointError(
                f"The checkpoint's state of {type(self).__name__} says that {self.n_averaged} weights were averaged, "
                f'and the checkpoint has no weights "{AVERAGED}". Choose another checkpoint, or resume without the '
                "callback."
            )

    def on_load_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the averages; they are taken over when the model is where it will be."""
        self._forget()
        self._loaded = weight_sets(checkpoint).get(AVERAGED)
        if "averaging_state" in checkpoint:  # Lightning wrote it, and counts there
            self.n_averaged = int(checkpoint["averaging_state"].get("n_averaged", 0))

    def named_weights(self, trainer: TrainerView, pl_module: LightningModule) -> dict[str, dict[str, Any]]:
        """The averaged weights under "averaged"; while they are in the module, the live ones under "live"."""
        weights = self._of(pl_module)
        if not self.n_averaged:
            return {}
        now: dict[str, Any] = trainer.strategy.module_state_dict(pl_module)
        if weights is None:
            return {} if self._loaded is None else {AVERAGED: dict(self._loaded)}
        weights.settle()
        if weights.inside:
            if self._ended and not weights.marked:
                return {}  # the module was given other weights since the fit has ended
            return {LIVE: _replaced(now, weights.under_names(statistics=True)), AVERAGED: now}
        return {AVERAGED: _replaced(now, weights.under_names(statistics=self._fresh))}


def _replaced(state: Mapping[str, Any], others: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: others.get(name, value) for name, value in state.items()}


def _ends(trainer: TrainerView) -> bool:
    """Whether this epoch is the last one, as far as can be told in it."""
    return (
        trainer.should_stop
        or (trainer.max_epochs != -1 and trainer.current_epoch + 1 >= trainer.max_epochs)
        or (trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps)
    )
