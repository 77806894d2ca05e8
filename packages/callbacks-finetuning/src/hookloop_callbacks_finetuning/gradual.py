"""`GradualUnfreezing`: part after part learns, by a schedule that is given as data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.rank_zero import rank_zero_info
from hookloop.view import TrainerView
from hookloop_callbacks_finetuning import freezing
from hookloop_callbacks_finetuning.base import BaseFinetuning
from hookloop_callbacks_finetuning.schedule import Unfreeze, is_positive, parse, parts_of
from hookloop_callbacks_finetuning.sharing import check_not_shared


class GradualUnfreezing(BaseFinetuning):
    """Freezes the modules that a schedule names, and lets them learn one after the other.

    Everything that the schedule does not name learns from the beginning. What is unfrozen together gets a parameter
    group of its own; schedulers of the optimizer treat it like the first group. With several optimizers it is the
    first one that gets the groups.

        GradualUnfreezing({1: "encoder.layer.11", 2: "encoder.layer.10", 3: "encoder.*"})  # an error: 3 holds 1 and 2
        GradualUnfreezing([
            {"modules": "encoder.layer.1?", "epoch": 1},
            {"modules": ["encoder.layer.?", "encoder.embeddings"], "step": 2000, "lr": 1e-5},
        ])

    Discriminative rates (Howard and Ruder, 2018, "Universal Language Model Fine-tuning for Text Classification"): the
    k-th line, k = 1, 2, ..., gets the rate of the optimizer's first group at that moment times `rate_decay` to the
    power of k. The paper divides by 2.6 from layer to layer, which is the default.

    Args:
        schedule: a dict from epochs (0-based) to a name or names of modules, or a sequence of dicts with "modules",
            either "epoch" or "step" (optimizer steps), and perhaps "lr" (a rate) or "ratio" (to the rate of the first
            group). Names are those of `named_modules()`, with the wildcards of file names (`*`, `?`, `[0-9]`).
        rate_decay: the ratio of each line's rate to that of the line before; 1 gives all the same.
        train_bn: whether batch norms of frozen modules learn from the beginning. False: they are frozen with the rest,
            in eval mode, and learn when it does.
        verbose: print what is unfrozen, and at which rate.

    Raises:
        MisconfigurationError: the schedule cannot be read, a name matches nothing, two lines match the same parameter,
            a parameter is shared with what learns from the beginning, or nothing at all would learn at first.
    """

    def __init__(
        self,
        schedule: Mapping[int, str | Sequence[str]] | Sequence[Mapping[str, Any] | Unfreeze],
        rate_decay: float = 1 / 2.6,
        train_bn: bool = False,
        verbose: bool = False,
    ) -> None:
        self.schedule = parse(schedule)
        if not is_positive(rate_decay):
            raise MisconfigurationError(
                f"GradualUnfreezing(rate_decay={rate_decay!r}): it must be a number above 0; 1 gives all lines the "
                "rate of the first group."
            )
        self.rate_decay = rate_decay
        self.train_bn = train_bn
        self.verbose = verbose
        self.done: set[int] = set()
        self._next_step: float = 0
        if any(line.step is not None for line in self.schedule):
            # On the instance: a schedule by epochs has nothing to do in a step, and is not called there.
            self.on_train_batch_end = self._look_at_step  # type: ignore[method-assign,assignment]

    def begin_anew(self) -> None:
        self.done = set()

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        named = parts_of(pl_module, self.schedule)
        check_not_shared(pl_module, [name for parts in named for name in parts], "GradualUnfreezing(schedule)")
        every = [part for parts in named for part in parts.values()]
        frozen = set(freezing.filter_params(every, train_bn=not self.train_bn))
        at_once = any(0 in (line.epoch, line.step) for line in self.schedule)
        if not at_once and not any(one.requires_grad and one not in frozen for one in pl_module.parameters()):
            raise MisconfigurationError(
                f"GradualUnfreezing(schedule) freezes all parameters of {type(pl_module).__name__}, so nothing would "
                "learn at first. Leave out what is to learn from the beginning, such as the head. The parts are: "
                f"{', '.join(name for name, _ in pl_module.named_children())}."
            )
        self.freeze(every, train_bn=self.train_bn)

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        self._unfreeze(
            [one for one in self._waiting() if _has_come(self.schedule[one].epoch, epoch)], pl_module, optimizer
        )

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self._unfreeze_by_steps(trainer, pl_module)  # of step 0, and what a save in the middle of a batch owes
        super().on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        for optimizer in trainer.optimizers[:1]:
            before = len(optimizer.param_groups)
            self.finetune_function(pl_module, trainer.current_epoch, optimizer)
            self._take_over(trainer, pl_module, optimizer, before)
        freezing.keep_norms_in_eval(pl_module)

    def _look_at_step(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
        if trainer.global_step >= self._next_step:
            self._unfreeze_by_steps(trainer, pl_module)

    def _unfreeze_by_steps(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        due = [one for one in self._waiting() if _has_come(self.schedule[one].step, trainer.global_step)]
        if due and trainer.optimizers:
            optimizer = trainer.optimizers[0]
            before = len(optimizer.param_groups)
            self._unfreeze(due, pl_module, optimizer)
            self._take_over(trainer, pl_module, optimizer, before)
        steps = [line.step for index, line in enumerate(self.schedule) if index not in self.done]
        self._next_step = min((step for step in steps if step is not None), default=math.inf)

    def _waiting(self) -> list[int]:
        return [index for index in range(len(self.schedule)) if index not in self.done]

    def _unfreeze(self, lines: Sequence[int], module: nn.Module, optimizer: Optimizer) -> None:
        if not lines:
            return
        named = parts_of(module, self.schedule)
        for index in lines:
            line = self.schedule[index]
            ratio = self.rate_decay ** (index + 1) if line.ratio is None else line.ratio
            rate = float(optimizer.param_groups[0]["lr"]) * ratio if line.lr is None else line.lr
            self.unfreeze_and_add_param_group(named[index].values(), optimizer, rate)
            self.done.add(index)
            if self.verbose:
                rank_zero_info(f"{', '.join(named[index])}: unfrozen, at a learning rate of {rate:g}.")

    def state_dict(self) -> dict[str, Any]:
        # By what they say, and not by their places: a schedule may have got another line since then.
        return {**super().state_dict(), "done": [str(self.schedule[index]) for index in sorted(self.done)]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.done = {index for index, line in enumerate(self.schedule) if str(line) in state_dict["done"]}


def _has_come(when: int | None, now: int) -> bool:
    return when is not None and when <= now
