"""The way into this repository: `python dev.py demo | test | lint | docs | bench`.

It needs Python and its standard library alone: it makes .venv, installs hatch there, and hands over to hatch, which
makes the environments that the root pyproject.toml describes. Start it from anywhere; it works on the clone it is in.
"""

import sys

OLDEST_PYTHON = (3, 11)
# Before anything that an older interpreter does not have; it must be able to parse this file, no more.
if sys.version_info < OLDEST_PYTHON:
    sys.exit(
        f"dev.py: this is Python {sys.version_info[0]}.{sys.version_info[1]}, and hookloop needs 3.11 or newer. "
        "Run dev.py with a newer one, for example: python3.11 dev.py test"
    )

import difflib
import hashlib
import os
import shlex
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
# What the environments were made from; see `_drop_stale_environments`.
STAMP = VENV / "environments.sha256"
HATCH = "hatch>=1.18,<2"
NO_TESTS_RAN = 5

USAGE = """\
usage: python dev.py COMMAND [ARGUMENTS]

  demo  [ARGUMENTS]              train the example: examples/digits.py with everything installed
  test  [SUITE ...] [-- PYTEST]  run the tests: the core alone, each package alone with the core, all together
                                 SUITE: {suites}, or a path such as tests/core/test_x.py
  lint                           ruff, mypy --strict and import-linter, on everything
  docs                           build the documentation strictly, then run the examples on its pages
  bench [NAME ...] [-- OPTIONS]  measure: {benchmarks}

for example
  python dev.py test progress -- -k resume -x
"""


