"""Checkpoints that Lightning 2 wrote, in the terms of hookloop's own. Imported when such a file is met."""

import ast
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from torch import Tensor

from hookloop.callback import Callback
from hookloop.checkpoint_file.weight_sets import LIVE, WEIGHTS, weight_sets
from hookloop.errors import CheckpointError
from hookloop.loaders import Loaders
from hookloop.progress import Progress
from hookloop.random_state import random_state

_VERSION = "pytorch-lightning_version"

_SCALERS = (
    "MixedPrecision",
    "FSDPPrecision",
    "MixedPrecisionPlugin",  # 2.0
    "FSDPMixedPrecisionPlugin",
    "native_amp_scaling_state",  # before
)


def translated(
    checkpoint: Mapping[str, Any],
    callbacks: Sequence[Callback] = (),
    datamodule_class: str | None = None,
    accumulate_grad_batches: int = 1,
) -> dict[str, Any]:
    """A checkpoint of Lightning with the entries that hookloop restores a run from.

    What Lightning wrote is kept beside them, for hooks that look for it. Nothing of what was passed is changed.

    Args:
        checkpoint: what the file holds.
        callbacks: those of the run that is restored: states are sorted by their state_key.
        datamodule_class: the qualified name of its datamodule's class, under which Lightning keeps its state.
        accumulate_grad_batches: of the run that is restored. Lightning saves no gradients, so a run that was saved
            inside a window goes on at the window's beginning.

    Returns:
        The entries of hookloop that can be told from it. A file with weights alone has none of training.

    Raises:
        CheckpointError: it was written by Lightning 1, or its entries are not those of Lightning 2.
    """
    ours = dict(checkpoint)
    sets = weight_sets(checkpoint)
    if sets[LIVE] is not checkpoint["state_dict"]:  # which is an average there
        ours["state_dict"] = sets.pop(LIVE)
        ours[WEIGHTS] = sets
    if datamodule_class is not None and datamodule_class in checkpoint:
        ours["datamodule"] = checkpoint[datamodule_class]
    if "callbacks" in checkpoint:
        ours["callbacks"] = _callback_states(checkpoint["callbacks"], callbacks)
    if "optimizer_states" in checkpoint and "loops" in checkpoint:
        ours["progress"] = _progress(checkpoint, accumulate_grad_batches).state_dict()
        ours["precision"] = next((checkpoint[name] for name in _SCALERS if name in checkpoint), {})
    return ours


def _progress(checkpoint: Mapping[str, Any], accumulate_grad_batches: int) -> Progress:
    """Where Lightning's loops were.

    Lightning counts what is ready, started, processed and completed of epochs and batches. In on_train_batch_end a
    batch is processed and not completed, in on_train_epoch_end so is the epoch.
    """
    version = str(checkpoint[_VERSION])
    if version.split(".")[0] in ("0", "1"):
        raise CheckpointError(
            f"The checkpoint was written by Lightning {version}, and training is resumed from those of Lightning 2. "
            "Let Lightning 2 upgrade it first (python -m lightning.pytorch.utilities.upgrade_checkpoint PATH), or take "
            "its weights with load_from_checkpoint, and fit that module without ckpt_path."
        )
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
        current = batches["current"]
        stepped = loop["epoch_loop.state_dict"].get("_batches_that_stepped", 0)
        validation = loop.get("epoch_loop.val_loop.batch_progress")
        progress = Progress(
            epoch=epochs["completed"],
            global_step=checkpoint["global_step"],
            logged_step=stepped,
            total_batches=batches["total"]["processed"],
        )
        if epochs["started"] == epochs["completed"]:
            return progress  # between two epochs
        progress.epoch_started = True
        progress.epoch_ended = epochs["processed"] > epochs["completed"]
        progress.batch = current["processed"]
        between_batches = current["ready"] == current["processed"] > 0
        progress.last_batch = progress.epoch_schedulers_stepped = between_batches and batches["is_last_batch"]
        if progress.epoch_ended:
            progress.epoch_schedulers_stepped = True
            return progress
        inside_window = progress.batch % accumulate_grad_batches if not progress.last_batch else 0
        if between_batches and not inside_window:
            progress.logged_step = min(stepped + 1, progress.total_batches)  # Lightning counts it after the hooks
        if inside_window:
            progress.batch -= inside_window
            progress.total_batches -= inside_window
            progress.validated_at = progress.batch
        elif current["completed"] == current["ready"] and validation is not None:
            done = validation["current"]
            complete = validation["is_last_batch"] and done["completed"] == done["ready"]
            if complete and not _needs_metrics(checkpoint, progress):
                progress.validated_at = progress.batch
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The checkpoint says that Lightning {version} wrote it, and its loops are not those of Lightning 2 "
            f"({type(error).__name__}: {error}). Take its weights with load_from_checkpoint, and fit that module "
            "without ckpt_path."
        ) from error
    return progress


