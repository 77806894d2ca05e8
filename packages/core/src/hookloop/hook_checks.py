"""What is checked of hooks before a run begins: names that are none, and signatures that do not fit."""

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from hookloop.callback import HOOKS, Callback, Hooks, former_names, state_version_of
from hookloop.datamodule import LightningDataModule
from hookloop.errors import HookError, MisconfigurationError
from hookloop.module import LightningModule
from hookloop.module.compiled import compiled_step


def own_methods(base: type) -> tuple[str, ...]:
    """The methods of a class that it or a base of hookloop's defines, in the order of their documentation."""
    ours = [one for one in reversed(base.__mro__) if one.__module__.partition(".")[0] == __name__.partition(".")[0]]
    return tuple(dict.fromkeys(name for one in ours for name, member in vars(one).items() if callable(member)))


MODULE_HOOKS = tuple(name for name in own_methods(LightningModule) if name in HOOKS or name.startswith("on_"))
"""The hooks of a module, in the order of their documentation."""

MODULE_METHODS = (
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "configure_model",
    "configure_optimizers",
    "lr_scheduler_step",
    "on_after_batch_transfer",
    "on_before_batch_transfer",
    "on_load_checkpoint",  # a hook of callbacks too, but the module's weights are loaded between the two
    "on_predict_model_eval",
    "on_predict_model_train",
    "on_test_model_eval",
    "on_test_model_train",
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_validation_model_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
    "prepare_data",
    "transfer_batch_to_device",
)
"""Methods that only the module has and the loops call."""


_STEPS = ("training_step", "validation_step", "test_step", "predict_step")

_OFTEN_MISTAKEN = {
    "on_batch_start": "on_train_batch_start",
    "on_batch_end": "on_train_batch_end",
    "on_epoch_start": "on_train_epoch_start",
    "on_epoch_end": "on_train_epoch_end",
    "on_init_start": "setup",
    "on_init_end": "setup",
    "on_keyboard_interrupt": "on_exception",
    "on_pretrain_routine_start": "on_fit_start",
    "on_pretrain_routine_end": "on_fit_start",
    "on_before_accelerator_backend_setup": "setup",
    "on_step_start": "on_train_batch_start",
    "on_step_end": "on_train_batch_end",
    "on_train_step_start": "on_train_batch_start",
    "on_train_step_end": "on_train_batch_end",
    "on_validation_step_start": "on_validation_batch_start",
    "on_validation_step_end": "on_validation_batch_end",
    "on_test_step_start": "on_test_batch_start",
    "on_test_step_end": "on_test_batch_end",
    "on_predict_step_start": "on_predict_batch_start",
    "on_predict_step_end": "on_predict_batch_end",
    "on_evaluate": "on_validation_end",
    "configure_sharded_model": "configure_model",
    "training_epoch_end": "on_train_epoch_end",
    "validation_epoch_end": "on_validation_epoch_end",
    "test_epoch_end": "on_test_epoch_end",
    "training_step_end": "training_step",
    "validation_step_end": "validation_step",
    "test_step_end": "test_step",
}
"""Hooks of other frameworks and of Lightning's earlier versions, and what they are called here; `_begin` counts as
`_start`, and `on_val_` and `on_eval_` as `on_validation_`."""

_CALLED_BY_USERS = frozenset(
    (
        *("all_gather", "clip_gradients", "log", "log_dict", "lr_schedulers", "manual_backward", "optimizers", "print"),
        *("freeze", "remove_ignored_hparams", "save_hyperparameters", "unfreeze"),
        *("toggle_optimizer", "toggled_optimizer", "untoggle_optimizer"),
    )
)
"""Methods that users call and do not define: a helper of theirs may have almost the same name."""

_SIMILAR = 0.8
"""How alike a name must be to a hook's to count as a misspelt one (difflib's ratio)."""

_ALMOST_EQUAL = 0.9
"""The same for names that do not begin with `on_`: a method of the user's may well be called something like them."""


def overrides(owner: object, base: type, name: str) -> bool:
    """Whether a method is overridden, on the class or on the instance.

    What stands in for a callback without inheriting its methods, such as a mock, overrides all of them. An instance
    that has the base's own method in its `__dict__` overrides nothing, whatever its class does: so it says that it does
    not need a hook, and pays for none.
    """
    attributes = getattr(owner, "__dict__", {})
    if name in attributes:
        return getattr(attributes[name], "__func__", None) is not getattr(base, name)
    return getattr(type(owner), name, None) is not getattr(base, name)


