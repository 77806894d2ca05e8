"""What was logged of a running epoch, as plain values: a resumed run goes on reducing where the saved one was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hookloop.metrics.accumulators import Metric
from hookloop.metrics.entry import Entry, is_metric
from hookloop.metrics.results import Results

_OF_THE_MOMENT = ("training",)

_PLAIN = (int, float, bool, str, type(None))


def results_state(results: Results, metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    """The entries of an epoch of training.

    Args:
        results: of the epoch.
        metrics: the module's metric objects by name. Of an entry of one, the name is kept; what it has taken in is kept
            by `metric_states`. An object that is no attribute of the module has no name, and its entry is left out.
    """
    names = {id(metric): name for name, metric in metrics.items()}
    return [
        {"hook": hook, "key": key, "index": index, "metric": names.get(id(entry.metric)), **entry.state_dict()}
        for (hook, key, index), entry in results.entries.items()
        if entry.metric is None or id(entry.metric) in names
    ]


def load_results(
    results: Results, states: list[dict[str, Any]], metrics: Mapping[str, Metric], device: torch.device
) -> None:
    """Put saved entries into an epoch that has just begun.

    Args:
        results: of the epoch.
        states: what `results_state` gave.
        metrics: the module's metric objects by name.
        device: where tensors go: there the next values will be.
    """
    for state in states:
        hook, key, index, name = state["hook"], state["key"], state["index"], state["metric"]
        if name is None or name in metrics:
            metric = None if name is None else metrics[name]
            results.entries[hook, key, index] = Entry.from_state(hook, key, index, metric, state, device)


def metric_states(metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    """What metric objects have taken in, by their names.

    An object that accumulates by itself is known by update, compute and reset; what it knows is in its attributes.
    Those that are tensors, numbers, strings, or lists of them are kept, which is what torchmetrics' are made of. What
    metrics add to in place is copied: single tensors, and lists, whose tensors stay as they are. The mode of a metric
    that is a module is not its state: a save at the end of a validation finds it in eval mode.
    """
    return {
        name: {
            key: _detached(value)
            for key, value in vars(metric).items()
            if key not in _OF_THE_MOMENT and not key.startswith("__") and _is_plain(value)
        }
        for name, metric in metrics.items()
    }


@contextmanager
def as_they_were(metrics: Mapping[str, Metric], states: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Inside, metric objects have what they had taken in when `metric_states` gave `states`; then what they have now.

    An object that is logged for a step and keeps no value of the batch is computed by who asks for its value.
    """
    now = [(vars(metric), dict(vars(metric))) for metric in metrics.values()]
    try:
        for name, metric in metrics.items():
            vars(metric).update({key: _detached(value) for key, value in states.get(name, {}).items()})
        yield
    finally:
        for attributes, values in now:
            attributes.clear()
            attributes.update(values)


def load_metric_states(module: nn.Module, states: Mapping[str, Mapping[str, Any]], device: torch.device) -> None:
    """Give the module's metric objects what `metric_states` took."""
    for name, metric in metric_objects(module).items():
        for key, value in states.get(name, {}).items():
            if key in vars(metric):
                vars(metric)[key] = _on(value, device)


def metric_objects(module: nn.Module) -> dict[str, Metric]:
    """The module's metric objects, its own attributes and those of its parts, by name."""
    return {name: metric for name, _, _, metric in metric_places(module)}


def metric_places(module: nn.Module) -> Iterator[tuple[str, dict[str, Any], str, Metric]]:
    """The name of each metric object, once; the dict that holds it, by which key; and the object."""
    seen = set[int]()
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        own = {key: value for key, value in vars(part).items() if not key.startswith("_")}
        for holder, values in ((part._modules, part._modules), (vars(part), own)):
            for key, value in values.items():
                if id(value) not in seen and is_metric(value):
                    seen.add(id(value))
                    yield f"{prefix}{key}", holder, key, value


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(_is_plain(one) for one in value)
    return type(value) in (*_PLAIN, Tensor)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return list(value) if type(value) is list else value


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, list | tuple):
        return type(value)(_on(one, device) for one in value)
    return value
