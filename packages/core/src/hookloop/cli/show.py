"""`hookloop checkpoint show`: what is inside a file."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hookloop.cli.contents import summary
from hookloop.cli.reading import opened, read
from hookloop.cli.text import counted, fields, size
from hookloop.errors import CheckpointError

_DESCRIPTION = """Say what is inside a checkpoint: how far training was, weights, callbacks
and who made them, optimizers, schedulers, settings. For files of
Lightning's too.

No code of the file is run, no class of it imported, and no weights are
read."""


def add_to(commands: Any) -> None:
    """Add the command to `hookloop checkpoint`."""
    parser = commands.add_parser("show", help="say what is inside a file", description=_DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="a file, or protocol://...")
    parser.add_argument("--weights", action="store_true", help="list the weights by name")
    parser.add_argument("--json", action="store_true", help="print everything, for programs")
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Print the summary of one file.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds something else.
    """
    with opened(given.path) as file:
        saved = read(file, given.path)
    found = summary(saved)
    if not found["weights"]["tensors"] and found["written_by"] is None:
        raise CheckpointError(
            f"{given.path} is no checkpoint: it holds no weights by name, and does not say who wrote it."
        )
    if given.json:
        print(json.dumps({"path": given.path, **found}, indent=2, allow_nan=False))
        return 0
    print("\n".join([given.path, *fields(_rows(found))]))
    if given.weights:
        entries = [(one["name"], f"{_shape(one['shape'])} {one['dtype']}") for one in found["weights"]["entries"]]
        print("\n".join(["", "weights", *fields(entries)]))
    return 0


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "written by", _writer(found)
    if found["records"] is None:
        yield "file", f"{size(found['bytes'])}, without checksums"
    else:
        yield "file", f"{size(found['bytes'])} in {counted(found['records'], 'record')}"
    if found["epoch"] is not None:
        inside = f", {counted(found['batch'], 'batch', 'batches')} of it done" if found["batch"] else ""
        yield "epoch", f"{found['epoch']}{inside}"
    if found["global_step"] is not None:
        yield "global step", f"{found['global_step']}"
    if found["written_by"] is not None:
        yield "training", "its state is in the file" if found["resumable"] else "no state of it: a fit cannot go on"
    weights = found["weights"]
    dtypes = [f"{count:,} {dtype}" for dtype, count in weights["dtypes"].items()]
    yield "weights", f"{counted(weights['tensors'], 'tensor')}, {size(weights['bytes'])}: {', '.join(dtypes) or 'none'}"
    for name, one in found["other_weights"].items():
        yield f"{name} weights", f"{counted(one['tensors'], 'tensor')}, {size(one['bytes'])}"
    for number, one in enumerate(found["callbacks"]):
        made_by = f", {one['distribution']} {one['version']}" if one["distribution"] else ""
        yield "" if number else "callbacks", f"{one['class']}{made_by}"
    for number, one in enumerate(found["optimizers"]):
        yield "" if number else "optimizers", _optimizer(one)
    for number, one in enumerate(found["schedulers"]):
        rate = f", last lr {_list(one['last_lr'])}" if one.get("last_lr") else ""
        yield "" if number else "schedulers", f"{one['class'] or 'unnamed'}, step {one.get('last_epoch')}{rate}"
    if found["loaders"] is not None:
        yield "loaders", f"the position of {counted(found['loaders'], 'training loader')}"
    for title, key in (("settings", "hyper_parameters"), ("of the data", "datamodule_hyper_parameters")):
        for number, (name, value) in enumerate(found[key].items()):
            yield "" if number else title, f"{name} = {_value(value)}"
    for number, (name, value) in enumerate(found["metrics"].items()):
        yield "" if number else "last logged", f"{name} = {_value(value)}"
    if found["packages"]:
        yield "versions", ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    if found["others"]:
        yield "also in it", ", ".join(found["others"])


def _writer(found: Mapping[str, Any]) -> str:
    if found["written_by"] is None:
        return "not told"
    written_format = f", format {found['format']}" if found["format"] is not None else ""
    return f"{found['written_by']} {found['version']}{written_format}"


def _optimizer(one: Mapping[str, Any]) -> str:
    groups = one["groups"]
    rates = [group["lr"] for group in groups if "lr" in group]
    held = sum(group["parameters"] for group in groups)
    parts = [one["class"] or "unnamed", *([f"lr {_list(rates)}"] if rates else []), counted(held, "parameter tensor")]
    if len(groups) > 1:
        parts.append(f"in {len(groups)} groups")
    return f"{', '.join(parts)}; {size(one['state_bytes'])} of state"


def _list(values: Any) -> str:
    return ", ".join(map(_value, values)) if isinstance(values, list) else _value(values)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "one"