def is_overridden(method_name: str, instance: object = None, parent: type | None = None) -> bool:
    """Whether somebody's own version of a method is there, on the class or on the instance.

    Args:
        method_name: which method.
        instance: a LightningModule, a LightningDataModule, a Callback, or anything else with a `parent`; None overrides
            nothing.
        parent: the class whose version does not count; None takes the one of those three that the instance is of.

    Raises:
        MisconfigurationError: there is no parent, or it has no such method.
    """
    if instance is None:
        return False
    if parent is None:
        known = (base for base in (LightningModule, LightningDataModule, Callback) if isinstance(instance, base))
        parent = next(known, None)
    if parent is None:
        raise MisconfigurationError(
            f"is_overridden({method_name!r}, ...): a {type(instance).__name__} is no LightningModule, "
            "LightningDataModule or Callback. Pass the class whose method may be overridden: parent=..."
        )
    if not hasattr(parent, method_name):
        raise MisconfigurationError(
            f"is_overridden({method_name!r}, ...): {parent.__name__} has no such method that could be overridden."
        )
    return overrides(instance, parent, method_name)


def check_callback(callback: Callback) -> None:
    """Check every hook that a callback overrides, and what it declares of its state.

    Raises:
        HookError: a method looks like a hook and is none, or a hook cannot be called with its arguments.
        MisconfigurationError: its state_version is none, or was raised without a `migrate_state`.
    """
    _check_names(callback, Callback, HOOKS, others=(*_names_without_on(Hooks), "migrate_state"))
    for name in HOOKS:
        if overrides(callback, Hooks, name):
            _check_signature(callback, name, getattr(Hooks, name))
    former_names(callback)
    version = state_version_of(callback)
    if overrides(callback, Callback, "migrate_state"):
        _check_signature(callback, "migrate_state", Callback.migrate_state)
    elif version > 1:
        raise MisconfigurationError(
            f"{type(callback).__name__}.state_version is {version}, and the class does not say how "
            "an older state becomes one of this version. Define migrate_state(self, state_dict, version), which "
            "returns it; where an old state is of no use, raise an error there that says so."
        )


def check_module(module: LightningModule) -> None:
    """Check every hook that a module overrides.

    Raises:
        HookError: a method looks like a hook and is none, or a hook cannot be called with its arguments.
    """
    for name in HOOKS:
        if not hasattr(LightningModule, name) and hasattr(type(module), name):
            raise HookError(
                f"{type(module).__name__}.{name} would never be called: {name} is a hook of callbacks alone. Move it "
                "to a Callback, which configure_callbacks() of the module may return."
            )
    _check_names(module, LightningModule, MODULE_HOOKS, others=_names_without_on(LightningModule))
    for name in MODULE_HOOKS:
        if overrides(module, LightningModule, name):
            _check_signature(module, name, getattr(LightningModule, name))
    for name in MODULE_METHODS:
        if name not in MODULE_HOOKS and overrides(module, LightningModule, name):
            _check_signature(module, name, getattr(LightningModule, name), whole=True)
    for name in _STEPS:
        step = getattr(module, name)
        if overrides(module, LightningModule, name) and not any(_fits(step, count) for count in (1, 2, 3)):
            raise HookError(
                f"{type(module).__name__}.{name} takes ({_names(step)}), and it is called with "
                "(batch, batch_idx). Define "
                f"it as {name}(self, batch, batch_idx)."
            )


def check_datamodule(datamodule: LightningDataModule) -> None:
    """Check every method that a datamodule overrides.

    Raises:
        HookError: a method looks like one of a datamodule and is none, or it cannot be called with its arguments.
    """
    names = own_methods(LightningDataModule)
    _check_names(datamodule, LightningDataModule, names, others=_names_without_on(LightningDataModule))
    for name in names:
        if overrides(datamodule, LightningDataModule, name):
            _check_signature(datamodule, name, getattr(LightningDataModule, name), whole=True)


def _names_without_on(base: type) -> tuple[str, ...]:
    """The public methods of a base class that users define, but for the hooks that begin with `on_`."""
    return tuple(
        name for name in own_methods(base) if not name.startswith(("_", "on_")) and name not in _CALLED_BY_USERS
    )


