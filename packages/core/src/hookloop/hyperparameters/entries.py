"""What a checkpoint holds of somebody's hyperparameters, and how they are read from it again."""

import warnings
from collections.abc import Mapping
from typing import Any

from hookloop.checkpoint_file.loadable import described
from hookloop.checkpoint_file.loadable import refused as refused_parts
from hookloop.errors import CheckpointError
from hookloop.hyperparameters.mixin import HyperparametersMixin
from hookloop.hyperparameters.portable import (
    ALLOWED,
    Kinds,
    NotPortableError,
    from_portable,
    settled,
    to_portable,
    written,
)

KINDS = "_kinds"
"""After the key of the settings: what the values at some places were before they were made plain."""

LEFT_OUT = "_left_out"
"""After the key of the settings: what is not in the file, and what it was."""


def checkpoint_entries(owner: HyperparametersMixin) -> dict[str, Any]:
    """The entries of a checkpoint for the settings of a module or a datamodule; none if it has no settings.

        hyper_parameters            # the settings in plain types, for every reader
        hparams_name                # the argument that they are, or "kwargs" if each of them is one
        hyper_parameters_kinds      # what was a path, an enum, ..., by place; () is the whole. If there is any
        hyper_parameters_left_out   # names of settings that a file cannot hold, and what they were. If there is any

    A datamodule has its own keys (datamodule_hyper_parameters, ...). What is left out is warned about, once.
    """
    if not owner.hparams:
        return {}
    settings, kinds, refused = _sorted_out(owner)
    _warn(owner, refused)
    key = owner.CHECKPOINT_HYPER_PARAMS_KEY
    entries: dict[str, Any] = {owner.CHECKPOINT_HYPER_PARAMS_NAME: owner._hparams_name, key: settings}
    if owner._hparams_kind is not None:
        kinds[()] = owner._hparams_kind
    if kinds:
        entries[key + KINDS] = kinds
    if refused:
        entries[key + LEFT_OUT] = {name: error.why for name, error in refused.items()}
    return entries


def warn_of_what_is_left_out(owner: HyperparametersMixin) -> None:
    """Say now which settings the checkpoints of a run will not hold."""
    if owner.hparams:
        _warn(owner, _sorted_out(owner)[2])


def _sorted_out(owner: HyperparametersMixin) -> tuple[dict[str, Any], Kinds, dict[str, NotPortableError]]:
    settings: dict[str, Any] = {}
    kinds: Kinds = {}
    refused: dict[str, NotPortableError] = {}
    for name, value in settled(owner.hparams).items():
        try:
            to_portable({name: None})
            plain, found = to_portable(value, (name,))
            for part in refused_parts({name: plain}):  # such as an int of a thousand digits
                raise NotPortableError(part.place, described(part.value))
            settings[name] = plain
            kinds |= found
        except NotPortableError as error:
            # The whole of it: a dict that lacks an item would be worse than none.
            refused[str(name)] = error
        except Exception as error:  # noqa: BLE001
            # Whatever somebody's mapping or dataclass raises when it is looked at: no checkpoint is lost for it.
            why = f"a {type(value).__name__} that cannot be read ({type(error).__name__}: {error})"
            refused[str(name)] = NotPortableError((name,), why)
    return settings, kinds, refused


def _warn(owner: HyperparametersMixin, refused: Mapping[str, NotPortableError]) -> None:
    for name, error in refused.items():
        if name in owner._hparams_told:
            continue
        owner._hparams_told |= {name}
        kind = type(owner).__name__
        warnings.warn(
            f"{kind}: {written(error.place)} is {error.why}, which a checkpoint's hyperparameters cannot hold. They "
            f"hold {ALLOWED}, so that a file can be loaded without running code from it. {written((name,))} is left "
            f"out of checkpoints, and {kind}.load_from_checkpoint will ask for it ({name}=...). Say that this is "
            f"meant: self.save_hyperparameters(ignore=[{name!r}]).",
            stacklevel=2,
        )


class SavedSettings:
    """The settings in a checkpoint, each put together when it is asked for.

    Args:
        checkpoint: what the file holds; entries that are missing are empty.
        owner: the class whose settings they are.
    """

    def __init__(self, checkpoint: Mapping[str, Any], owner: type[HyperparametersMixin]) -> None:
        key = owner.CHECKPOINT_HYPER_PARAMS_KEY
        plain = checkpoint.get(key) or {}
        if not isinstance(plain, Mapping):
            raise CheckpointError(
                f'The checkpoint\'s "{key}" is a {type(plain).__name__}, and a dict of settings is expected.'
            )
        # What OmegaConf holds (in a file of Lightning's, with weights_only=False) is taken as it would be saved here.
        self._plain = dict(settled(plain))
        self._kinds: Mapping[Any, str] = checkpoint.get(key + KINDS) or _kind_of_lightnings(checkpoint, plain)
        self._home = owner.__module__
        self.left_out: Mapping[str, str] = checkpoint.get(key + LEFT_OUT) or {}
        self.name: str | None = checkpoint.get(owner.CHECKPOINT_HYPER_PARAMS_NAME)
        self.names = tuple(self._plain)

    @property
    def has_fixed_names(self) -> bool:
        """Whether they were one dataclass instance, which has the names that its class has."""
        return self._kinds.get((), "").startswith("dataclass ")

    def get(self, name: str) -> Any:
        """One of them.

        Raises:
            CheckpointError: it is of a class that is not imported, or that has changed.
        """
        try:
            return from_portable(self._plain[name], self._kinds, (name,), self._home)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} Import what it needs before loading, or pass it: load_from_checkpoint(..., {name}=...)."
            ) from error

    def as_one(self, items: dict[str, Any]) -> Any:
        """Such items as the one object that they were saved from.

        Raises:
            CheckpointError: it is of a class that is not imported, or that has changed.
        """
        kinds = {(): self._kinds[()]} if () in self._kinds else {}
        try:
            return from_portable(items, kinds, (), self._home)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} Import what it needs before loading, or pass it: load_from_checkpoint(..., {self.name}=...)."
            ) from error


def _kind_of_lightnings(checkpoint: Mapping[str, Any], settings: Any) -> Mapping[Any, str]:
    """Lightning does not say what the one object was: something with attributes, most often, and perhaps with items."""
    if "pytorch-lightning_version" not in checkpoint:
        return {}
    return {(): "omegaconf" if settled(settings) is not settings else "attributes"}
