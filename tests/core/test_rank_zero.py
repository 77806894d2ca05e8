"""What rank zero does alone, and how a process learns its rank."""

import logging
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.rank_zero import (
    RANK_VARIABLES,
    WarningCache,
    rank_from_environment,
    rank_prefixed_message,
    rank_zero_debug,
    rank_zero_deprecation,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)
from hookloop.warning_categories import (
    HookloopDeprecationWarning,
    LightningDeprecationWarning,
    PossibleUserWarning,
    disable_possible_user_warnings,
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that nobody launched."""
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rank_zero_only, "rank", 0)


# Ranks


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, None),
        ({"RANK": "3"}, 3),
        ({"RANK": "0", "LOCAL_RANK": "2", "SLURM_PROCID": "5"}, 0),
        ({"LOCAL_RANK": "2", "SLURM_PROCID": "5"}, 2),
        ({"SLURM_PROCID": "5", "JSM_NAMESPACE_RANK": "7"}, 5),
        ({"JSM_NAMESPACE_RANK": "7"}, 7),
        ({"RANK": " 4 "}, 4),
    ],
    ids=str,
)
def test_launchers_tell_the_rank_and_torchrun_is_asked_first(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert rank_from_environment() == rank


@pytest.mark.parametrize("value", ["", "first", "-1", "1.0"])
def test_a_variable_that_holds_no_rank_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LOCAL_RANK", value)
    with pytest.raises(MisconfigurationError, match=f"LOCAL_RANK='{value}' must be the rank of this process"):
        rank_from_environment()


@pytest.mark.parametrize(("variables", "expected"), [({}, "0 ran"), ({"RANK": "2"}, "2 None")])
def test_a_launched_process_knows_its_rank_when_it_imports(variables: dict[str, str], expected: str) -> None:
    program = (
        "from hookloop.utilities import rank_zero_only\nprint(rank_zero_only.rank, rank_zero_only(lambda: 'ran')())\n"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program], env=inherited | variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


# The decorator


def test_a_decorated_function_runs_on_rank_zero_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Any, ...]] = []

    @rank_zero_only
    def write(text: str, *, times: int = 1) -> str:
        """Writes."""
        ran.append((text, times))
        return text * times

    assert write("a", times=2) == "aa"
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert write("b") is None
    assert ran == [("a", 2)]
    assert (write.__name__, write.__doc__) == ("write", "Writes.")


def test_elsewhere_a_default_can_be_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    count = rank_zero_only(lambda: 5, default=-1)
    assert count() == 5
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    assert count() == -1


def test_methods_can_be_decorated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer:
        name = "w"

        @rank_zero_only
        def write(self) -> str:
            return self.name

    assert Writer().write() == "w"
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert Writer().write() is None


# Messages


SAYING = {"debug": rank_zero_debug, "info": rank_zero_info}


@pytest.mark.parametrize("level", SAYING)
def test_a_message_is_logged_from_rank_zero_at_the_line_that_says_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    with caplog.at_level(logging.DEBUG, logger="hookloop"):
        SAYING[level]("%s of %d", "one", 2)
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        SAYING[level]("not said")
    [record] = caplog.records
    assert (record.levelname.lower(), record.getMessage()) == (level, "one of 2")
    assert record.name.startswith("hookloop")
    assert (record.filename, record.funcName) == (
        "test_rank_zero.py",
        "test_a_message_is_logged_from_rank_zero_at_the_line_that_says_it",
    )


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", ["told"]),
        ("import logging; logging.basicConfig(format='mine: %(message)s')\n", ["mine: told"]),
        ("import logging; logging.getLogger('hookloop').setLevel('WARNING')\n", []),
    ],
    ids=["nobody set up logging", "a program's own logging", "a level of one's own"],
)
def test_information_is_shown_once_as_the_program_wants_it(before: str, expected: list[str]) -> None:
    program = f"{before}from hookloop.utilities import rank_zero_info\nrank_zero_info('told')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr.splitlines()) == ("", expected)


def line_of(record: warnings.WarningMessage) -> str:
    with open(record.filename, encoding="utf-8") as file:  # noqa: PTH123
        return file.read().splitlines()[record.lineno - 1].strip()


def test_a_warning_names_the_line_that_warns_and_others_if_asked() -> None:
    def outer() -> None:
        rank_zero_warn("mine")
        rank_zero_warn("my caller's", stacklevel=5)
        rank_zero_deprecation("old")

    with pytest.warns() as caught:
        outer()
    assert [(str(one.message), one.category) for one in caught] == [
        ("mine", UserWarning),
        ("my caller's", UserWarning),
        ("old", HookloopDeprecationWarning),
    ]
    assert [line_of(one) for one in caught] == [
        'rank_zero_warn("mine")',
        "outer()",
        'rank_zero_deprecation("old")',
    ]


def test_other_ranks_warn_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank_zero_warn("a")
        rank_zero_deprecation("b")
        WarningCache().warn("c")
    assert caught == []


def test_a_category_can_be_given() -> None:
    with pytest.warns(PossibleUserWarning, match="perhaps"):
        rank_zero_warn("perhaps", category=PossibleUserWarning)
    with pytest.warns(FutureWarning, match="soon"):
        rank_zero_deprecation("soon", category=FutureWarning)


def test_a_cache_says_each_message_once_and_names_the_line(caplog: pytest.LogCaptureFixture) -> None:
    cache = WarningCache()

    def say() -> None:
        cache.warn("a warning")
        cache.deprecation("a deprecation")
        cache.info("information")

    with pytest.warns() as caught, caplog.at_level(logging.INFO, logger="hookloop"):
        say()
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, logger="hookloop"):
        warnings.simplefilter("error")
        say()
    assert [(str(one.message), line_of(one)) for one in caught] == [
        ("a warning", 'cache.warn("a warning")'),
        ("a deprecation", 'cache.deprecation("a deprecation")'),
    ]
    assert [(record.getMessage(), record.funcName) for record in caplog.records] == [("information", "say")]
    assert cache == {"a warning", "a deprecation", "information"}


def test_a_message_can_say_which_rank_it_is_of() -> None:
    assert rank_prefixed_message("done", 3) == "[rank: 3] done"
    assert rank_prefixed_message("done", None) == "done"


# Categories


def test_possible_mistakes_can_be_switched_off_for_a_module_or_for_all() -> None:
    def warned(module: str) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            disable_possible_user_warnings(module)
            for name in ("mine", "mine.below", "mineral", "other"):
                warnings.warn_explicit(name, PossibleUserWarning, "file.py", 1, module=name, registry={})
            warnings.warn_explicit("certain", UserWarning, "file.py", 1, module="mine", registry={})
        return [str(one.message) for one in caught]

    assert warned("") == ["certain"]
    assert warned("mine") == ["mineral", "other", "certain"]


def test_what_hookloop_takes_for_a_mistake_can_be_switched_off() -> None:
    module = LightningModule()
    with pytest.warns(PossibleUserWarning, match="no trainer is running"):
        module.log("loss", 1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        disable_possible_user_warnings()
        module.log("loss", 1.0)
    assert caught == []


@pytest.mark.parametrize(("options", "shown"), [([], True), (["-W", "ignore"], False)], ids=["by default", "ignored"])
def test_deprecations_are_shown_wherever_they_are_raised(options: list[str], shown: bool) -> None:
    assert LightningDeprecationWarning is HookloopDeprecationWarning
    program = (
        "import warnings\n"
        "from hookloop.warning_categories import HookloopDeprecationWarning\n"
        "warnings.warn_explicit('old', HookloopDeprecationWarning, 'library.py', 1, module='library')\n"
    )
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    assert ("HookloopDeprecationWarning: old" in done.stderr) is shown
