"""`HyperparametersMixin`: `save_hyperparameters` and what it saves."""

import dataclasses
import inspect
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy, deepcopy
from types import FrameType
from typing import Any

from torch import nn

from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.hyperparameters.attribute_dict import AttributeDict


class HyperparametersMixin:
    """Settings of an object, which are saved with it and logged.

    `hparams` and `hparams_initial` are empty until `save_hyperparameters` is called, which a constructor does:

        def __init__(self, width: int, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(self.hparams.width, 1)
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "hyper_parameters"
    """Where a checkpoint has the settings."""
    CHECKPOINT_HYPER_PARAMS_NAME = "hparams_name"
    """Where it has the name of the constructor's argument that they are, or "kwargs" if each of them is one."""

    # Class attributes, so that they are there before any __init__ has run.
    _hparams: Any = None
    _hparams_initial: Any = None
    _hparams_name: str | None = None
    _hparams_kind: str | None = None  # what the object was whose items they are; see hyperparameters/portable.py
    _hparams_told: frozenset[str] = frozenset()  # which of them were warned about
    _log_hyperparams: bool = False

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: Sequence[str] | str | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep settings in `hparams`, in checkpoints, and for loggers. A second call adds to the first.

        Args:
            *args: nothing, for all arguments of all constructors of this object that run now (a base class may call
                this for its subclasses; `*args` are left out, `**kwargs` count one by one); or names of some of these
                arguments; or one object: a mapping, an argparse.Namespace or a dataclass instance, whose items are
                saved. An object that is empty, or None, adds nothing.
            ignore: a name or several that are not saved, nor kept if they were saved before.
            frame: where the constructor runs; None: it is the caller.
            logger: whether the trainer passes the settings to its loggers when a fit begins. The last call decides.

        Raises:
            MisconfigurationError: there is no such argument, or no constructor runs and no object was given.
            MisconfigurationTypeError: the object is of another kind, there are several, or `ignore` holds no names.
        """
        ignored = _as_names(ignore)
        if frame is None:
            frame = sys._getframe(1)
        # If nothing can be saved, nothing is changed.
        if args and not all(isinstance(arg, str) for arg in args):
            found, name, kind = _from_object(self, args, frame)
        else:
            found, name, kind = _from_arguments(self, args, frame, ignored), "kwargs", None
        self._log_hyperparams = bool(logger)
        if found is not None:
            _take(self, found, name, kind)
        self.remove_ignored_hparams(ignored)
        _warn_of_modules(self)
        self._hparams_initial = _frozen(self.hparams)

    def remove_ignored_hparams(self, ignore_list: Sequence[str]) -> None:
        """Drop settings by name; a name that is not there is no error."""
        present = [name for name in ignore_list if name in self.hparams]
        if present and not isinstance(self.hparams, AttributeDict):
            self._hparams = copy(self._hparams)  # the user's own object stays as it is
        for name in present:
            del self._hparams[name]

    @property
    def hparams(self) -> Any:
        """The settings, an AttributeDict unless another kind of mutable mapping was saved.

        They may be changed; a checkpoint holds what they are when it is saved.
        """
        if self._hparams is None:
            self._hparams = AttributeDict()
        return self._hparams

    @hparams.setter
    def hparams(self, value: object) -> None:
        raise MisconfigurationError(
            f"{type(self).__name__}.hparams was assigned to, and such settings would neither be logged nor known to "
            "load_from_checkpoint. Call self.save_hyperparameters(settings), or change single ones: "
            "self.hparams.update(settings)."
        )

    @property
    def hparams_initial(self) -> Any:
        """A copy of the settings as they were last saved: what the loggers get. Changing it changes nothing."""
        return AttributeDict() if self._hparams_initial is None else _frozen(self._hparams_initial)


# Functions, and not methods: a subclass may have methods of any name of its own.


def _from_arguments(
    owner: HyperparametersMixin, names: Sequence[str], frame: FrameType, ignored: Sequence[str]
) -> dict[str, Any]:
    from hookloop.hyperparameters.arguments import constructor_arguments  # not by every import

    arguments = constructor_arguments(owner, frame)
    if arguments is None:
        raise MisconfigurationError(
            f"{type(owner).__name__}.save_hyperparameters() was called while no __init__ of this object runs, so "
            "there are no arguments to save. Call it in __init__, or give it the settings: "
            "self.save_hyperparameters({'lr': 0.1})."
        )
    unknown = [name for name in names if name not in arguments]
    if unknown:
        raise MisconfigurationError(
            f"save_hyperparameters({unknown[0]!r}): {type(owner).__name__}.__init__ has no argument of that name; "
            f"it has {', '.join(arguments) or 'none'}."
        )
    return {name: arguments[name] for name in names or arguments if name not in ignored}


def _from_object(
    owner: HyperparametersMixin, given: Sequence[Any], frame: FrameType
) -> tuple[Any, str | None, str | None]:
    from hookloop.hyperparameters.arguments import constructor_arguments  # not by every import
    from hookloop.hyperparameters.portable import kind_of

    if len(given) > 1:
        raise MisconfigurationTypeError(
            f"save_hyperparameters() got {len(given)} things that are not all names ("
            f"{', '.join(type(one).__name__ for one in given)}). Give names of arguments, or one mapping, "
            "argparse.Namespace or dataclass instance, or call it once for each."
        )
    settings = given[0]
    if settings is None:
        return None, None, None
    if isinstance(settings, Namespace):
        items: Any = vars(settings)
    elif dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        items = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    elif isinstance(settings, Mapping):
        items = settings
    else:
        raise MisconfigurationTypeError(
            f"save_hyperparameters({settings!r}) got a {type(settings).__name__}. Give names of arguments, or one "
            "mapping, argparse.Namespace or dataclass instance."
        )
    if len(items) == 0:
        return None, None, None
    arguments = constructor_arguments(owner, frame) or {}
    names = [name for name, value in arguments.items() if _is_same(value, settings)]
    # A subclass may pass it on under another name; it is made anew through its own.
    own = inspect.signature(type(owner).__init__).parameters
    name = next((name for name in names if name in own), names[0] if names else None)
    return items, name, None if name is None else kind_of(arguments[name])


def _take(owner: HyperparametersMixin, found: Mapping[str, Any], name: str | None, kind: str | None) -> None:
    had = owner._hparams_name
    # What was added later and is no argument, or one that is there already, does not change how the object is made.
    if had is None or not (name is None or (had == "kwargs" and name in owner.hparams)):
        owner._hparams_name, owner._hparams_kind = name, kind
    if not owner.hparams and isinstance(found, MutableMapping) and not isinstance(found, dict):
        owner._hparams = found  # OmegaConf's containers, and others that have more to them than their items
    elif isinstance(owner.hparams, AttributeDict):
        owner._hparams.update(found)
    else:
        owner._hparams = AttributeDict({**owner._hparams, **found})


def _warn_of_modules(owner: HyperparametersMixin) -> None:
    # Containers of another kind hold no modules, and may refuse to be walked through (OmegaConf's missing values).
    for name, value in owner.hparams.items() if isinstance(owner.hparams, dict) else ():
        if isinstance(value, nn.Module) and name not in owner._hparams_told:
            owner._hparams_told |= {name}
            warnings.warn(
                f"hparams[{name!r}] is a module ({type(value).__name__}). Its weights are saved with "
                f"{type(owner).__name__} if it is an attribute; the module itself is left out of a checkpoint's "
                f"hyperparameters, and load_from_checkpoint will ask for it ({name}=...). Say that this is meant: "
                f"self.save_hyperparameters(ignore=[{name!r}]).",
                stacklevel=3,
            )


def _as_names(ignore: Sequence[str] | str | None) -> tuple[str, ...]:
    if ignore is None:
        return ()
    names = (ignore,) if isinstance(ignore, str) else ignore
    if isinstance(names, Mapping) or not hasattr(names, "__iter__") or not all(isinstance(name, str) for name in names):
        raise MisconfigurationTypeError(
            f"save_hyperparameters(ignore={ignore!r}) is neither a name nor a sequence of names. "
            "Give the names of the arguments to leave out, as ignore=['criterion']."
        )
    return tuple(names)


def _is_same(argument: Any, settings: Any) -> bool:
    """Whether an argument is the object that was saved, or what it consists of."""
    if argument is settings or (isinstance(argument, Namespace) and vars(argument) is settings):
        return True
    try:
        return isinstance(argument, dict) and isinstance(settings, dict) and bool(argument == settings)
    except (ValueError, RuntimeError):  # arrays and tensors do not say whether they are equal
        return False


def _frozen(settings: Any) -> Any:
    """A deep copy, but for modules, which are large and no settings, and for what cannot be copied."""
    if not isinstance(settings, dict):
        return _copied(settings)
    return AttributeDict({name: _copied(value) for name, value in settings.items()})


def _copied(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return value
    try:
        return deepcopy(value)
    except Exception:  # noqa: BLE001
        # Whatever cannot be copied (a lock, an open file, a part of a graph) does not keep the others from being saved.
        return value
