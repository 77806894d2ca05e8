"""`StochasticWeightAveraging`: the mean of the weights of the last part of a run."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_swa.arguments import number, rates_of, whole, whole_or_none
from hookloop_callbacks_swa.rates import AnnealedRates
from hookloop_callbacks_swa.rules import AvgFn
from hookloop_callbacks_swa.weight_averaging import WeightAveraging


class Start(NamedTuple):
    """When averaging begins: with the first epoch, or optimizer step, of this index."""

    unit: Literal["epoch", "step"]
    first: int


class StochasticWeightAveraging(WeightAveraging):
    """Averages the weights at the ends of the last epochs, all alike (Izmailov et al. 2018, arXiv:1803.05407).

    Without `swa_lrs` the learning rate is left to the run's own schedule. With it, the rate is annealed from what it
    is when averaging begins to `swa_lrs`, as `torch.optim.swa_utils.SWALR` does, in each parameter group that there is
    then. The run's schedulers step on meanwhile, without effect.

    When training ends, statistics of batch norms are computed with the averaged weights, in a pass over the training
    data, as by `torch.optim.swa_utils.update_bn`. Everything else is as `WeightAveraging` says.

    Args:
        swa_lrs: the learning rate to anneal to, or a list with one for each parameter group; default None: none.
        swa_epoch_start: when averaging begins. A whole number n: with the n-th epoch, counted from 1. A fraction from
            0 to 1: after this part of the run, of its epochs, or of its `max_steps` if these end it first.
        annealing_epochs: epochs that annealing takes; 0 sets the rate at once.
        annealing_strategy: "cos" or "linear".
        avg_fn: as for `WeightAveraging`; None is the mean.
        device: where the averages are; None is where the model is.
        annealing_steps: in place of annealing_epochs: optimizer steps that annealing takes.
        update_every_n_steps: averages after every n-th optimizer step, in place of each epoch's end.
        swap_for_eval: whether validation, test and prediction use the averaged weights while training goes on.
        bn_batches: batches of the pass for statistics; default None is an epoch, 0 no pass.

    Raises:
        MisconfigurationError: an argument that is not among those described here.
    """

    def __init__(
        self,
        swa_lrs: float | Sequence[float] | None = None,
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: AvgFn | None = None,
        device: torch.device | str | int | None = "cpu",
        *,
        annealing_steps: int | None = None,
        update_every_n_steps: int | None = None,
        swap_for_eval: bool = False,
        bn_batches: int | None = None,
    ) -> None:
        owner = type(self).__name__
        self.swa_lrs = rates_of(owner, swa_lrs)
        if isinstance(swa_epoch_start, float):
            what = "the part of the run after which averaging begins, or the first epoch as a whole number"
            self.swa_epoch_start = number(owner, "swa_epoch_start", swa_epoch_start, what, most=1.0)
        else:
            what = "the first epoch that is averaged, counted from 1, or a fraction of the run as a float"
            self.swa_epoch_start = whole(owner, "swa_epoch_start", swa_epoch_start, 1, what)
        self.annealing_epochs = whole(owner, "annealing_epochs", annealing_epochs, 0, "epochs that annealing takes")
        if annealing_strategy not in ("cos", "linear"):
            raise MisconfigurationError(f'{owner}(annealing_strategy={annealing_strategy!r}): use "cos" or "linear".')
        self.annealing_strategy = annealing_strategy
        self.annealing_steps = whole_or_none(
            owner, "annealing_steps", annealing_steps, 0, "optimizer steps that annealing takes, or None"
        )
        self.update_every_n_steps = whole_or_none(
            owner, "update_every_n_steps", update_every_n_steps, 1, "optimizer steps, or None for the ends of epochs"
        )
        super().__init__(device, use_buffers=False, avg_fn=avg_fn, swap_for_eval=swap_for_eval, bn_batches=bn_batches)
        if self.swa_lrs is not None:
            # Only then is there anything to do in this hook, and a hook that is not there costs nothing.
            setattr(self, "on_train_batch_start", self._set_rates)  # noqa: B010

    def _forget(self) -> None:
        super()._forget()
        self._start: Start | None = None
        self._begun: dict[str, Any] | None = None  # when annealing began, and from which rates
        self._rates: AnnealedRates | None = None

    # when

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Look whether the run fits the arguments, before it costs anything."""
        super().on_fit_start(trainer, pl_module)
        if isinstance(self.swa_epoch_start, float) and trainer.max_epochs == -1 and trainer.max_steps == -1:
            raise MisconfigurationError(
                f"{type(self).__name__}(swa_epoch_start={self.swa_epoch_start}) is a part of the run, and a run with "
                "max_epochs=-1 and max_steps=-1 has no end. Set one of them, or pass the first epoch as a whole number."
            )
        if isinstance(self.swa_lrs, list):
            groups = len(_groups(trainer))
            if len(self.swa_lrs) != groups:
                raise MisconfigurationError(
                    f"{type(self).__name__}(swa_lrs={self.swa_lrs}) has {len(self.swa_lrs)} rates, and the optimizers "
                    f"have {groups} parameter groups. Give one rate for each, or one number for all."
                )

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Averaging begins at a place that is known now: the loader is there."""
        self._start = _start(trainer, self.swa_epoch_start)
        super().on_train_start(trainer, pl_module)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """At the ends of epochs, or after every n-th step, once averaging has begun."""
        start, every = self._start, self.update_every_n_steps
        if start is None:
            return False
        if step_idx is not None:
            begun = step_idx >= start.first if start.unit == "step" else self._epoch >= start.first
            return every is not None and begun and (step_idx + 1) % every == 0
        if every is not None or epoch_idx is None:
            return False
        return (self._steps or 0) > start.first if start.unit == "step" else epoch_idx >= start.first

    # learning rates

    def _set_rates(self, trainer: TrainerView, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The rates of the step that comes: whatever schedulers have set them to."""
        start = self._start
        if start is None:
            return
        step, epoch = trainer.global_step, trainer.current_epoch
        groups = _groups(trainer)
        if self._begun is None:
            if (step if start.unit == "step" else epoch) < start.first:
                return
            self._begun = {"step": step, "epoch": epoch, "rates": [float(group["lr"]) for group in groups]}
        begun = self._begun
        if self._rates is None:
            self._rates = self._annealed(begun["rates"])
        steps = step - begun["step"] if self.annealing_steps is not None else epoch - begun["epoch"]
        for group, rate in zip(groups, self._rates.after(steps), strict=False):  # those that joined later are alone
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _annealed(self, begin: Sequence[float]) -> AnnealedRates:
        assert self.swa_lrs is not None
        end = self.swa_lrs if isinstance(self.swa_lrs, list) else [self.swa_lrs] * len(begin)
        length = self.annealing_epochs if self.annealing_steps is None else self.annealing_steps
        return AnnealedRates(begin, end[: len(begin)], length, self.annealing_strategy)

    # state

    def state_dict(self) -> dict[str, Any]:
        """Counters, and when annealing began."""
        return {**super().state_dict(), "annealing": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over counters, and when annealing began."""
        super().load_state_dict(state_dict)
        self._begun = state_dict.get("annealing")


def _groups(trainer: TrainerView) -> list[dict[str, Any]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]


def _start(trainer: TrainerView, given: int | float) -> Start:
    if isinstance(given, int):
        return Start("epoch", given - 1)
    batches, steps_of_epochs = trainer.num_training_batches, math.inf
    if trainer.max_epochs != -1 and batches != math.inf:
        steps_of_epochs = math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs
    if trainer.max_steps != -1 and trainer.max_steps < steps_of_epochs:
        return Start("step", min(int(given * trainer.max_steps), trainer.max_steps - 1))
    return Start("epoch", min(int(given * trainer.max_epochs), trainer.max_epochs - 1))