def fit_step(module: LightningModule, name: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """A step of the module that takes as many of these positional arguments as its signature has room for.

    One that has `dataloader_iter` takes that and nothing else.

    Args:
        module: the module.
        name: "training_step", "validation_step", "test_step" or "predict_step".
        arguments: what the loops call it with: "batch", "batch_idx", and "dataloader_idx" when there are several
            loaders.

    Raises:
        HookError: it takes no batch, asks for more, or lacks dataloader_idx where there are several loaders.
    """
    step: Callable[..., Any] = getattr(module, name)
    if fetches_batches(module, name):
        if _fits(step, 1):
            return compiled_step(module, step)
        raise HookError(
            f"{type(module).__name__}.{name} takes ({_names(step)}), and a step with dataloader_iter is called with "
            f"that alone: the batch and its index come from it. Define it as {name}(self, dataloader_iter)."
        )
    if _fits(step, len(arguments)):
        return compiled_step(module, step)
    owner, written = type(module).__name__, f"{name}(self, {', '.join(arguments)})"
    if arguments[-1] == "dataloader_idx":
        raise HookError(
            f"{owner}.{name} takes ({_names(step)}), and there are several loaders, so it is called with "
            f"({', '.join(arguments)}). Define it as {written}."
        )
    if _fits(step, 1):
        alone = compiled_step(module, step)
        return lambda batch, batch_idx: alone(batch)
    raise HookError(
        f"{owner}.{name} takes ({_names(step)}), and it is called with ({', '.join(arguments)}). "
        f"Define it as {written}."
    )


def fetches_batches(module: LightningModule, name: str) -> bool:
    """Whether a step has a parameter `dataloader_iter`: it fetches its batches itself, and gets nothing else."""
    step: Callable[..., Any] = getattr(module, name)
    try:
        return "dataloader_iter" in inspect.signature(step).parameters
    except (TypeError, ValueError):
        return False  # written in C


def check_dataloader_idx(owners: Iterable[object], names: Iterable[str], several: bool) -> None:
    """Check that these hooks take the index of a loader if there are several, and do without it if there is one.

    Raises:
        HookError: one cannot.
    """
    for owner in owners:
        base: type = LightningModule if isinstance(owner, LightningModule) else Hooks
        for name in names:
            documented = _signature(getattr(base, name)).parameters
            called_with = len(documented) - 1 if several else len(documented) - 2
            if overrides(owner, base, name) and not _fits(getattr(owner, name), called_with):
                why = (
                    "there are several loaders, so it is called with dataloader_idx too"
                    if several
                    else "there is one loader, so it is called without dataloader_idx"
                )
                raise HookError(
                    f"{type(owner).__name__}.{name} takes ({_names(getattr(owner, name))}), and {why}. Define it as "
                    f"{_written(name, list(documented.values())[1:])}."
                )


def _names(method: Callable[..., Any]) -> str:
    try:
        return ", ".join(inspect.signature(method).parameters)
    except ValueError:
        return "no argument, not even self"


def _check_names(owner: object, base: type, hooks: Iterable[str], others: Iterable[str]) -> None:
    inherited = set(dir(base))
    hooks, others = tuple(hooks), tuple(others)
    for name in sorted({*dir(type(owner)), *getattr(owner, "__dict__", {})} - inherited):
        if name.startswith("_") or not _is_method(owner, name):
            continue
        if name.startswith("on_") or name in _OFTEN_MISTAKEN:
            usual = _spelt_as_here(name)
            meant = _OFTEN_MISTAKEN.get(usual, usual if usual in hooks else None)
            close = [meant] if meant else get_close_matches(usual, hooks, n=1, cutoff=_SIMILAR)
        else:
            close = get_close_matches(name, others, n=1, cutoff=_ALMOST_EQUAL)
        if close:
            raise HookError(
                f"{type(owner).__name__}.{name} is no hook, so it would never be called. Rename it to {close[0]}, or, "
                "if it is a helper of yours, give it a name that does not look like a hook."
            )


def _spelt_as_here(name: str) -> str:
    for elsewhere, here in (("_begin", "_start"), ("on_val_", "on_validation_"), ("on_eval_", "on_validation_")):
        name = name.replace(elsewhere, here)
    return name


def _is_method(owner: object, name: str) -> bool:
    # getattr_static: a property must not run because somebody looked at its name.
    member = inspect.getattr_static(owner, name)
    return callable(member) or isinstance(member, staticmethod | classmethod)


def _check_signature(owner: object, name: str, documented: Callable[..., Any], whole: bool = False) -> None:
    """Check one method; `whole` if it is always called with all the documented arguments."""
    parameters = [
        entry
        for entry in _signature(documented).parameters.values()
        if entry.name != "self" and entry.kind not in (entry.VAR_POSITIONAL, entry.VAR_KEYWORD)
    ]
    required = [entry for entry in parameters if whole or entry.default is inspect.Parameter.empty]
    method = getattr(owner, name)
    if not callable(method):
        raise HookError(
            f"{type(owner).__name__}.{name} is a {type(method).__name__}, and hooks are methods. Define "
            f"{_written(name, parameters)}, or use another name."
        )
    if inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method):
        raise HookError(
            f"{type(owner).__name__}.{name} is a coroutine or a generator, which would be made "
            "and never run. Define it "
            "as an ordinary method."
        )
    if not _fits(method, len(required)) and not _fits(method, len(parameters)):
        raise HookError(
            f"{type(owner).__name__}.{name} takes ({_names(method)}), and it is called with "
            f"({', '.join(entry.name for entry in parameters)}). Define it as {_written(name, parameters)}."
        )


def _fits(method: Callable[..., Any], arguments: int) -> bool:
    try:
        function = getattr(method, "__func__", None)
        signature = inspect.signature(method) if function is None else _signature(function)
    except (TypeError, ValueError):
        return True  # written in C: it cannot be asked, so it is trusted
    try:
        signature.bind(*range(arguments + (function is not None)))
    except TypeError:
        return False
    return True


@lru_cache(maxsize=2048)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Kept, because every run of every trainer asks for the signatures of the same methods."""
    return inspect.signature(function)


def _written(name: str, parameters: Iterable[inspect.Parameter]) -> str:
    written = [
        entry.name if entry.default is inspect.Parameter.empty else f"{entry.name}={entry.default!r}"
        for entry in parameters
    ]
    return f"{name}({', '.join(['self', *written])})"