class FixableError(Exception):
    """Something that the user can put right; the message says how."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status of the process."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise FixableError(f"there is no command {name!r}{_did_you_mean(name, COMMANDS)}\n\n{usage()}")
        return COMMANDS[name](rest)
    except FixableError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def usage() -> str:
    """The help text, with the suites and benchmarks that exist."""
    return USAGE.format(suites=", ".join(suites()), benchmarks=", ".join(benchmarks()) or "there is none yet")


# -------------------------------------------------------------------------------------------------------- commands


def demo(arguments: Sequence[str]) -> int:
    """Train the example."""
    prepare("default")
    say("demo: python examples/digits.py", *arguments)
    started = time.monotonic()
    status = hatch("run", "demo", *_without_separator(arguments))
    say(f"demo: {'done' if status == 0 else f'failed with exit status {status}'} in {_seconds(started)}")
    return status


def test(arguments: Sequence[str]) -> int:
    """Run suites one after the other, whatever fails, and say at the end how each of them went."""
    wanted, pytest_arguments = _split(arguments)
    if any(argument.startswith("-") for argument in wanted):
        raise FixableError(
            "options for pytest go after a separate `--`, for example:\n"
            f"  python dev.py test -- {shlex.join(arguments)}"
        )
    chosen = select_suites(wanted)
    open_workspace()
    results = [_run_suite(suite, chosen[suite], pytest_arguments) for suite in suites() if suite in chosen]
    # A selection such as -k may pick nothing in some suites; without one, a suite that runs no test is broken.
    if pytest_arguments and any(result.status == 0 for result in results):
        for result in results:
            result.status = 0 if result.status == NO_TESTS_RAN else result.status
    print(_table(results))
    failed = [result.suite for result in results if result.status != 0]
    if failed and len(results) > 1:
        print(f"\nagain, what failed alone: python dev.py test {' '.join(failed)}")
    # A suite that ended without a report counts as a failure, so that this line never says 0 when something broke.
    failures = sum(max(result.failed, int(result.status != 0)) for result in results)
    print(f"\n{sum(result.passed for result in results)} passed, {failures} failed", flush=True)
    return 1 if failed else 0


def lint(arguments: Sequence[str]) -> int:
    """Run every check, whatever the others say, and show the output of those that fail."""
    if arguments:
        raise FixableError(f"lint takes no arguments, and was given: {shlex.join(arguments)}")
    prepare("lint")
    checks = [("ruff check", ["style"]), ("ruff format --check", ["format", "--check", "--diff", "--quiet", "."])]
    checks += [(f"mypy --strict {' '.join(targets)}", ["types", *targets]) for targets in type_checked()]
    checks += [("import-linter", ["imports"])]
    failed = 0
    for title, command in checks:
        started = time.monotonic()
        status, output = captured(hatch_command("run", f"lint:{command[0]}", *command[1:]))
        say(f"{'ok    ' if status == 0 else 'FAILED'}  {title}  {_seconds(started)}")
        if status != 0:
            failed += 1
            print(output.rstrip() + "\n", flush=True)
    say(f"lint: {failed} of {len(checks)} checks failed" if failed else f"lint: all {len(checks)} checks passed")
    return 1 if failed else 0


def docs(arguments: Sequence[str]) -> int:
    """Build the pages, then run what they show; both always run."""
    if arguments:
        raise FixableError(f"docs takes no arguments, and was given: {shlex.join(arguments)}")
    prepare("docs")
    prepare("default")
    started = time.monotonic()
    build = hatch("run", "docs:build", "-q")
    if build == 0:
        say(f"docs: built in {_seconds(started)}: {ROOT / 'docs' / '_build' / 'html' / 'index.html'}")
    else:
        say("docs: the build failed; every warning is an error")
    say("docs: running the examples of every page")
    examples = hatch("run", "test", "tests/together/test_docs_examples.py")
    return 1 if build or examples else 0


def bench(arguments: Sequence[str]) -> int:
    """Run benchmarks, with the peers that they measure against, in an environment of their own."""
    wanted, options = _split(arguments)
    known = benchmarks()
    for name in wanted:
        if name not in known:
            raise FixableError(
                f"there is no benchmark {name!r}{_did_you_mean(name, known)} Those in benchmarks/: "
                f"{', '.join(known) or 'none yet'}."
            )
    prepare("bench")
    status = 0
    for name in wanted or known:
        say(f"bench: {name}")
        status = hatch("run", "bench:python", str(known[name].relative_to(ROOT)), *options) or status
    return status


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "test": test,
    "lint": lint,
    "docs": docs,
    "bench": bench,
}


# ------------------------------------------------------------------------------------------------- what there is


def packages() -> list[str]:
    """The folders of packages/, the core first."""
    names = sorted(path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
    return sorted(names, key=lambda name: name != "core")


def suites() -> dict[str, str]:
    """Every test suite, by the name of its folder in tests/, with the environment that it runs in."""
    environments = {name: "iso-core" if name == "core" else f"iso.{_short(name)}" for name in packages()}
    return {**environments, "together": "default"}


def select_suites(wanted: Sequence[str]) -> dict[str, list[str]]:
    """What to hand to pytest for each suite that was asked for: its folder, or paths inside it; all, if none was."""
    known = suites()
    chosen: dict[str, list[str]] = {}
    for name in wanted or known:
        suite = next((suite for suite in known if name in (suite, _short(suite))), None)
        if suite is not None:
            chosen[suite] = [f"tests/{suite}"]
            continue
        path, separator, test_id = name.partition("::")
        found = next((place for place in (Path.cwd() / path, ROOT / path) if place.exists()), None)
        parts = found.resolve().relative_to(ROOT).parts if found and found.resolve().is_relative_to(ROOT) else ()
        if len(parts) < 2 or parts[0] != "tests" or parts[1] not in known:
            raise FixableError(
                f"there is no test suite {name!r}{_did_you_mean(name, known)} Suites: {', '.join(known)}. "
                "A path inside tests/<suite>/ is fine too. Options for pytest go after `--`."
            )
        chosen.setdefault(parts[1], []).append("/".join(parts) + separator + test_id)
    return chosen


def type_checked() -> list[list[str]]:
    """What mypy is run on, run by run: two suites may hold files of the same name, which one run refuses."""
    sources = [f"packages/{name}/src" for name in packages()]
    folders = [f"tests/{suite}" for suite in suites()] + ["examples", "benchmarks"]
    rest = [[folder] for folder in folders if any((ROOT / folder).rglob("*.py"))]
    files = ["dev.py", "docs/conf.py", "docs/run_examples.py", "tests/conftest.py"]
    return [sources, *rest, files]


def benchmarks() -> dict[str, Path]:
    """Files, and folders with a __main__.py, in benchmarks/."""
    found = sorted((ROOT / "benchmarks").glob("[!_]*"))
    return {path.stem: path for path in found if path.suffix == ".py" or (path / "__main__.py").exists()}


def _short(name: str) -> str:
    return name.removeprefix("callbacks-")


# ---------------------------------------------------------------------------------------------------------- tests


@dataclass
class SuiteResult:
    """How one suite went: the status that pytest ended with, and the counts of its report."""

    suite: str
    status: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


def _run_suite(suite: str, paths: Sequence[str], pytest_arguments: Sequence[str]) -> SuiteResult:
    environment = suites()[suite]
    started = time.monotonic()
    try:
        prepare(environment)
    except FixableError as error:
        # The other suites have environments of their own, which may well be fine.
        print(f"dev.py: {error}", file=sys.stderr, flush=True)
        return SuiteResult(suite, status=2, seconds=time.monotonic() - started)
    say(f"test: {' '.join(paths)} in the environment {environment}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = hatch("run", f"{environment}:test", *paths, f"--junitxml={report}", *pytest_arguments)
        result = SuiteResult(suite, status, *_counts(report), seconds=time.monotonic() - started)
    print(flush=True)
    return result


def _counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a JUnit report; zeros when pytest died before it wrote one."""
    if not report.exists():
        return 0, 0, 0
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, failures, errors, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
    return total - failures - errors - skipped, failures + errors, skipped


