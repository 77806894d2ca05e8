"""The settings of a run: those of its module and of its datamodule."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hookloop.errors import MisconfigurationError
from hookloop.hyperparameters.mixin import HyperparametersMixin


def hyperparameters_to_log(module: HyperparametersMixin, datamodule: HyperparametersMixin | None) -> dict[str, Any]:
    """The initial settings of both, without those that were saved with logger=False; {} if there are none.

    Raises:
        MisconfigurationError: both have one of the same name, and the values differ.
    """
    of_module, of_datamodule = (
        _items(owner) if owner is not None and owner._log_hyperparams else {} for owner in (module, datamodule)
    )
    for name in of_module:
        if name in of_datamodule and not _same(of_module[name], of_datamodule[name]):
            raise MisconfigurationError(
                f"hparams[{name!r}] is {of_module[name]!r} in {type(module).__name__} and {of_datamodule[name]!r} in "
                f"{type(datamodule).__name__}, and loggers get both under one name. Give them the same value, rename "
                "one, or leave one out: save_hyperparameters(ignore=...) or (logger=False)."
            )
    return {**of_module, **of_datamodule}


def _items(owner: HyperparametersMixin) -> Mapping[str, Any]:
    from hookloop.hyperparameters.portable import settled  # not by every import

    return {name: settled(value) for name, value in settled(owner.hparams_initial).items()}


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and bool((one == other).all())
    try:
        return bool(one == other) or (one != one and other != other)  # nan is itself here
    except (ValueError, RuntimeError):  # arrays and tensors inside do not say whether they are equal
        return False
