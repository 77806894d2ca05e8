"""One table: which hook may log, whether per step or per epoch, and what it does when not told."""

from typing import NamedTuple

from hookloop.errors import MisconfigurationError


class LogRule(NamedTuple):
    """What a hook may log and does by default."""

    step_allowed: bool
    step_by_default: bool

    @property
    def epoch_by_default(self) -> bool:
        """A hook that logs per step by default does not also log per epoch."""
        return not self.step_by_default


_TRAINING_STEP = LogRule(step_allowed=True, step_by_default=True)
_EVALUATION_STEP = LogRule(step_allowed=True, step_by_default=False)
_EPOCH = LogRule(step_allowed=False, step_by_default=False)

LOG_RULES: dict[str, LogRule] = {
    "training_step": _TRAINING_STEP,
    "on_train_batch_start": _TRAINING_STEP,
    "on_train_batch_end": _TRAINING_STEP,
    "on_before_zero_grad": _TRAINING_STEP,
    "optimizer_zero_grad": _TRAINING_STEP,
    "on_before_backward": _TRAINING_STEP,
    "backward": _TRAINING_STEP,
    "on_after_backward": _TRAINING_STEP,
    "on_before_optimizer_step": _TRAINING_STEP,
    "configure_gradient_clipping": _TRAINING_STEP,
    "optimizer_step": _TRAINING_STEP,
    "on_after_optimizer_step": _TRAINING_STEP,
    "validation_step": _EVALUATION_STEP,
    "on_validation_batch_start": _EVALUATION_STEP,
    "on_validation_batch_end": _EVALUATION_STEP,
    "test_step": _EVALUATION_STEP,
    "on_test_batch_start": _EVALUATION_STEP,
    "on_test_batch_end": _EVALUATION_STEP,
    "on_train_start": _EPOCH,
    "on_train_epoch_start": _EPOCH,
    "on_train_epoch_end": _EPOCH,
    "on_validation_start": _EPOCH,
    "on_validation_epoch_start": _EPOCH,
    "on_validation_epoch_end": _EPOCH,
    "on_test_start": _EPOCH,
    "on_test_epoch_start": _EPOCH,
    "on_test_epoch_end": _EPOCH,
}
"""The hooks that may log. In every other one `self.log` is an error: its value would belong to no step and no epoch."""


def resolve_step_and_epoch(
    hook: str | None, name: str, on_step: bool | None, on_epoch: bool | None
) -> tuple[bool, bool]:
    """Whether a value is logged per step, and whether per epoch.

    Args:
        hook: the running hook, None outside of every hook.
        name: the key, for the message.
        on_step: what the user passed; None takes the hook's default.
        on_epoch: the same.

    Raises:
        MisconfigurationError: the hook may not log, or not per step, or the value would be logged nowhere.
    """
    rule = LOG_RULES.get(hook or "")
    if rule is None:
        where = f"in `{hook}`" if hook else "outside of every hook"
        raise MisconfigurationError(
            f'self.log("{name}", ...) was called {where}, where nothing can be logged. '
            f"Hooks that may log are: {', '.join(LOG_RULES)}."
        )
    for argument, value in (("on_step", on_step), ("on_epoch", on_epoch)):
        if value not in (True, False, None):
            raise MisconfigurationError(
                f'self.log("{name}", ..., {argument}={value!r}) in `{hook}`: {argument} must be True, False, or None '
                "for what the hook does by default."
            )
    step = rule.step_by_default if on_step is None else on_step
    epoch = rule.epoch_by_default if on_epoch is None else on_epoch
    if step and not rule.step_allowed:
        raise MisconfigurationError(
            f'self.log("{name}", ..., on_step=True) was called in `{hook}`, which runs once an epoch and has no step. '
            "Leave out on_step."
        )
    if not step and not epoch:
        raise MisconfigurationError(
            f'self.log("{name}", ..., on_step={on_step!r}, on_epoch={on_epoch!r}) in `{hook}` logs nothing. '
            "Set on_step=True or on_epoch=True."
        )
    return step, epoch
