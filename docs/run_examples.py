"""Runs the examples on a page: `python docs/run_examples.py docs/logging.md`.

The blocks of a page that open with ```python run in order, in one namespace and one empty working folder of their
own, as if a reader typed them one after the other. A ```text block that follows right after one, with nothing but
blank lines between, is what it prints, to the letter. Blocks that open with ```python {.no-run}, or in any other way,
are only shown.
"""

import contextlib
import difflib
import io
import os
import re
import sys
import tempfile
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OPENING = re.compile(r"^(?P<fence>`{3,}|~{3,})[ ]*(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Example:
    """One block of Python on a page.

    Attributes:
        line: where its code begins on the page, counted from 1.
        code: its lines, as they are on the page.
        printed: what it has to print, or None where the page does not say.
    """

    line: int
    code: str
    printed: str | None


class PageError(Exception):
    """An example does not do what its page says; the message names the page and the line."""


def examples(page: str) -> list[Example]:
    """The examples that run, in the order of the page."""
    found: list[Example] = []
    blocks = _blocks(page.splitlines())
    for number, (info, line, code, _) in enumerate(blocks):
        if info != "python":
            continue
        printed = None
        if number + 1 < len(blocks):
            next_info, _, text, right_after = blocks[number + 1]
            printed = text if next_info == "text" and right_after else None
        found.append(Example(line, code, printed))
    return found


def _blocks(lines: Sequence[str]) -> list[tuple[str, int, str, bool]]:
    """Every fenced block: what its fence says, its first line, its text, and whether it is right after another one."""
    blocks: list[tuple[str, int, str, bool]] = []
    right_after = False
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        if opening is None:
            right_after = right_after and not lines[at].strip()
            at += 1
            continue
        start = at + 1
        at = start
        while at < len(lines) and not _closes(lines[at], opening["fence"]):
            at += 1
        text = "".join(f"{line}\n" for line in lines[start:at])
        blocks.append((opening["info"].strip(), start + 1, text, right_after))
        right_after = True
        at += 1
    return blocks


def _closes(line: str, fence: str) -> bool:
    return line.rstrip() == fence[0] * max(len(fence), len(line.rstrip()))


def run_page(path: Path) -> int:
    """Run all examples of the page, in the current working folder; how many there are.

    Raises:
        PageError: one of them raised, or printed something else than the page shows.
    """
    page = path.read_text(encoding="utf-8")
    # Classes that an example defines are looked up by the name of their module when they are pickled.
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    todo = examples(page)
    for example in todo:
        printed = io.StringIO()
        # Line numbers in tracebacks are those of the page.
        code = compile("\n" * (example.line - 1) + example.code, str(path), "exec")
        try:
            with contextlib.redirect_stdout(printed):
                exec(code, module.__dict__)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: the page does not say that it ends there
            shown = "".join(traceback.format_exception(error.with_traceback(_below_this_file(error))))
            raise PageError(f"{path}:{example.line}: the example raised.\n{shown}") from None
        if example.printed is not None and printed.getvalue() != example.printed:
            difference = difflib.unified_diff(
                example.printed.splitlines(), printed.getvalue().splitlines(), "the page", "the example", lineterm=""
            )
            shown = "\n".join(difference)
            raise PageError(f"{path}:{example.line}: the example prints something else than the page.\n{shown}")
    return len(todo)


def _below_this_file(error: BaseException) -> types.TracebackType | None:
    return error.__traceback__.tb_next if error.__traceback__ else None


def main(arguments: Sequence[str]) -> int:
    """Run the page that the one argument names; the exit status is 0 when it is true."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        print(f"usage: python docs/run_examples.py PAGE.md; given: {' '.join(arguments) or 'nothing'}", file=sys.stderr)
        return 2
    page = Path(arguments[0]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            count = run_page(page)
        except PageError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            os.chdir(page.parent)
    print(f"{page.name}: examples that ran: {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
