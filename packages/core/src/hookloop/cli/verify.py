"""`hookloop checkpoint verify`: whether files are what was written."""

import argparse
import json
from pathlib import Path
from typing import Any

from hookloop.cli.reading import opened, read
from hookloop.cli.text import counted, paragraph, size
from hookloop.errors import CheckpointError

_DESCRIPTION = """Check every record of checkpoints against the checksum (CRC-32) that was
written with it, and that no record is missing. No code of the files is run.

A folder stands for all *.ckpt in it and in its folders. Exit code 1 if one
file is damaged, missing, or was not written by torch.save."""


def add_to(commands: Any) -> None:
    """Add the command to `hookloop checkpoint`."""
    parser = commands.add_parser("verify", help="check every byte of files", description=_DESCRIPTION)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder, or protocol://...")
    parser.add_argument("--json", action="store_true", help="print one list for programs")
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Look at each file."""
    results = [verified(path) for name in given.paths for path in _files(name)]
    bad = [one for one in results if not one["intact"]]
    if given.json:
        print(json.dumps(results, indent=2))
        return 1 if bad else 0
    for one in results:
        if one["intact"]:
            print(f"intact  {one['path']}  ({_what_was_checked(one)})")
        else:
            print("\n".join([f"BAD     {one['path']}", *paragraph(one["problem"], " " * 8)]))
    if len(results) > 1:
        print(f"{counted(len(results), 'file')}: {len(results) - len(bad)} intact, {len(bad)} bad")
    return 1 if bad else 0


def verified(path: str) -> dict[str, Any]:
    """What there is to say of one file: `path`, `intact`, `problem` (None if there is none), `bytes`, `records`.

    `records` is None where the file has no checksums: before version 1.6, torch wrote none.
    """
    found: dict[str, Any] = {"path": path, "intact": False, "problem": None, "bytes": None, "records": None}
    try:
        with opened(path) as file:
            saved = read(file, path)
            found |= {"bytes": saved.size, "records": saved.records}
            file.seek(0)
            from hookloop.checkpoint_file import verify_checkpoint  # it brings torch

            try:
                verify_checkpoint(file)
            except CheckpointError as error:
                raise CheckpointError(str(error).replace(str(file), path)) from error  # an open file has no good name
    except CheckpointError as error:
        return {**found, "problem": str(error)}
    return {**found, "intact": True}


def _files(name: str) -> list[str]:
    folder = Path(name)
    if "://" in name or not folder.is_dir():
        return [name]
    return sorted(str(path) for path in folder.rglob("*.ckpt")) or [name]


def _what_was_checked(one: dict[str, Any]) -> str:
    if one["records"] is None:
        return f"{size(one['bytes'])}; torch wrote no checksums before version 1.6, so its weights are not checked"
    return f"{counted(one['records'], 'record')}, {size(one['bytes'])}"
