"""`hookloop lock`: the versions of torch, hookloop and the callback packages, as a file of constraints for pip."""

import argparse
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from hookloop.cli.contents import packages, summary
from hookloop.cli.reading import opened, read
from hookloop.discovery.entries import installed, normalized
from hookloop.errors import CheckpointError

_DESCRIPTION = """Print the versions of torch, of hookloop and of every installed package that
registers callbacks, as a file of constraints for pip:

  hookloop lock > constraints.txt
  pip install -c constraints.txt hookloop[all]

With --checkpoint, the versions that a checkpoint was written with."""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("lock", help="print versions as constraints for pip", description=_DESCRIPTION)
    parser.add_argument("--checkpoint", metavar="PATH", help="a file that hookloop wrote, or protocol://...")
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Print the constraints.

    Raises:
        CheckpointError: the checkpoint cannot be read, or records no versions.
    """
    print("\n".join(_installed() if given.checkpoint is None else _recorded(given.checkpoint)))
    return 0


def _installed() -> list[str]:
    registered = installed()
    everything = (*registered.factories, *registered.classes, *registered.names)
    found = {one.distribution: one.version for one in everything}
    notes = []
    for name in ("hookloop", "torch"):
        try:
            found[name] = distribution(name).version
        except PackageNotFoundError:
            notes.append(f"# {name}: not installed, but found in a folder; nothing can be pinned.")
    lines = [f"# hookloop lock, Python {platform.python_version()}", *notes]
    return [*lines, *_pins(found), *_folders(found)]


def _recorded(path: str) -> list[str]:
    with opened(path) as file:
        saved = read(file, path)
    found = packages(saved.contents if isinstance(saved.contents, Mapping) else {})
    if not found:
        who = summary(saved)["written_by"]
        raise CheckpointError(
            f"{path} records no versions: {f'{who} wrote it' if who else 'it does not say who wrote it'}, and hookloop "
            "does not know with what. Give a checkpoint that hookloop wrote."
        )
    notes = [] if "torch" in found else ["# torch: its version is not in the file."]
    unknown = [f"# {name}: its version is not in the file." for name, one in found.items() if not one[:1].isdigit()]
    pins = {name: one for name, one in found.items() if one[:1].isdigit()}
    return [f"# hookloop lock, recorded in {path}", *notes, *unknown, *_pins(pins)]


def _pins(found: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted(found, key=normalized):
        _, local, build = found[name].partition("+")
        if local:
            lines.append(f"# {name} {found[name]} is a build named {build}: pip needs the index that it came from.")
        lines.append(f"{name}=={found[name]}")
    return lines


def _folders(found: Mapping[str, str]) -> list[str]:
    """Those that were installed from elsewhere than an index, where pip finds no such version again."""
    lines = []
    for name in sorted(found, key=normalized):
        try:
            text = distribution(name).read_text("direct_url.json")
            url = json.loads(text)["url"] if text else None
        except (PackageNotFoundError, ValueError, KeyError):
            continue
        if url is not None:
            lines.append(f"# {name} was installed from {url}")
    return lines