def _table(results: Sequence[SuiteResult]) -> str:
    rows = [("suite", "result", "passed", "failed", "skipped", "seconds")]
    for result in results:
        if result.status == 0:
            outcome = "ok" if result.passed else "nothing selected"
        else:
            outcome = "FAILED" if result.failed else f"FAILED (exit status {result.status})"
        counts = (str(result.passed), str(result.failed), str(result.skipped), f"{result.seconds:.1f}")
        rows.append((result.suite, outcome, *counts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))
        for row in rows
    )


# ---------------------------------------------------------------------------------------------------- environments


def open_workspace() -> None:
    """Make sure that hatch is in .venv, and that no environment is older than what describes it.

    Raises:
        FixableError: hatch could not be installed, or cannot read pyproject.toml.
    """
    _install_hatch()
    _drop_stale_environments()


def prepare(environment: str) -> None:
    """Make sure that an environment is there; the first time in a clone it is made.

    Raises:
        FixableError: it could not be made; the message holds the output of what failed.
    """
    open_workspace()
    status, output = captured(hatch_command("env", "find", environment))
    if status != 0:
        raise FixableError(f"pyproject.toml does not describe the environment {environment!r}.\n\n{output.strip()}")
    if Path(output.strip().splitlines()[-1]).is_dir():
        return
    with progress(f"making the environment {environment}"):
        status, output = captured(hatch_command("run", f"{environment}:python", "-c", "pass"))
        if status != 0:
            captured(hatch_command("env", "remove", environment))
            raise FixableError(
                f"the environment {environment!r} could not be made.\n\n{output.strip()}\n\n{_network_hint()}"
            )


