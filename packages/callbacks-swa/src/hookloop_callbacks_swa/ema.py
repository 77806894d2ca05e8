"""`EMAWeightAveraging`: an exponential moving average of the weights."""

import warnings
from typing import Any

import torch
from torch import Tensor

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_swa.arguments import number, positive, whole, whole_or_none
from hookloop_callbacks_swa.rules import decay_of_half_life, warmed_up
from hookloop_callbacks_swa.weight_averaging import WeightAveraging


class EMAWeightAveraging(WeightAveraging):
    """Averages the weights exponentially: average = decay * average + (1 - decay) * weights.

    The first update copies the weights; each other one is that of `torch.optim.swa_utils.get_ema_multi_avg_fn(decay)`,
    bit for bit. Everything else is as `WeightAveraging` says.

    Args:
        device: where the averages are; None is where the model is.
        use_buffers: whether buffers of floating-point numbers are averaged too, such as the statistics of batch norms.
        decay: from 0 to 1; default None is 0.999, or what `half_life` says.
        update_every_n_steps: updates come after the optimizer steps 0, n, 2n, ... of the run, counted from 0.
        update_starting_at_step: index of the first optimizer step, 0-based, after which there may be an update.
        update_starting_at_epoch: index of the first epoch, 0-based, in which there may be one. If both are given, both
            have to be reached.
        half_life: in place of `decay`: optimizer steps after which a weight counts half of what it did:
            decay = 0.5 ** (update_every_n_steps / half_life).
        decay_warmup: how slowly the decay rises at the beginning: after n updates it is at most
            (1 + n) / (1 + n + decay_warmup). 0 is no warm-up; 9 is the rule of TensorFlow's ExponentialMovingAverage.
        swap_for_eval: whether validation, test and prediction use the averaged weights.
        bn_batches: as for `WeightAveraging`.

    Raises:
        MisconfigurationError: an argument that is not among those described here, or both decay and half_life.
    """

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        decay: float | None = None,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
        *,
        half_life: float | None = None,
        decay_warmup: float = 0.0,
        swap_for_eval: bool = True,
        bn_batches: int | None = 0,
    ) -> None:
        super().__init__(device, use_buffers, swap_for_eval=swap_for_eval, bn_batches=bn_batches)
        owner = type(self).__name__
        self.update_every_n_steps = whole(
            owner, "update_every_n_steps", update_every_n_steps, 1, "optimizer steps from one update to the next"
        )
        self.update_starting_at_step = whole_or_none(
            owner, "update_starting_at_step", update_starting_at_step, 0, "the index of an optimizer step, or None"
        )
        self.update_starting_at_epoch = whole_or_none(
            owner, "update_starting_at_epoch", update_starting_at_epoch, 0, "the index of an epoch, or None"
        )
        self.decay_warmup = number(owner, "decay_warmup", decay_warmup, "0 is no warm-up, and larger is slower")
        self.half_life = None
        if half_life is None:
            what = "the part of the average that an update keeps"
            self.decay = number(owner, "decay", 0.999 if decay is None else decay, what, most=1.0)
        elif decay is not None:
            raise MisconfigurationError(
                f"{owner} got decay={decay!r} and half_life={half_life!r}, and each says how long weights count. Pass "
                "one."
            )
        else:
            self.half_life = positive(owner, "half_life", half_life, "optimizer steps after which a weight counts half")
            self.decay = decay_of_half_life(self.half_life, self.update_every_n_steps)
        self._first_step = self.update_starting_at_step or 0
        self._first_epoch = self.update_starting_at_epoch or 0

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every n-th step, once the first step and the first epoch are reached."""
        return (
            step_idx is not None
            and step_idx >= self._first_step
            and self._epoch >= self._first_epoch
            and step_idx % self.update_every_n_steps == 0
        )

    def average(self, averages: list[Tensor], live: list[Tensor], n_averaged: int) -> None:
        """One fused update, in place."""
        decay = warmed_up(self.decay, self.decay_warmup, n_averaged) if self.decay_warmup else self.decay
        torch._foreach_lerp_(averages, live, 1 - decay)

    def _gather(self, pl_module: LightningModule, known: Any) -> None:
        super()._gather(pl_module, known)
        assert self._weights is not None
        weight = 1 - self.decay
        coarse = {one.average.dtype for one in self._weights.entries if one.average.dtype.is_floating_point}
        stuck = sorted(str(dtype) for dtype in coarse if 0 < weight < torch.finfo(dtype).eps)
        if stuck:
            warnings.warn(
                f"The averages of {', '.join(stuck)} weights hardly move with decay={self.decay:g}: an update changes "
                'them by less than their last digit. Keep the weights in float32 (precision="bf16-mixed"), or use a '
                "smaller decay with a larger update_every_n_steps.",
                stacklevel=2,
            )
