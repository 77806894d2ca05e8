"""The command `hookloop` as a whole: its parts, exit codes, wrong usage, and what it loads."""

import importlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hookloop.cli.main import main

from .commanding import Shell, in_a_process
from .installing import Site, installed_for_one_test

COMMANDS = ["callbacks", "doctor", "lock", "new-package", "checkpoint"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_help_names_every_command_and_the_exit_codes(shell: Shell) -> None:
    said = shell("--help")

    assert said.code == 0
    assert re.findall(r"^    ([\w-]+)", said.out, re.MULTILINE) == COMMANDS
    assert "Exit codes: 0 all is well, 1 something is wrong, 2 wrong usage." in said.out


@pytest.mark.parametrize(
    "command",
    [*([one] for one in COMMANDS), ["checkpoint", "verify"], ["checkpoint", "show"]],
    ids=" ".join,
)
def test_the_help_of_a_command_says_what_it_does_in_80_columns(command: list[str], shell: Shell) -> None:
    said = shell(*command, "--help")

    assert said.code == 0
    assert said.out.startswith(f"usage: hookloop {' '.join(command)}")
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [[], ["checkpoint"]])
def test_a_command_that_is_missing_is_wrong_usage_and_prints_the_help_on_stderr(
    arguments: list[str], shell: Shell
) -> None:
    said = shell(*arguments)

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(" ".join(["usage: hookloop", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["docter"], "hookloop: there is no command 'docter'. Did you mean doctor? Commands: callbacks, doctor,"),
        (["zzz"], "hookloop: there is no command 'zzz'. Commands: callbacks"),
        (
            ["checkpoint", "verfy"],
            "hookloop checkpoint: there is no command 'verfy'. Did you mean verify? Commands: verify, show",
        ),
        (["callbacks", "--jsn"], "hookloop callbacks: there is no argument '--jsn'. Did you mean --json?"),
        (["doctor", "--no-costs=3"], "hookloop doctor: there is no argument '--no-costs=3'. Did you mean --no-cost?"),
        (["lock", "more"], "hookloop lock: there is no argument 'more'."),
        # An option that is cut short would be another one as soon as there are two that begin so.
        (["checkpoint", "show", "x", "--wei"], "hookloop checkpoint show: there is no argument '--wei'."),
        (["checkpoint", "show"], "hookloop checkpoint show: the following arguments are required: PATH"),
        (["new-package"], "hookloop new-package: the following arguments are required: NAME"),
        (["lock", "--checkpoint"], "hookloop lock: argument --checkpoint: expected one argument"),
    ],
)
def test_wrong_usage_is_told_on_stderr_with_a_guess_and_exit_code_2(
    arguments: list[str], expected: str, shell: Shell
) -> None:
    said = shell(*arguments)

    assert (said.code, said.out) == (2, "")
    first, *_, last = said.err.splitlines()
    assert first.startswith(expected)
    assert last == f"Try: {first.partition(':')[0]} --help"


def test_version_is_that_of_the_installed_core(site: Site, shell: Shell) -> None:
    site.core("7.8.9")

    assert shell("--version").out == "hookloop 7.8.9\n"


def test_a_failure_is_one_message_on_stderr_and_no_traceback(tmp_path: Path) -> None:
    said = in_a_process("checkpoint", "show", tmp_path / "missing.ckpt")

    assert (said.code, said.out) == (1, "")
    assert said.err == (
        f"hookloop: There is no checkpoint {tmp_path / 'missing.ckpt'} (there is no checkpoint in that folder).\n"
    )


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hookloop.cli.callbacks.installed", interrupted)

    said = shell("callbacks")

    assert (said.code, said.out, said.err) == (130, "", "hookloop: interrupted\n")


def test_a_reader_that_goes_away_is_no_error_of_the_command(site: Site) -> None:
    for number in range(9):
        site.install(f"acme-{number}", classes={f"One{number}": f"acme_{number}:One"})
    read, write = os.pipe()
    os.close(read)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(site.path), os.environ.get("PYTHONPATH")]))}

    done = subprocess.run(
        [sys.executable, "-m", "hookloop", "callbacks"], stdout=write, stderr=subprocess.PIPE, env=env
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (1, b"")


# What it loads


def loaded(*arguments: str, path: Path) -> set[str]:
    """The modules that a process has loaded which ran a command."""
    program = (
        f"import sys\nfrom hookloop.cli.main import main\nmain({list(arguments)!r})\nprint('loaded:', *sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["doctor", "--help"], ["--version"], ["callbacks", "--no-import"], ["callbacks", "--json"], ["lock"]],
    ids=" ".join,
)
def test_a_command_that_imports_no_package_loads_no_torch(arguments: list[str], site: Site) -> None:
    site.core("0.1.0")
    # It could not be asked by an import: `callbacks` has to see that it does not fit before.
    site.install("old", requires=["hookloop<0.1"], factories={"old": "old:factory"}, modules={"old": "import torch"})

    modules = loaded(*arguments, path=site.path)

    assert "hookloop.cli.main" in modules
    assert not {name for name in modules if name.partition(".")[0] in ("torch", "numpy", "old")}


def test_help_takes_less_than_300_ms_of_cpu() -> None:
    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    # The fastest of three: a machine that does something else makes it slower, and nothing makes it faster.
    times = []
    for _ in range(3):
        before = children()
        assert in_a_process("--help").code == 0
        times.append(children() - before)
    assert min(times) < 0.3


def test_the_modules_that_import_hookloop_by_name_do_not_run_the_command() -> None:
    module = importlib.import_module("hookloop.__main__")

    assert module.main is main


@pytest.mark.parametrize("name", ["LightningCLI", "LightningArgumentParser", "SaveConfigCallback"])
def test_what_lightnings_users_look_for_at_this_place_is_told_not_to_be_there(name: str) -> None:
    expected = f"^hookloop.cli: {name} is not there: hookloop.cli is the command `hookloop`, .* with argparse"

    with pytest.raises(ImportError, match=expected):
        exec(f"from hookloop.cli import {name}")
    with pytest.raises(AttributeError, match=r"module 'hookloop\.cli' has no attribute 'Zzz'"):
        _ = importlib.import_module("hookloop.cli").Zzz
