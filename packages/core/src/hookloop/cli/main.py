"""The command `hookloop`: which commands there are, and what happens when one of them fails."""

import os
import sys
import warnings
from collections.abc import Sequence

from hookloop.cli import callbacks, doctor, export, lock, new_package, show, verify
from hookloop.cli.arguments import Parser
from hookloop.discovery.entries import core_version
from hookloop.errors import HookloopError

_DESCRIPTION = "Looks after what is installed, and at what was saved."
_EPILOG = "Exit codes: 0 all is well, 1 something is wrong, 2 wrong usage."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: after the program's name; None takes those of the process.

    Returns:
        The exit code: 0 where all is well, 1 where something is wrong, 2 for wrong usage, 130 after Ctrl-C.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        given, unknown = parser.parse_known_args(arguments)
        command = getattr(given, "parser", parser)
        if unknown:
            command.refuse(unknown)
        if given.version:
            print(f"hookloop {core_version() or '(a folder of sources that is not installed)'}")
            return 0
        if not hasattr(given, "run"):
            command.print_help(sys.stderr)
            return 2
        code: int = given.run(given)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # of argparse: after --help, and for wrong usage
        return end.code if isinstance(end.code, int) else 0
    except HookloopError as error:
        print(f"hookloop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hookloop: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `hookloop callbacks | head`: nobody reads on. Python flushes stdout once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    # Where in hookloop it was raised says nothing to whoever calls a command.
    print(f"hookloop: warning: {message}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="hookloop", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="store_true", help="print the version of hookloop, and nothing else")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", title="commands")
    callbacks.add_to(commands)
    doctor.add_to(commands)
    lock.add_to(commands)
    new_package.add_to(commands)
    of_files = commands.add_parser("checkpoint", help="check and read checkpoints", description="Looks at checkpoints.")
    of_files.set_defaults(parser=of_files)
    actions = of_files.add_subparsers(metavar="COMMAND", dest="action", title="commands")
    verify.add_to(actions)
    show.add_to(actions)
    export.add_to(actions)
    return parser