def _install_hatch() -> None:
    check_python = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    check_hatch = (
        "import importlib.metadata, sys; major, minor = importlib.metadata.version('hatch').split('.')[:2];"
        f"sys.exit(sys.version_info < {OLDEST_PYTHON} or not (1, 18) <= (int(major), int(minor)) < (2, 0))"
    )
    if PYTHON.exists() and captured([str(PYTHON), "-c", check_hatch])[0] == 0:
        return
    with progress("making .venv with hatch"):
        # What is in a .venv that works stays there. One whose interpreter is gone, or too old, starts anew.
        works = PYTHON.exists() and captured([str(PYTHON), "-c", check_python])[0] == 0
        if not works or captured([str(PYTHON), "-m", "pip", "--version"])[0] != 0:
            options = [] if works else ["--clear"]
            status, output = captured([sys.executable, "-m", "venv", *options, str(VENV)])
            if status != 0:
                raise FixableError(
                    f".venv could not be made.\n\n{output.strip()}\n\n"
                    "On Debian and Ubuntu the module venv is a package of its own: apt install python3-venv"
                )
        # Quiet twice: errors only, and none of the warnings about places that a user's pip.conf adds.
        status, output = captured([str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", HATCH])
        if status != 0:
            raise FixableError(f"{HATCH} could not be installed.\n\n{output.strip()}\n\n{_network_hint()}")


def _drop_stale_environments() -> None:
    """Remove all environments once something changed that hatch does not notice by itself.

    hatch installs a dependency that was added. It does not remove one, nor read a member's entry points or version
    again. To make an environment again takes seconds, as its files are links into uv's cache.
    """
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    digest = hashlib.sha256(repr(workspace["tool"]["hatch"]).encode())
    for name in packages():
        digest.update(name.encode())
        digest.update((ROOT / "packages" / name / "pyproject.toml").read_bytes())
    if STAMP.exists() and STAMP.read_text() == digest.hexdigest():
        return
    status, output = captured(hatch_command("env", "prune"))
    if status != 0:
        raise FixableError(f"hatch cannot read pyproject.toml.\n\n{output.strip()}")
    STAMP.write_text(digest.hexdigest())


def _network_hint() -> str:
    return (
        "If that reads like a connection that failed: packages come from PyPI, once. Check the network, a proxy in "
        "HTTPS_PROXY, or a mirror in PIP_INDEX_URL (for pip) and UV_DEFAULT_INDEX (for uv), then run the same again."
    )


# -------------------------------------------------------------------------------------------------------- processes


def hatch_command(*arguments: str) -> list[str]:
    """The command line that runs hatch, the one in .venv."""
    return [str(PYTHON), "-m", "hatch", *arguments]


def hatch(*arguments: str) -> int:
    """Run hatch in the foreground and return its exit status."""
    # Ctrl-C reaches the child as well, as it is in the same process group: let it end by itself, then go on.
    with subprocess.Popen(hatch_command(*arguments), cwd=ROOT, env=child_environment()) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def captured(command: Sequence[str]) -> tuple[int, str]:
    """Run a command quietly; its exit status and everything that it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def child_environment() -> dict[str, str]:
    """The variables for hatch and what it runs."""
    # Another environment that is active, or modules on PYTHONPATH, would be seen inside the isolated ones.
    foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "HATCH_ENV", "HATCH_ENV_ACTIVE")
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    # A hatch that is started by a hatch script looks for its tools there.
    environment["PATH"] = os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath)))
    # uv does not read pip's variable; where there are several places, pip separates them by spaces and uv by commas.
    if "PIP_FIND_LINKS" in environment:
        environment.setdefault("UV_FIND_LINKS", ",".join(environment["PIP_FIND_LINKS"].split()))
    return environment


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Say what is being done and how long it took; on a terminal, count the seconds meanwhile."""
    started = time.monotonic()
    finished = threading.Event()
    terminal = sys.stdout.isatty()

    def count() -> None:
        while not finished.wait(0.5):
            print(f"\rdev.py: {doing} ... {_seconds(started)}", end="", flush=True)

    counter = threading.Thread(target=count, daemon=True)
    print(f"dev.py: {doing} ...", end="", flush=True)
    if terminal:
        counter.start()
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        finished.set()
        if terminal:
            counter.join()
            print(f"\rdev.py: {doing} ...", end="")
        print(f" {_seconds(started)}" if succeeded else " failed", flush=True)


def say(*words: str) -> None:
    """One line about what dev.py does, told apart from what the tools print."""
    print("dev.py:", *words, flush=True)


def _seconds(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"


# -------------------------------------------------------------------------------------------------------- arguments


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before the first `--`, and those after it."""
    before = list(arguments)
    if "--" not in before:
        return before, []
    at = before.index("--")
    return before[:at], before[at + 1 :]


def _without_separator(arguments: Sequence[str]) -> list[str]:
    return list(arguments[1:] if arguments[:1] == ["--"] else arguments)


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, {short for name in known for short in (name, _short(name))}, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
