"""Constructor arguments and attributes, looked up where users keep them: in frames, modules, hparams, datamodules."""

import inspect
import pickle
from collections.abc import MutableMapping
from types import FrameType
from typing import Any

from hookloop.rank_zero import rank_zero_warn


def is_picklable(obj: object) -> bool:
    """Whether `pickle` can write an object, so that it can go to another process or into a file."""
    try:
        pickle.dumps(obj)
    except Exception:  # noqa: BLE001 - __reduce__ and __getstate__ are anybody's code
        return False
    return True


def clean_namespace(hparams: MutableMapping[str, Any]) -> None:
    """Remove, in place and with a warning each, the entries that cannot be pickled."""
    for name in [name for name, value in hparams.items() if not is_picklable(value)]:
        rank_zero_warn(
            f"The hyperparameter {name!r} cannot be pickled and is left out. "
            f"self.save_hyperparameters(ignore=[{name!r}]) leaves it out without this warning.",
            stacklevel=5,
        )
        del hparams[name]


def parse_class_init_keys(cls: type) -> tuple[str, str | None, str | None]:
    """What a constructor calls `self`, its `*args` and its `**kwargs`; None for those that it does not have."""
    # Of the class and not of an instance: the first parameter is self, whatever it is called.
    parameters = list(inspect.signature(cls.__init__).parameters.values())  # type: ignore[misc]
    stars = {parameter.kind: parameter.name for parameter in parameters}
    kinds = inspect.Parameter
    return parameters[0].name, stars.get(kinds.VAR_POSITIONAL), stars.get(kinds.VAR_KEYWORD)


def get_init_args(frame: FrameType) -> dict[str, Any]:
    """The arguments of the constructor that runs in a frame, without `self` and with `**kwargs` unpacked.

    Args:
        frame: of an `__init__` that mentions `super()` or `__class__`; any other frame has none.

    Returns:
        The arguments by name, with the values that they have now.
    """
    return _init_args(frame)[1]


def _init_args(frame: FrameType) -> tuple[object, dict[str, Any]]:
    values = frame.f_locals
    if "__class__" not in values or frame.f_code.co_name != "__init__":
        return None, {}
    cls = values["__class__"]
    self_name, args_name, kwargs_name = parse_class_init_keys(cls)
    names = [name for name in inspect.signature(cls.__init__).parameters if name in values]
    arguments = {name: values[name] for name in names if name not in (self_name, args_name, kwargs_name)}
    if kwargs_name is not None:
        arguments.update(values.get(kwargs_name, {}))
    return values.get(self_name), arguments


def collect_init_args(
    frame: FrameType, path_args: list[dict[str, Any]], inside: bool = False, classes: tuple[type, ...] = ()
) -> list[dict[str, Any]]:
    """The arguments of every constructor that is running for one object, from the given frame outwards.

    Args:
        frame: where to begin; the constructors of subclasses are further out.
        path_args: the list that is filled and returned.
        inside: whether a constructor was found already, so that the first frame of another kind ends the search.
        classes: only constructors of objects of these classes; () is any.

    Returns:
        The arguments by name, a dict for each constructor; the last one is of the object's own class.
    """
    at: FrameType | None = frame
    while at is not None and at.f_back is not None:
        owner, arguments = _init_args(at)
        if "__class__" in at.f_locals and (not classes or isinstance(owner, classes)):
            path_args.append(arguments)
            inside = True
        elif inside:
            break
        at = at.f_back
    return path_args


def _holders(model: Any, attribute: str) -> list[Any]:
    """Everything that has the attribute: the module, its hparams, its trainer's datamodule, and that one's hparams."""
    datamodule = getattr(getattr(model, "_trainer", None), "datamodule", None)
    found: list[Any] = []
    for owner in (model, datamodule):
        if owner is None:
            continue
        if hasattr(owner, attribute):
            found.append(owner)
        if attribute in getattr(owner, "hparams", {}):
            found.append(owner.hparams)
    return found


def _holders_or_error(model: Any, attribute: str) -> list[Any]:
    found = _holders(model, attribute)
    if not found:
        raise AttributeError(
            f"{type(model).__name__} has no {attribute!r}: it is no attribute of the module, no entry of its hparams, "
            "and neither of them in the datamodule of its trainer.",
            name=attribute,
        )
    return found


def lightning_hasattr(model: Any, attribute: str) -> bool:
    """Whether a module has the attribute: itself, in its hparams, or in its trainer's datamodule and its hparams."""
    return bool(_holders(model, attribute))


def lightning_getattr(model: Any, attribute: str) -> Any:
    """The attribute of a module; where several hold it, the last of: module, hparams, datamodule, its hparams.

    Raises:
        AttributeError: none of them has it.
    """
    holder = _holders_or_error(model, attribute)[-1]
    return holder[attribute] if isinstance(holder, dict) else getattr(holder, attribute)


def lightning_setattr(model: Any, attribute: str, value: Any) -> None:
    """Set the attribute wherever `lightning_getattr` may find it.

    Raises:
        AttributeError: nobody has it yet.
    """
    for holder in _holders_or_error(model, attribute):
        if isinstance(holder, dict):
            holder[attribute] = value
        else:
            setattr(holder, attribute, value)