def _needs_metrics(checkpoint: Mapping[str, Any], progress: Progress) -> bool:
    """Whether a plateau scheduler still had to step after the validation that is done: its metrics are not saved."""
    steps = [state.get("last_epoch") for state in checkpoint["lr_schedulers"] if "num_bad_epochs" in state]
    return (progress.last_batch and progress.epoch in steps) or progress.global_step - 1 in steps


# callbacks


def _callback_states(states: Mapping[str, Any], callbacks: Sequence[Callback]) -> dict[str, Any]:
    """States by the keys of this run's callbacks; those that belong to none of them keep Lightning's key.

    Lightning's own callbacks have keys like "ModelCheckpoint{'monitor': 'loss', 'mode': 'min'}": a class, and the
    settings that tell its instances apart. They go to a callback of that class with those settings. What the settings
    say is added to the state, and scalar tensors in it become numbers, which is what callbacks of hookloop keep. Any
    other state is a user's own, and stays as it is.
    """
    left = {key: state for key, state in states.items() if _settings_in(key) is None}
    with_settings = {key: state for key, state in states.items() if key not in left}
    free = [callback for callback in callbacks if callback.state_key not in left]
    for key, state in with_settings.items():
        name, settings = key.partition("{")[0], _settings_in(key) or {}
        same_class = [callback for callback in free if type(callback).__qualname__ == name]
        fitting = [callback for callback in same_class if _has_settings(callback, settings)]
        if len(fitting) != 1:
            # A setting may have changed; if there is no doubt whose state it is, it is not lost for that.
            rivals = [other for other in with_settings if other.partition("{")[0] == name]
            fitting = same_class if len(rivals) == 1 else []
        if len(fitting) != 1 or not isinstance(state, Mapping):
            left[key] = state
            continue
        free.remove(fitting[0])
        left[fitting[0].state_key] = settings | {part: _plain(value) for part, value in state.items()}
    return left


def _settings_in(key: str) -> dict[str, Any] | None:
    """The settings in a key that Lightning made of a class and its settings; None for any other key."""
    name, brace, rest = key.partition("{")
    if not brace or not name.isidentifier():
        return None
    try:
        settings = ast.literal_eval(brace + rest)
    except (ValueError, SyntaxError):  # among them may be a timedelta, which is no literal
        return {}
    return settings if isinstance(settings, dict) else {}


def _has_settings(callback: Callback, settings: Mapping[str, Any]) -> bool:
    """Whether a callback has the settings, as far as it has attributes of these names."""
    nothing = object()
    for name, value in settings.items():
        own = getattr(callback, name, nothing)
        if own is not nothing and own != value and (own or value):  # "not at all" is 0 there and may be None here
            return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() == 0:
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


# optimizers and schedulers

_NOT_IN_EVERY_VERSION = {"verbose", "default_min_lr"}
"""Settings of schedulers that some versions of torch save and others do not."""


def check_schedulers(schedulers: Sequence[Any], states: Sequence[Mapping[str, Any]]) -> None:
    """Tell the state of another class of schedulers by its settings: Lightning saves no names, and torch takes any.

    To be called before they are loaded.

    Raises:
        CheckpointError: a state has other settings than the scheduler that it is for.
    """
    for scheduler, state in zip(schedulers, states, strict=False):
        if type(scheduler).__module__.startswith("torch.optim"):
            own, saved = (
                {name for name in one if not name.startswith("_")} - _NOT_IN_EVERY_VERSION
                for one in (scheduler.state_dict(), state)
            )
            _check_names("scheduler", scheduler, lacking=own - saved, unknown=saved - own)


