"""A terminal that shows nothing: bars draw on it as on a real one, and what they print is not what is measured."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


class _Screen(io.TextIOBase):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def blank_screen() -> Iterator[None]:
    """Standard output and standard error are a terminal that nobody looks at."""
    screen = _Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        yield
