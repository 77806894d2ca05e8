"""Several dicts of numbers into one."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def merge_dicts(
    dicts: Sequence[Mapping[str, Any]],
    agg_key_funcs: Mapping[str, Any] | None = None,
    default_func: Callable[[Sequence[float]], float] = statistics.mean,
) -> dict[str, Any]:
    """Merge dicts: the numbers of one key, from all dicts that have it, become one number. Dicts inside merge likewise.

    Args:
        dicts: what to merge. Values that are None count as missing.
        agg_key_funcs: for some keys, what makes one number of the list of theirs; for a key of dicts, a mapping of the
            same form.
        default_func: the same for all other keys.

    Returns:
        The merged dict; keys stand in the order in which they first came.
    """
    functions = agg_key_funcs or {}
    collected: dict[str, list[Any]] = {}
    for one in dicts:
        for key, value in one.items():
            if value is not None:
                collected.setdefault(key, []).append(value)
    return {
        key: merge_dicts(values, functions.get(key), default_func)
        if isinstance(values[0], Mapping)
        else (functions.get(key) or default_func)(values)
        for key, values in collected.items()
    }
