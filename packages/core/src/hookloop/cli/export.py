"""`hookloop checkpoint export`: the weights of a checkpoint, and nothing else, in a file of their own."""

import argparse
from typing import Any

from hookloop.cli.text import counted
from hookloop.errors import CheckpointError
from hookloop.storage.paths import is_remote, local_path

_DESCRIPTION = """Write the weights of a checkpoint into a file of their own: what
torch.load(OUT) gives is what load_state_dict takes. No code of the file is
run, and every byte of it is checked first.

A checkpoint may hold several sets of weights: "live", with which training
goes on, and others that callbacks keep beside them, such as "averaged"."""


def add_to(commands: Any) -> None:
    """Add the command to `hookloop checkpoint`."""
    parser = commands.add_parser("export", help="write the weights alone", description=_DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="a checkpoint, or protocol://...")
    parser.add_argument("out", metavar="OUT", help="the file to write, or protocol://...")
    parser.add_argument("--weights", metavar="NAME", default="live", help='"live" (default), "averaged", ...')
    parser.add_argument("--force", action="store_true", help="replace OUT, if there is such a file")
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Write one file.

    Raises:
        CheckpointError: there is no such file or no such set in it, it cannot be read, OUT is there already, or it
            cannot be written.
    """
    if not given.force and not is_remote(given.out) and local_path(given.out).exists():
        raise CheckpointError(f"{given.out} is there already. Choose another name, or pass --force to replace it.")
    from hookloop.checkpoint_file import read_checkpoint, write_checkpoint  # they bring torch
    from hookloop.checkpoint_file.weight_sets import with_weights

    chosen = with_weights(read_checkpoint(given.path), given.weights, given.path)
    weights = dict(chosen["state_dict"])
    write_checkpoint(weights, given.out)
    print(f"{given.out}: {counted(len(weights), 'tensor')}, the {given.weights} weights of {given.path}")
    return 0
