"""Rules: a callback leaves training as it is, and its place in the list does not matter."""

import sys
from typing import Any

from hookloop import Callback, LightningModule, Order
from hookloop.callback import HOOKS, Hooks, order_of
from hookloop.hook_checks import overrides
from hookloop.random_state import random_state
from hookloop.testing.ends import end_of
from hookloop.testing.equality import difference
from hookloop.testing.outside import marks_of
from hookloop.testing.runs import MemoryLogger, Subject, broken, needed, seed, trainer_of
from hookloop.testing.state import needs_a_state_that_can_be_saved
from hookloop.testing.tiny import TinyDataModule
from hookloop.view import TrainerView

# These come with a state alone, of the one whose it is.
_NOT_WATCHED = ("state_dict", "load_state_dict")


def leaves_training_alone(subject: Subject) -> None:
    """No hook changes the module, its gradients, the optimizers or the random state.

    Not for a callback that declares `changes_training`.
    """
    if subject.changes_training:
        return
    callback = subject.make()
    hooks = [name for name in HOOKS if name not in _NOT_WATCHED and overrides(callback, Hooks, name)]
    seen: dict[str, Any] = {}
    found: list[tuple[str, str]] = []

    def before(name: str) -> Any:
        def hook(self: Callback, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
            seen[name] = _snapshot(trainer, pl_module)

        return hook

    def after(name: str) -> Any:
        def hook(self: Callback, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
            if name in seen:
                what = difference(_snapshot(trainer, pl_module), seen.pop(name))
                if what is not None:
                    found.append((name, what))

        return hook

    # Of the same Order, and its neighbours in the list: their hooks run right before and right after its own.
    order = {"order": order_of(callback)}
    first: Callback = type("Before", (Callback,), {**order, **{name: before(name) for name in hooks}})()
    second: Callback = type("After", (Callback,), {**order, **{name: after(name) for name in hooks}})()
    trainer, module, data = trainer_of(subject, [first, callback, second]), subject.module(), TinyDataModule()

    def run() -> None:
        trainer.fit(module, datamodule=data)
        trainer.validate(module, datamodule=data)
        trainer.test(module, datamodule=data)
        trainer.predict(module, datamodule=data)

    needed(run, callback)
    if found:
        name, what = found[0]
        more = sorted({hook for hook, _ in found} - {name})
        also = f" (and something in {', '.join(more)})" if more else ""
        raise broken(
            callback,
            f"changed training in {name}: {what}{also}.",
            "Work on copies, and put back what was changed before the hook ends; draw random numbers inside "
            "`with hookloop.random_state.isolated_random_state():` or from a generator of its own. If it is meant to "
            "change training, declare changes_training = True.",
        )


def _snapshot(trainer: TrainerView, module: LightningModule) -> dict[str, Any]:
    state = random_state(include_cuda=False)
    numpy = sys.modules.get("numpy")
    return {
        "weights": {name: value.detach().clone() for name, value in module.state_dict().items()},
        "marks": marks_of(module),
        "gradients": {
            name: None if one.grad is None else one.grad.detach().clone() for name, one in module.named_parameters()
        },
        "optimizers": [_copied(optimizer.state_dict()) for optimizer in trainer.optimizers],
        "random state": {
            "of Python": state["python"],
            "of torch": state["torch"],
            **({"of NumPy": state["numpy"]} if numpy is not None and "numpy" in state else {}),
        },
    }


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(one) for one in value]
    return value.detach().clone() if hasattr(value, "detach") else value


class _Logs(Callback):
    """Logs something else in each batch and each epoch."""

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
        self.log(f"of_batch_{trainer.batch_idx}", float(trainer.global_step))

    def on_validation_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.log(f"of_validation_{trainer.current_epoch}", 1.0)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.log(f"of_epoch_{trainer.current_epoch}", 1.0)


class _Idle(Callback):
    """Does nothing, and takes a place in the list."""


def place_does_not_matter(subject: Subject) -> None:
    """A run ends in the same way wherever the callback stands among others.

    Not for a callback that declares an Order or `runs_after`: those say where it has to stand.
    """
    callback = subject.make()
    if order_of(callback) is not Order.NORMAL or callback.runs_after:
        return
    needs_a_state_that_can_be_saved(subject)
    ends: list[dict[str, Any]] = []
    for place in (0, 1, 2):
        callback, module, logger = subject.make(), subject.module(), MemoryLogger()
        others: list[Callback] = [_Logs(), _Idle()]
        folder = subject.new_folder()
        trainer = trainer_of(
            subject, [*others[:place], callback, *others[place:]], logger=logger, default_root_dir=folder
        )
        seed()

        def fit(trainer: Any = trainer, module: Any = module) -> None:
            trainer.fit(module, datamodule=TinyDataModule())

        needed(fit, callback)
        end = end_of(subject, trainer, module, callback, logger, folder)
        if ends and (what := difference(end, ends[0])) is not None:
            raise broken(
                callback,
                f"does not do the same in another place of the list: behind {place} other callbacks, {what}, where "
                "the second is of a run in which it stood first.",
                "Read what others log in a later hook than they log it in. If it needs its place, declare an `order`, "
                "or `runs_after`. Name what is the same in no two runs in `varying`.",
            )
        ends.append(end)
