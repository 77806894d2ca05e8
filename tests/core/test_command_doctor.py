"""`hookloop doctor` over packages that are installed for real: what is wrong, how to mend it, what imports cost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookloop import Trainer
from hookloop.discovery.entries import forget_entry_points
from hookloop.errors import CallbackFactoryError, MisconfigurationError

from .commanding import Shell, in_a_process
from .installing import Site, installed_for_one_test

HEADER = "from hookloop import Callback\n"
ONE = HEADER + "class One(Callback): pass\ndef factory(): return One()\n"
BAR = HEADER + "class Bar(Callback): family = 'progress_bar'\ndef factory(): return Bar()\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        site.core("0.1.0")
        yield site


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def install(site: Site, name: str, source: str = ONE, **more: Any) -> None:
    module = name.replace("-", "_")
    site.install(name, factories={module: f"{module}:factory"}, modules={module: source}, **more)


def told_by_the_trainer() -> str:
    with pytest.raises((CallbackFactoryError, MisconfigurationError)) as caught:
        Trainer(logger=False)
    return str(caught.value)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a broken import": (
        {"source": "import paper_that_is_not_there"},
        "acme 1.0, entry point acme = acme:factory\n"
        "     ModuleNotFoundError: No module named 'paper_that_is_not_there'\n"
        "     To go on without it: HOOKLOOP_DISABLE_CALLBACKS=acme, or pip uninstall acme\n",
    ),
    "a raising factory": (
        {"source": "def factory(): raise RuntimeError('no licence')"},
        "acme 1.0, entry point acme = acme:factory\n"
        "     RuntimeError: no licence\n"
        "     To go on without it: HOOKLOOP_DISABLE_CALLBACKS=acme, or pip uninstall acme\n",
    ),
    "a factory that returns an int": (
        {"source": "def factory(): return 42"},
        "acme 1.0, entry point acme = acme:factory\n"
        "     TypeError: it returned 42 (int); a factory returns a Callback, a list of them, or nothing\n"
        "     To go on without it: HOOKLOOP_DISABLE_CALLBACKS=acme, or pip uninstall acme\n",
    ),
    "a package for another core": (
        {"source": "1 / 0", "requires": ["hookloop>=0.2,<0.3"]},
        "acme 1.0, entry point acme = acme:factory\n"
        "     MisconfigurationError: acme 1.0 needs hookloop<0.3,>=0.2, and hookloop 0.1.0 is installed. Run "
        '`pip install --upgrade acme "hookloop==0.1.0"` for a release of it that fits, or '
        '`pip install "hookloop<0.3,>=0.2"` to change the core.\n'
        "     To go on without it: HOOKLOOP_DISABLE_CALLBACKS=acme, or pip uninstall acme\n",
    ),
}


@pytest.mark.parametrize(("package", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_package_is_named_with_its_mend_in_the_words_of_the_trainer(
    site: Site, shell: Shell, package: dict[str, Any], expected: str
) -> None:
    install(site, "sound")
    install(site, "acme", **package)

    said = shell("doctor", "--no-cost")

    assert said.code == 1
    assert said.out == f"1. A registered callback factory is broken (acme)\n   {expected}\n1 problem found.\n"
    words = [line.strip() for line in expected.splitlines()]
    assert [line.strip() for line in told_by_the_trainer().splitlines()][1:-1] == words


def test_two_bars_are_named_with_the_mend_in_the_words_of_the_trainer(site: Site, shell: Shell) -> None:
    install(site, "bar-one", BAR)
    install(site, "bar-two", BAR)

    said = shell("doctor", "--no-cost")

    assert said.code == 1
    first, *body, _, last = said.out.splitlines()
    assert first == "1. Two packages register callbacks of one family (bar-one, bar-two)"
    assert last == "1 problem found."
    assert [line.strip() for line in body] == [line.strip() for line in told_by_the_trainer().splitlines()]
    assert body[1] == (
        "     Bar of bar-one 1.0, entry point bar_one = bar_one:factory; switched off by "
        "HOOKLOOP_DISABLE_CALLBACKS=bar_one"
    )


def test_two_bars_that_declare_their_conflict_and_share_a_state_are_told_once(site: Site, shell: Shell) -> None:
    source = HEADER + (
        "class Bar(Callback):\n"
        "    family, conflicts = 'progress_bar', ('progress_bar',)\n"
        "    def state_dict(self): return {'shown': 1}\n"
        "def factory(): return Bar()\n"
    )
    install(site, "bar-one", source)
    install(site, "bar-two", source)

    found = json.loads(shell("doctor", "--no-cost", "--json").out)

    assert [(one["kind"], one["distributions"]) for one in found["problems"]] == [("family", ["bar-one", "bar-two"])]


def test_a_conflict_and_a_shared_state_are_told_each_by_its_name(site: Site, shell: Shell) -> None:
    source = HEADER + (
        "class Average(Callback):\n"
        "    family, conflicts, state_key = 'weight_averaging', ('weight_averaging',), 'Average'\n"
        "    def state_dict(self): return {'steps': 1}\n"
        "def factory(): return Average()\n"
    )
    install(site, "left", source)
    install(site, "right", source)

    said = shell("doctor", "--no-cost")

    titles = [line for line in said.out.splitlines() if line[:1].isdigit()]
    assert titles == ["1. Two callbacks cannot be in one run", "2. Two callbacks share a state", "2 problems found."]
    assert told_by_the_trainer() in said.out
    assert "switch Average off with HOOKLOOP_DISABLE_CALLBACKS=right" in said.out


def test_callbacks_that_declare_to_run_after_each_other_are_told(site: Site, shell: Shell) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        install(site, name, HEADER + f"class It(Callback): runs_after = ('{other}.It',)\ndef factory(): return It()\n")

    said = shell("doctor", "--no-cost")

    assert said.out.startswith("1. Callbacks cannot be in one list\n")
    assert told_by_the_trainer() in said.out


def test_two_callbacks_that_share_a_state_are_named_in_the_words_of_the_trainer(site: Site, shell: Shell) -> None:
    source = HEADER + (
        "class Meter(Callback):\n"
        "    state_key = 'Meter'\n"
        "    def state_dict(self): return {'volts': 230}\n"
        "def factory(): return Meter()\n"
    )
    install(site, "left", source)
    install(site, "right", source)

    said = shell("doctor", "--no-cost")

    assert said.code == 1
    assert told_by_the_trainer() in said.out
    assert "left 1.0, entry point left = left:factory" in said.out


def test_everything_that_is_wrong_is_told_at_once_and_for_programs_too(site: Site, shell: Shell) -> None:
    for number, (package, _) in enumerate(BROKEN.values()):
        install(site, f"acme-{number}", **package)
    install(site, "bar-one", BAR)
    install(site, "bar-two", BAR)

    said = shell("doctor", "--no-cost", "--json")

    found = json.loads(said.out)
    assert said.code == 1
    assert (found["hookloop"], found["imports"]) == ("0.1.0", [])
    assert [(one["kind"], one["distributions"]) for one in found["problems"]] == [
        ("factory", ["acme-0"]),
        ("factory", ["acme-1"]),
        ("factory", ["acme-2"]),
        ("factory", ["acme-3"]),
        ("family", ["bar-one", "bar-two"]),
    ]


def test_all_five_are_named_with_their_mends_and_the_trainer_says_the_same(
    site: Site, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (package, _) in enumerate(BROKEN.values()):
        install(site, f"acme-{number}", **package)
    install(site, "bar-one", BAR)
    install(site, "bar-two", BAR)

    said = [line.strip() for line in shell("doctor", "--no-cost").out.splitlines()]

    about_factories = [line.strip() for line in told_by_the_trainer().splitlines()]
    assert about_factories[0] == "4 registered callback factories are broken:"
    assert set(about_factories[1:-2]) <= set(said)
    off = "HOOKLOOP_DISABLE_CALLBACKS=acme_0,acme_1,acme_2,acme_3"
    assert about_factories[-2] == f"To go on without any of these: {off}"
    # Who does as it says is told of the bars next, by the Trainer and by the doctor.
    monkeypatch.setenv(*off.split("="))
    about_bars = [line.strip() for line in told_by_the_trainer().splitlines()]
    assert about_bars[1].endswith(f"switched off by {off},bar_one")
    said_next = shell("doctor", "--no-cost")
    assert set(about_bars) <= {line.strip() for line in said_next.out.splitlines()}
    assert said_next.out.splitlines()[-1] == "1 problem found."
    monkeypatch.setenv(*f"{off},bar_one".split("="))
    assert shell("doctor", "--no-cost").code == 0
    assert [type(callback).__name__ for callback in Trainer(logger=False).callbacks] == ["Bar"]


def test_a_class_that_cannot_be_had_is_named_once_for_its_package(site: Site, shell: Shell) -> None:
    site.install(
        "acme", classes={"One": "acme:One", "Two": "acme:Two"}, modules={"acme": "raise OSError('no such device')"}
    )

    said = shell("doctor", "--no-cost")

    assert said.code == 1
    assert said.out == (
        "1. A registered name cannot be imported (acme)\n"
        "   hookloop.callbacks.One cannot be imported from acme 1.0 (entry point One = acme:One). "
        "OSError: no such device\n"
        "\n"
        "1 problem found.\n"
    )


def test_a_class_that_two_packages_claim_is_told_as_whoever_imports_it_is(site: Site, shell: Shell) -> None:
    for name in ("acme", "bravo"):
        site.install(name, classes={"One": f"{name}:One"}, modules={name: ONE})

    said = shell("doctor", "--no-cost")

    with pytest.raises(ImportError) as caught:
        from hookloop.callbacks import One  # noqa: F401
    assert said.code == 1
    assert f"   {caught.value}\n" in said.out


def test_a_requirement_that_is_not_met_is_told_with_the_command_that_mends_it(site: Site, shell: Shell) -> None:
    site.install("ink", "1.4")
    install(site, "acme", requires=["hookloop>=0.1", "ink>=2", "paper<3; python_version >= '3'", "gone; extra == 'x'"])

    said = shell("doctor", "--no-cost")

    assert said.code == 1
    assert said.out == (
        "1. A requirement is not met (acme)\n"
        '   acme needs ink>=2, and ink 1.4 is installed. Run `pip install "ink>=2"`.\n'
        "\n"
        "2. A requirement is not met (acme)\n"
        '   acme needs paper, which is not installed. Run `pip install "paper<3"`.\n'
        "\n"
        "2 problems found.\n"
    )


def test_metadata_that_cannot_be_read_is_a_problem(site: Site, shell: Shell) -> None:
    site.install("foreign")
    (site.path / "foreign-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
    forget_entry_points()

    said = shell("doctor", "--no-cost")

    assert said.code == 1
    assert said.out.startswith("1. Metadata cannot be read\n   The entry_points.txt of foreign cannot be read (")
    assert "Install that package again." in said.out


def test_what_is_switched_off_is_left_alone(site: Site, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install(
        "acme",
        factories={"acme": "acme:factory"},
        classes={"One": "acme:One"},
        modules={"acme": "import paper_that_is_not_there"},
    )
    monkeypatch.setenv("HOOKLOOP_DISABLE_CALLBACKS", "acme")

    said = shell("doctor", "--no-cost")

    assert (said.code, said.out) == (0, "Nothing is wrong with hookloop and 0 packages of callbacks.\n")


# What imports cost


def test_what_each_import_costs_is_measured_in_a_process_of_its_own(site: Site, shell: Shell) -> None:
    # Three modules that nothing has loaded before; its own is the fourth.
    site.install("helpers", modules={"this_is_one": "", "this_is_two": "", "this_is_three": "print('noise')"})
    install(site, "acme", f"import this_is_one, this_is_two, this_is_three, torch\n{ONE}")

    said = shell("doctor", "--json")

    [cost] = json.loads(said.out)["imports"]
    assert said.code == 0
    assert {name: cost[name] for name in ("distribution", "module", "modules", "problem")} == {
        "distribution": "acme",
        "module": "acme",
        "modules": 4,
        "problem": "",
    }
    assert 0 < cost["seconds"] < 60
    assert "noise" in said.err


def test_a_package_that_ends_the_process_does_not_end_the_doctor(site: Site) -> None:
    install(site, "acme", "import os\nos._exit(7)\n")

    said = in_a_process("doctor", path=site.path)

    assert said.code == 1
    assert said.err == ""
    assert said.out == (
        "import of  distribution  takes  modules\n"
        "acme       acme              -        -\n"
        "\n"
        "1. A package ends the process that imports it (acme)\n"
        "   acme 1.0, entry point acme = acme:factory\n"
        "     Importing acme ends the process (exit code 7).\n"
        "     To go on without it: HOOKLOOP_DISABLE_CALLBACKS=acme, or pip uninstall acme\n"
        "\n"
        "1 problem found.\n"
    )


def test_an_import_that_does_not_end_is_given_up() -> None:
    from hookloop.cli.probing import probe

    # No process has loaded torch by then: that stands for an import which takes forever.
    cost = probe("acme", seconds=0.01)

    assert cost.problem == "importing acme does not end: it was stopped after 0 s"
    assert cost.seconds is None
