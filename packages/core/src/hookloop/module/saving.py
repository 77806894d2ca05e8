"""`SavedModule`: what a module is outside of a run: its settings, its weights, and how it comes back from a file."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any, Self

import torch
from torch import Tensor

from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop.hyperparameters import HyperparametersMixin
from hookloop.hyperparameters.class_only import class_only
from hookloop.module.compiled_names import names_in
from hookloop.module.hooks import ModuleHooks


class SavedModule(ModuleHooks, HyperparametersMixin):
    """Hyperparameters, freezing, and loading from a checkpoint."""

    prepare_data_per_node: bool = True
    """Whether `prepare_data` is called on every machine of a run; False: on one, as its files are seen by all."""

    allow_zero_length_dataloader_with_multiple_devices: bool = False
    """Whether a loader may be empty on one of several devices. On one device it always may."""

    # Class attributes, so that they are there before any __init__ has run.
    _strict_loading: bool | None = None
    _example_input_array: Any = None

    @property
    def strict_loading(self) -> bool:
        """Whether a checkpoint has to have exactly this module's weights (default).

        Holds for load_from_checkpoint, and for ckpt_path of the Trainer's entry points. If it is False, weights that
        are missing or left over are warned about, by name. Set it to False if `state_dict` leaves something out on
        purpose.
        """
        return self._strict_loading is not False

    @strict_loading.setter
    def strict_loading(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise MisconfigurationError(f"strict_loading={value!r} ({type(value).__name__}) is neither True nor False.")
        self._strict_loading = value

    @property
    def example_input_array(self) -> Any:
        """An input for `forward`, for loggers and summaries that trace the module; None: there is none.

        A tensor, a tuple of positional arguments or a dict of keyword arguments, on any device.
        """
        return self._example_input_array

    @example_input_array.setter
    def example_input_array(self, value: Tensor | tuple[Any, ...] | Mapping[str, Any] | None) -> None:
        self._example_input_array = value

    def freeze(self) -> Self:
        """Stop all parameters from being trained, and switch to eval mode; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        return self.eval()

    def unfreeze(self) -> Self:
        """Let all parameters be trained, and switch to training mode; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = True
        return self.train()

    @class_only
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str] | IO[bytes],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        *,
        weights: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A new module with the weights of a checkpoint, constructed with the hyperparameters in it.

        In this order: the constructor, `configure_model`, `on_load_checkpoint`, the weights; then it moves to the
        device of the weights. It is in training mode.

        Args:
            checkpoint_path: the file, here or remote (`https://...`), or an open binary file.
            map_location: where the weights and the module go: a device, or what else torch.load understands. None: the
                device that they were saved from if there is one here, else the CPU.
            hparams_file: settings (.yaml, .yml or .csv) to take in place of the checkpoint's, as the CSVLogger writes
                them.
            strict: whether the weights have to be exactly the module's; None: as its `strict_loading` says, which is
                True by default.
            weights_only: False loads a file that holds other objects than tensors and plain values, and runs whatever
                code is in it. None is True.
            weights: which of the file's weights: a name in its `checkpoint["weights"]`, such as "averaged"; "live" or
                None for its `state_dict`. If the constructor has an argument of this name, it is meant.
            **kwargs: arguments of the constructor, which go before those in the file. If the settings were saved as one
                object, what is no argument changes its items.

        Raises:
            CheckpointError: the file cannot be read, lacks an argument that the constructor needs, or holds weights
                that do not fit.
            MisconfigurationError: an argument is not known, map_location is no device, `strict` is none of these
                values or contradicts the module's `strict_loading`.
        """
        # Not by every import.
        from hookloop.checkpoint_file import read_checkpoint, where_it_was
        from hookloop.checkpoint_file.weight_sets import check_name, with_weights
        from hookloop.hyperparameters.loading import check_map_location, construct, takes

        if weights is not None and takes(cls, "weights"):
            kwargs["weights"], weights = weights, None
        check_name(weights, f"{cls.__name__}.load_from_checkpoint")
        check_map_location(map_location)
        if not isinstance(strict, bool | None):
            raise MisconfigurationError(
                f"{cls.__name__}.load_from_checkpoint(strict={strict!r}) must be True, False or None."
            )
        checkpoint = read_checkpoint(
            checkpoint_path, weights_only is not False, where_it_was if map_location is None else map_location
        )
        if weights is not None:
            checkpoint = with_weights(checkpoint, weights, checkpoint_path)
        module = construct(cls, checkpoint, hparams_file, kwargs)
        if strict is None:
            strict = module.strict_loading
        elif module._strict_loading not in (None, strict):
            raise MisconfigurationError(
                f"{cls.__name__}.load_from_checkpoint(strict={strict!r}) contradicts {cls.__name__}.strict_loading, "
                f"which is {module._strict_loading!r}. Leave one of them out."
            )
        module.configure_model()
        module.on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        load_weights(
            module,
            state,
            strict,
            lambda state, strict: module.load_state_dict(names_in(module, state), strict=strict),
        )
        first = next((value for value in state.values() if isinstance(value, Tensor)), None)
        return module if first is None else module.to(first.device)


def load_weights(
    module: torch.nn.Module,
    weights: Mapping[str, Any],
    strict: bool,
    load: Callable[[Mapping[str, Any], bool], Any],
) -> None:
    """Load weights, with errors and warnings that name them.

    Args:
        module: what they are for.
        weights: what a checkpoint has under "state_dict".
        strict: whether they have to be exactly the module's.
        load: loads them, given `strict`, and returns torch's two lists of names.

    Raises:
        CheckpointError: they do not fit.
    """
    name = type(module).__name__
    try:
        keys = load(weights, strict)
    except RuntimeError as error:
        if type(error) is not RuntimeError or "state_dict" not in str(error):
            raise  # the module's own, not torch's about names and shapes
        raise CheckpointError(
            f"The checkpoint's weights do not fit {name}. {error} Build the module as it was when the checkpoint was "
            "saved. Weights that are missing or left over on purpose are let pass by strict=False of "
            "load_from_checkpoint, or strict_loading = False of the module."
        ) from error
    if strict:
        return
    for kind, of_kind in (
        ("the checkpoint lacks, and which stay as they were made", getattr(keys, "missing_keys", ())),
        ("only the checkpoint has, and which are not loaded", getattr(keys, "unexpected_keys", ())),
    ):
        if of_kind:
            warnings.warn(f"{name} was loaded without weights that {kind}: {', '.join(of_kind)}.", stacklevel=3)
