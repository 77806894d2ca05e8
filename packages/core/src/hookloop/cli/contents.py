"""From what a file holds to what can be said of it, in plain values: of hookloop's checkpoints and of Lightning's."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hookloop.cli.inert import Storage, Tensor, Unknown
from hookloop.cli.reading import Saved

_OF_LIGHTNING = "pytorch-lightning_version"
_DEEPEST = 12
_LONGEST = 200
_MOST_ITEMS = 50

Plain = Any
"""None, bool, int, float, str, and lists and dicts of them: what JSON can hold."""


def summary(saved: Saved) -> dict[str, Plain]:
    """What there is to say of a checkpoint.

    Returns:
        written_by, version, format      # "hookloop", "Lightning" or None: who wrote it
        bytes, records                   # of the file; records is None without checksums
        epoch, global_step, batch        # how far training was; batch is None where it is not known
        resumable                        # whether a fit can go on from it
        weights                          # tensors, values, bytes, dtypes, entries: name, shape, dtype
        other_weights                    # the same of each set that callbacks keep beside these, by name
        callbacks                        # key, class, distribution, version
        optimizers, schedulers           # class, and their settings
        hyper_parameters, datamodule_hyper_parameters
        metrics                          # the latest logged values
        loaders                          # how many training loaders have a position; None if there is none
        packages                         # versions of distributions, as far as the file records them
        others                           # keys of the checkpoint that are not looked at
    """
    contents = _mapping(saved.contents)
    weights = contents.get("state_dict") if "state_dict" in contents else contents
    is_lightning = _OF_LIGHTNING in contents
    program = "Lightning" if is_lightning else "hookloop" if "hookloop_version" in contents else None
    return {
        "written_by": program,
        "version": _text_or_none(contents.get(_OF_LIGHTNING if is_lightning else "hookloop_version")),
        "format": plain(contents.get("format"), saved),
        "bytes": saved.size,
        "records": saved.records,
        "epoch": plain(contents.get("epoch"), saved),
        "global_step": plain(contents.get("global_step"), saved),
        "batch": _batch(contents),
        "resumable": "progress" in contents or (is_lightning and "optimizer_states" in contents),
        "weights": _weights(_mapping(weights)),
        "other_weights": _other_weights(contents) if "state_dict" in contents else {},
        "callbacks": _callbacks(contents),
        "optimizers": list(_optimizers(contents, saved)),
        "schedulers": list(_schedulers(contents, saved)),
        "hyper_parameters": _settings(contents, "hyper_parameters", saved),
        "datamodule_hyper_parameters": _settings(contents, "datamodule_hyper_parameters", saved),
        "metrics": _metrics(contents, saved),
        "loaders": _loaders(contents),
        "packages": packages(contents),
        "others": sorted(str(key) for key in contents if key not in _LOOKED_AT) if "state_dict" in contents else [],
    }


def packages(contents: Mapping[Any, Any]) -> dict[str, str]:
    """The distributions that a checkpoint of hookloop's records, with their versions, by name."""
    made = [_mapping(one) for one in _mapping(contents.get("callback_classes")).values()]
    found = {str(one["distribution"]): str(one.get("version")) for one in made if one.get("distribution")}
    found |= {str(name): str(version) for name, version in _mapping(contents.get("callback_packages")).items()}
    for name in ("hookloop", "torch"):
        if f"{name}_version" in contents:
            found[name] = str(contents[f"{name}_version"])
    return {name: found[name] for name in sorted(found, key=str.lower)}


def plain(value: Any, saved: Saved, depth: int = 0) -> Plain:
    """A value as JSON can hold it: what has no place there is described, and what is too long or too deep is cut."""
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
    if isinstance(value, Tensor):
        number = saved.number(value)
        return f"tensor of {written_shape(value)}" if number is None else plain(number, saved)
    if depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping) or (isinstance(value, Unknown) and value.is_mapping):
        return _cut({_text(key): plain(item, saved, depth + 1) for key, item in _some(_mapping(value).items())}, value)
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item, saved, depth + 1) for item in _some(value)]
        return items if len(value) <= _MOST_ITEMS else [*items, f"... {len(value) - _MOST_ITEMS} more"]
    if isinstance(value, Unknown):
        inside = [*value.arguments, *value.items, *([] if value.state is None else [value.state])]
        return f"{value.kind}({', '.join(_text(plain(one, saved, depth + 1)) for one in _some(inside))})"
    if isinstance(value, Storage):
        return f"{value.count} numbers"
    return _text(value)


def written_shape(tensor: Tensor) -> str:
    """As `2x3 float32`."""
    return f"{'x'.join(map(str, tensor.shape)) or 'one'} {tensor.dtype}"


def _text(value: Any) -> str:
    # Of bytes, complex numbers and what plain() made; never of an object with a repr of its own.
    if isinstance(value, Unknown) or (isinstance(value, type) and issubclass(value, Unknown)):
        shown = value.kind
    else:
        shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def _text_or_none(value: Any) -> str | None:
    if isinstance(value, Unknown) and value.arguments:
        value = value.arguments[0]  # a version with a class of its own
    return value if isinstance(value, str) else None


def _some(items: Iterable[Any]) -> Iterator[Any]:
    for number, item in enumerate(items):
        if number == _MOST_ITEMS:
            return
        yield item


