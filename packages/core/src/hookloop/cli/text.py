"""Text for people: aligned, in 80 columns, the same in a terminal and in a pipe."""

from collections.abc import Iterable, Sequence
from textwrap import wrap

WIDTH = 80


def fields(rows: Iterable[tuple[str, str]], indent: str = "  ") -> list[str]:
    """Names and what they stand for, the latter in one column; long ones go on below themselves."""
    listed = list(rows)
    column = max((len(name) for name, _ in listed), default=0) + 2
    lines = []
    for name, value in listed:
        first = f"{indent}{name.ljust(column)}"
        lines += paragraph(value, first, " " * len(first)) if value else [first.rstrip()]
    return lines


def paragraph(text: str, first: str = "", later: str | None = None) -> list[str]:
    """Lines of a text, broken at spaces; what is longer than a line, as a path may be, stays whole."""
    later = first if later is None else later
    lines = []
    for number, line in enumerate(text.split("\n")):
        begins = first if number == 0 else later
        lines += wrap(
            line, WIDTH, initial_indent=begins, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
        ) or [begins.rstrip()]
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> list[str]:
    """Columns under their names; those of `numbers` end at one edge, and the last one is as long as it is."""
    everything = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    right = set(numbers)
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in parts
        ).rstrip()
        for parts in (list(enumerate(zip(row, widths, strict=True))) for row in everything)
    ]


def size(count: int) -> str:
    """A number of bytes as people read it: 912 B, 1.2 kB, 3.4 GB."""
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        value, unit = value / 1000, larger
        if value < 999.95:
            break
    return f"{value:.1f} {unit}"


def counted(count: int, what: str, plural: str = "") -> str:
    """1 file, 2,000 files."""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"
