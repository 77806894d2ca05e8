"""States of callbacks in a checkpoint: under which key, of which class, package and version, and whose they are now."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from hookloop.callback import Callback, Hooks, former_names, state_version_of
from hookloop.errors import CheckpointError
from hookloop.hook_checks import overrides


def callback_states(callbacks: Sequence[Callback]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a checkpoint holds of callbacks, each under its state_key.

    Returns:
        The states that are not empty; and of each: the callback's class, its distribution and version ("" where that
        cannot be told), and the version of the state's shape.
    """
    states: dict[str, Any] = {}
    classes: dict[str, dict[str, Any]] = {}
    for callback in callbacks:
        if not overrides(callback, Hooks, "state_dict"):
            continue
        state = callback.state_dict()
        if not state:
            continue
        states[callback.state_key] = state
        classes[callback.state_key] = {**_maker(callback), "state_version": state_version_of(callback)}
    return states, classes


def callback_packages(callbacks: Sequence[Callback]) -> dict[str, str]:
    """The versions of the distributions that callbacks come from, by name; of those with a state and those without."""
    makers = [_maker(callback) for callback in callbacks]
    return {made["distribution"]: made["version"] for made in makers if made["distribution"]}


def load_callback_states(
    callbacks: Sequence[Callback], states: Mapping[str, Any], classes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Give each callback a copy of its state, brought to the shape that its class knows.

    Every state is migrated before the first one is given.

    Args:
        callbacks: those of the run.
        states: by state_key.
        classes: what `callback_states` told of each; {} where nothing is known.

    Raises:
        CheckpointError: a state has a newer shape than its class knows, or its migration fails.
    """
    left = dict(states)
    loading = [callback for callback in callbacks if overrides(callback, Hooks, "load_state_dict")]
    found = [(callback, callback.state_key) for callback in loading if callback.state_key in left]
    for _, key in found:
        del left[key]
    without = [callback for callback in loading if not any(callback is known for known, _ in found)]
    for callback in without:
        former = next((key for key in _former_keys(callback) if key in left), None)
        if former is not None:
            found.append((callback, former))
            del left[former]
    without = [callback for callback in without if not any(callback is known for known, _ in found)]
    for callback in without:
        # A state_key may hold constructor arguments, and one of them may have changed. If there is no doubt whose state
        # it is, it is not lost for that.
        maker = _maker(callback)
        names = {maker["class"], *former_names(callback)}
        keys = [key for key in left if key in classes and _is_of(classes[key], names, maker["distribution"])]
        rivals = [other for other in without if _is_of(_maker(other), names, maker["distribution"])]
        if len(keys) == 1 and len(rivals) == 1:
            found.append((callback, keys[0]))
            del left[keys[0]]
    ready = [(callback, _migrated(callback, states[key], classes.get(key, {}))) for callback, key in found]
    for callback, state in ready:
        callback.load_state_dict(state)
    for callback in callbacks:
        left.pop(callback.state_key, None)  # saved by one that never loads: its state is no stranger's
    if left:
        parts = [f"{key}{_package_hint(classes.get(key, {}))}" for key in left]
        warnings.warn(
            f"The checkpoint holds states of callbacks that are not in this run: {'; '.join(parts)}. Pass them to the "
            "Trainer to restore them.",
            stacklevel=2,
        )


def _former_keys(callback: Callback) -> Iterator[str]:
    """What the state_key was when the class had another name, if it begins with the name."""
    key, name = callback.state_key, type(callback).__qualname__
    if key.startswith(name):
        yield from (former + key[len(name) :] for former in former_names(callback))


def _migrated(callback: Callback, state: Any, made_by: Mapping[str, Any]) -> Any:
    """A copy of the state, in the shape that the callback's class knows."""
    state, saved, known = deepcopy(state), made_by.get("state_version", 1), state_version_of(callback)
    if saved == known:
        return state
    name = type(callback).__name__
    saved_by = f", saved by {made_by['distribution']} {made_by['version']}" if made_by.get("distribution") else ""
    if not isinstance(saved, int) or saved > known:
        here = _maker(callback)
        which = f"of {here['distribution']} {here['version']} " if here["distribution"] else ""
        raise CheckpointError(
            f"The checkpoint holds a state of {name} of version {saved}{saved_by}, and the {name} {which}that is in "
            f"this run knows versions up to {known}. {_advice(made_by)}, or leave the callback out."
        )
    try:
        migrated = callback.migrate_state(state, saved)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{name}.migrate_state could not bring a state of version {saved}{saved_by} to version {known}: "
            f"{type(error).__name__}: {error}. {_advice(made_by)}, or leave the callback out."
        ) from error
    if not isinstance(migrated, dict):
        raise CheckpointError(
            f"{name}.migrate_state returned {migrated!r} ({type(migrated).__name__}) for a state of version {saved}. "
            "It has to return the state, a dict, as load_state_dict takes it."
        )
    return migrated


def _advice(made_by: Mapping[str, Any]) -> str:
    if not made_by.get("distribution"):
        return "Use the class that saved it"
    return f"Run `pip install {made_by['distribution']}=={made_by['version']}` to go on with what saved it"


def _maker(callback: Callback) -> dict[str, str]:
    """The class of a callback, and the distribution and version that it comes from; "" where that cannot be told."""
    from hookloop.discovery import provenance  # not by every import

    made_by = provenance(callback)
    return {
        "class": type(callback).__qualname__,
        "distribution": made_by.distribution if made_by else "",
        "version": made_by.version if made_by else "",
    }


def _is_of(made_by: Mapping[str, Any], names: set[str], distribution: str) -> bool:
    return made_by.get("class") in names and made_by.get("distribution") == distribution


def _package_hint(made_by: Mapping[str, Any]) -> str:
    distribution = made_by.get("distribution")
    if not distribution:
        return ""
    return f" (from {distribution} {made_by['version']}: pip install {distribution}=={made_by['version']})"