def _cut(shown: dict[str, Plain], value: Any) -> dict[str, Plain]:
    left = len(_mapping(value)) - len(shown)
    return {**shown, "...": f"{left} more"} if left > 0 else shown


def _mapping(value: Any) -> Mapping[Any, Any]:
    """A mapping, whatever class it was of; empty for everything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Unknown):
        if value.is_mapping:
            return {key if _hashable(key) else _text(key): item for key, item in value.items}
        if isinstance(value.state, dict):  # as argparse.Namespace
            return value.state
    return {}


def _hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _sequence(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _batch(contents: Mapping[Any, Any]) -> int | None:
    progress = _mapping(contents.get("progress"))
    if "batch" in progress:
        return progress["batch"] if isinstance(progress["batch"], int) else None
    fit = _mapping(_mapping(contents.get("loops")).get("fit_loop"))
    current = _mapping(_mapping(fit.get("epoch_loop.batch_progress")).get("current"))
    return current["completed"] if isinstance(current.get("completed"), int) else None


def _weights(entries: Mapping[Any, Any]) -> dict[str, Plain]:
    tensors = {_text(name): one for name, one in entries.items() if isinstance(one, Tensor)}
    dtypes: Counter[str] = Counter()
    for one in tensors.values():
        dtypes[one.dtype] += one.values
    return {
        "tensors": len(tensors),
        "values": sum(dtypes.values()),
        "bytes": _bytes_of(tensors.values()),
        "dtypes": dict(dtypes.most_common()),
        "entries": [{"name": name, "shape": list(one.shape), "dtype": one.dtype} for name, one in tensors.items()],
    }


def _other_weights(contents: Mapping[Any, Any]) -> dict[str, Plain]:
    return {_text(name): _weights(_mapping(one)) for name, one in _mapping(contents.get("weights")).items()}


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    """Storages that several tensors share are one."""
    shared = {one.storage.key: one.storage.bytes or 0 for one in tensors if one.storage is not None}
    return sum(shared.values())


def _callbacks(contents: Mapping[Any, Any]) -> list[dict[str, Plain]]:
    makers = _mapping(contents.get("callback_classes"))
    found = []
    for key in _mapping(contents.get("callbacks")):
        maker = _mapping(makers.get(key))
        name = _text(key)
        found.append(
            {
                "key": name,
                "class": str(maker.get("class") or name.partition("{")[0]),
                "distribution": str(maker["distribution"]) if maker.get("distribution") else None,
                "version": str(maker["version"]) if maker.get("version") else None,
            }
        )
    return found


def _optimizers(contents: Mapping[Any, Any], saved: Saved) -> Iterator[dict[str, Plain]]:
    names = _sequence(contents.get("optimizer_classes"))
    for number, state in enumerate(_sequence(contents.get("optimizer_states"))):
        parts = _mapping(state)
        groups = [_mapping(one) for one in _sequence(parts.get("param_groups"))]
        kept = [one for state in _mapping(parts.get("state")).values() for one in _mapping(state).values()]
        tensors = [one for one in kept if isinstance(one, Tensor)]
        yield {
            "class": _text(names[number]) if number < len(names) else None,
            "groups": [
                {
                    "parameters": len(_sequence(group.get("params"))),
                    **{_text(key): plain(value, saved) for key, value in group.items() if key != "params"},
                }
                for group in groups
            ],
            "state_tensors": len(tensors),
            "state_bytes": _bytes_of(tensors),
        }


def _schedulers(contents: Mapping[Any, Any], saved: Saved) -> Iterator[dict[str, Plain]]:
    names = _sequence(contents.get("lr_scheduler_classes"))
    for number, state in enumerate(_sequence(contents.get("lr_schedulers"))):
        yield {
            "class": _text(names[number]) if number < len(names) else None,
            **{_text(key).lstrip("_"): plain(value, saved) for key, value in _mapping(state).items()},
        }


def _settings(contents: Mapping[Any, Any], key: str, saved: Saved) -> dict[str, Plain]:
    found = {_text(name): plain(value, saved) for name, value in _mapping(contents.get(key)).items()}
    left_out = _mapping(contents.get(f"{key}_left_out"))
    return found | {_text(name): f"(not in the file: {_text(why)})" for name, why in left_out.items()}


def _metrics(contents: Mapping[Any, Any], saved: Saved) -> dict[str, Plain]:
    return {_text(key): plain(value, saved) for key, value in _mapping(contents.get("callback_metrics")).items()}


def _loaders(contents: Mapping[Any, Any]) -> int | None:
    train = _mapping(_mapping(contents.get("loaders")).get("train"))
    return len(_sequence(train["parts"])) if "parts" in train else None


_LOOKED_AT = {
    *("format", "hookloop_version", _OF_LIGHTNING, "torch_version", "epoch", "global_step"),
    *("state_dict", "weights"),
    *("callbacks", "callback_classes", "callback_packages", "progress", "loops"),
    *("optimizer_states", "optimizer_classes", "lr_schedulers", "lr_scheduler_classes", "callback_metrics", "loaders"),
    *(f"{owner}{key}" for owner in ("", "datamodule_") for key in ("hyper_parameters", "hparams_name")),
    *(f"{owner}hyper_parameters_{part}" for owner in ("", "datamodule_") for part in ("kinds", "left_out")),
}
