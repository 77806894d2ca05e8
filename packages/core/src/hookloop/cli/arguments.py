"""A parser that says what somebody may have meant, and ends with exit code 2 for wrong usage."""

import argparse
import re
import sys
from difflib import get_close_matches
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse's, with guesses; options are not abbreviated, so that a new one never changes what a script means."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """What is wrong, a guess, and where to read more; on stderr, with exit code 2."""
        wrong = re.match(r"argument \w+: invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if wrong:
            commands = re.findall(r"[\w-]+", wrong[2])
            message = f"there is no command {wrong[1]!r}.{_guess(wrong[1], commands)} Commands: {', '.join(commands)}"
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def refuse(self, unknown: list[str]) -> NoReturn:
        """End because of arguments that nothing takes."""
        given = unknown[0].partition("=")[0]
        options = [one for action in self._actions for one in action.option_strings]
        self.error(f"there is no argument {unknown[0]!r}.{_guess(given, options)}")


def _guess(given: str, known: list[str]) -> str:
    close = get_close_matches(given, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""
