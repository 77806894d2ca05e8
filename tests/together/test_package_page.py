"""The page "Write a callback package": what it says is typed, and what it shows is what comes.

A ```console block holds commands after "$ " and lines of what they print, in their order, some left out. A block below
a line that is nothing but the name of a file is that file. The lines of a ```toml block belong below its first one.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "write-a-callback-package.md"
BLOCK = re.compile(
    r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<kind>[a-z]+)[^\n]*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Command:
    """One line that a reader types, and what the page says that it prints."""

    line: str
    printed: list[str]


def blocks(page: str) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page))


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line.removeprefix("$ "), []))
        else:
            found[-1].printed.append(line)
    return found


def left_out(printed: list[str], said: str) -> list[str]:
    """The lines of the page that are not what came, in their order."""
    lines = iter(said.splitlines())
    return [wanted for wanted in printed if not any(wanted in line for line in lines)]


class Reader:
    """Types commands into one shell, as it were: the folder and the variables last from one to the next."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.kept = folder.parent / "shell"
        self.environment = environment

    def types(self, line: str) -> str:
        resume = f"[ -f {self.kept} ] && . {self.kept}" if self.kept.exists() else ":"
        keep = f'{{ declare -p PATH VIRTUAL_ENV 2>/dev/null; declare -f deactivate; echo cd "$PWD"; }} > {self.kept}'
        script = f"{resume}\n{line}\ncode=$?\n{keep}\nexit $code\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}"
        return done.stdout

    def place(self) -> Path:
        return Path(self.types("pwd").strip())


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody without a network, whose pip finds hookloop in a folder and everything else installed."""
    wheels, others, work = tmp_path / "wheels", tmp_path / "others", tmp_path / "work"
    for folder in (wheels, others, work):
        folder.mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
    subprocess.run(build, cwd=ROOT / "packages" / "core", check=True, capture_output=True)
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "hookloop" not in entry.name.lower() and entry.suffix != ".pth":
            (others / entry.name).symlink_to(entry)
    tools = Path(sysconfig.get_path("scripts"))
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    (programs / "ruff").symlink_to(tools / "ruff")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOOKLOOP_", "PIP_", "ACME_"))}
    environment = kept | {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": str(others),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "COLUMNS": "80",
    }
    environment.pop("VIRTUAL_ENV", None)
    return Reader(work, environment)


@pytest.mark.timeout(900)  # two environments, and some twenty processes of which half import torch
def test_who_knows_the_page_alone_gets_from_nothing_to_a_tested_wheel(reader: Reader) -> None:
    typed = []
    for block in blocks(PAGE.read_text(encoding="utf-8")):
        kind, text = block["kind"], block["text"]
        if kind == "console":
            for command in commands(text):
                said = reader.types(command.line)
                assert left_out(command.printed, said) == [], f"$ {command.line}\n{said}"
                typed.append(shlex.split(command.line)[0])
        elif kind == "toml":
            header, _, rest = text.partition("\n")
            pyproject = reader.place() / "pyproject.toml"
            before, found, after = pyproject.read_text().partition(f"{header}\n")
            assert found, header
            pyproject.write_text(f"{before}{found}{rest}{after}")
        elif block["file"]:
            (reader.place() / block["file"]).write_text(text)
    assert {"pip", "hookloop", "python", "ruff", "deactivate"} <= set(typed)


def test_a_line_that_did_not_come_is_noticed() -> None:
    assert left_out(["one", "three"], "is one\ntwo\nthree\n") == []
    assert left_out(["three", "one"], "is one\ntwo\nthree\n") == ["one"]