def check_optimizers(optimizers: Sequence[Any]) -> None:
    """Tell the state of another class of optimizers, after it was loaded: then torch has filled in what older lack.

    Raises:
        CheckpointError: an optimizer has lost settings to it.
    """
    for optimizer in optimizers:
        lacking = {name for group in optimizer.param_groups for name in optimizer.defaults if name not in group}
        _check_names("optimizer", optimizer, lacking)


def _check_names(kind: str, part: Any, lacking: Set[str], unknown: Set[str] = frozenset()) -> None:
    told = [f"{verb} {', '.join(sorted(names))}" for verb, names in (("lacks", lacking), ("has", unknown)) if names]
    if told:
        raise CheckpointError(
            f"The checkpoint's {kind} state is of another class than the {type(part).__name__} that "
            f"configure_optimizers() returned: it {' and '.join(told)}. Return what the saved run did."
        )


# what a run can go on with


def go_on_inside(loaders: Loaders, checkpoint: Mapping[str, Any], epoch: int, batch: int) -> None:
    """Have the running epoch go on after the batches that are done, which are not read again.

    The order of the epoch is drawn now: of one that is not shuffled it is the one that it was.

    Args:
        loaders: of the run, which were asked for.
        checkpoint: what the file holds, for the states of loaders that know by themselves where they are.
        epoch: the running one.
        batch: its batches that are done.
    """
    if not batch:
        return
    state = loaders.state_dict()
    parts = (state["train"] or {}).get("parts", [])
    knowing = [] if loaders.place is None else loaders.place.stateful
    stateful = [part for part, knows in zip(parts, knowing, strict=False) if knows]
    kept = checkpoint["loops"]["fit_loop"].get("state_dict", {}).get("combined_loader", [])
    if len(kept) == len(stateful):
        for part, one in zip(stateful, kept, strict=True):
            part["state"] = one
    for part in parts:
        part["order"] = {"global": random_state(), "generators": part["generators"]}
    if parts:
        state["train"]["began"] = random_state()
        loaders.load_state_dict(state, epoch)


def warn_of_what_is_missing(checkpoint: Mapping[str, Any]) -> None:
    """Say what a run that goes on from this file cannot have back, because Lightning does not save it.

    Args:
        checkpoint: what `translated` returned.
    """
    missing = " ".join(_missing(checkpoint))
    warnings.warn(
        f"The checkpoint was written by Lightning {checkpoint[_VERSION]}: weights, optimizers, schedulers and "
        f"counters are taken over. {missing}",
        stacklevel=2,
    )


def _missing(checkpoint: Mapping[str, Any]) -> Iterator[str]:
    progress, loop = checkpoint["progress"], checkpoint["loops"]["fit_loop"]
    yield (
        "It holds no random state: what is shuffled, dropped out or augmented from here on is drawn anew, by the seed "
        "of this run."
    )
    if progress["epoch_started"] and not progress["epoch_ended"]:
        batch, done = progress["batch"], loop["epoch_loop.batch_progress"]["current"]["processed"]
        epoch = progress["epoch"]
        yield f"It was saved inside epoch {epoch}, after {batch} batches, whose logged values are not in it."
        if not progress["last_batch"]:
            yield (
                "It holds no place in the data: a loader that does not shuffle goes on with the next batch; one that "
                "shuffles draws another order, so that some samples of this epoch come twice and others not at all."
            )
        if batch != done:
            yield (
                f"The gradients of the accumulation window that was open are not in it, so its {done - batch} "
                "batch(es) come again."
            )
    for number, state in enumerate(checkpoint["lr_schedulers"]):
        if progress["epoch_ended"] and "num_bad_epochs" in state and state.get("last_epoch") == progress["epoch"]:
            yield (
                f"It was saved before scheduler {number}, which steps on a metric, took its step of epoch "
                f"{progress['epoch']}. That step is left out, as Lightning leaves it out."
            )
    averages = [name for name in ("averaging_state", "current_model_state") if name in checkpoint]
    if averages:
        yield (
            f"Its state_dict holds weights that a callback has averaged; the others are under {' and '.join(averages)},"
            " which is not taken over."
        )
