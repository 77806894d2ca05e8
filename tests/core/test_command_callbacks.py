"""`hookloop callbacks` and `hookloop lock`: what is installed, what of it is active, and how it is pinned."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from .commanding import Shell, in_a_process
from .installing import Site, installed_for_one_test

HEADER = "from hookloop import Callback\n"
ONE = HEADER + "class One(Callback): pass\ndef factory(): return One()\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def install(site: Site, name: str, source: str = ONE, **more: Any) -> None:
    module = name.replace("-", "_")
    site.install(name, factories={module: f"{module}:factory"}, modules={module: source}, **more)


def only(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [one] = [one for one in found if one["distribution"] == name]
    return one


def answers(said: str) -> dict[str, tuple[bool | None, str]]:
    return {
        factory["name"]: (factory["active"], factory["why"])
        for one in json.loads(said)["distributions"]
        for factory in one["factories"]
    }


# callbacks


def test_a_package_is_listed_with_its_versions_entry_points_classes_and_what_trainers_get_of_it(
    site: Site, shell: Shell
) -> None:
    site.core("0.1.4")
    site.install(
        "acme-callbacks",
        "2.5",
        factories={"acme": "acme:factory"},
        classes={"Two": "acme:Two", "One": "acme:One"},
        names={"Tuner": "acme:Tuner"},
        requires=["torch", "hookloop>=0.1,<0.2"],
        modules={"acme": ONE},
    )

    said = shell("callbacks")

    assert said.code == 0
    assert said.out == (
        "hookloop 0.1.4, and 1 package with callbacks\n"
        "\n"
        "acme-callbacks 2.5, made for hookloop>=0.1,<0.2\n"
        "  factory     acme = acme:factory\n"
        "  by default  yes: One\n"
        "              its factory is registered, and nothing switches it off\n"
        "  classes     One, Two\n"
        "  names       Tuner\n"
    )


def test_the_same_for_programs(site: Site, shell: Shell) -> None:
    site.core("0.1.4")
    install(site, "acme", requires=["hookloop>=0.1"])
    site.install("bravo", "3", classes={"Two": "bravo:Two"})

    found = json.loads(shell("callbacks", "--json").out)

    assert (found["hookloop"], found["HOOKLOOP_DISABLE_CALLBACKS"]) == ("0.1.4", None)
    assert only(found["distributions"], "acme") == {
        "distribution": "acme",
        "version": "1.0",
        "core": ">=0.1",
        "fits": True,
        "factories": [
            {
                "name": "acme",
                "entry_point": "acme = acme:factory",
                "active": True,
                "why": "its factory is registered, and nothing switches it off",
                "callbacks": ["One"],
            }
        ],
        "classes": [],
        "names": [],
    }
    bravo = only(found["distributions"], "bravo")
    assert (bravo["core"], bravo["factories"]) == ("", [])
    assert bravo["classes"] == [{"name": "Two", "entry_point": "Two = bravo:Two"}]


def test_each_reason_why_a_trainer_gets_nothing_is_told(
    site: Site, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.core("0.1.0")
    bar = HEADER + "class Bar(Callback): family = 'progress_bar'\ndef factory(): return Bar()\n"
    saver = HEADER + "class Saver(Callback): pass\ndef factory(options): return Saver() if options.max_time else None\n"
    install(site, "active")
    install(site, "off", "1 / 0")
    install(site, "newer", "1 / 0", requires=["hookloop>=0.9"])
    install(site, "broken", "def factory(): return 42")
    install(site, "picky", saver)
    install(site, "bar-one", bar)
    install(site, "bar-two", bar)
    monkeypatch.setenv("HOOKLOOP_DISABLE_CALLBACKS", "off,elsewhere")

    found = answers(shell("callbacks", "--json").out)

    rival = "another package registers one of its family too. Run `hookloop doctor`."
    assert found == {
        "active": (True, "its factory is registered, and nothing switches it off"),
        "off": (False, "switched off by HOOKLOOP_DISABLE_CALLBACKS=off,elsewhere"),
        "newer": (
            False,
            "newer 1.0 needs hookloop>=0.9, and hookloop 0.1.0 is installed. Run `pip install --upgrade newer "
            '"hookloop==0.1.0"` for a release of it that fits, or `pip install "hookloop>=0.9"` to change the core.',
        ),
        "broken": (
            False,
            "its factory is broken: TypeError: it returned 42 (int); a factory returns a Callback, a list of them, or "
            "nothing. Run `hookloop doctor`.",
        ),
        "picky": (False, "its factory returns nothing for a Trainer without arguments"),
        "bar_one": (False, rival),
        "bar_two": (False, rival),
    }


def test_nothing_is_imported_if_that_is_asked_for(site: Site, shell: Shell) -> None:
    install(site, "acme", "raise SystemExit(3)")

    said = shell("callbacks", "--no-import")

    assert said.out.splitlines()[-1] == "  by default  not asked"
    assert answers(shell("callbacks", "--no-import", "--json").out) == {"acme": (None, "not asked")}
    assert site.imported() == set()


def test_what_a_package_prints_when_it_is_imported_is_not_in_the_way_of_programs(site: Site, shell: Shell) -> None:
    install(site, "acme", f"print('hello from acme')\n{ONE}")

    said = shell("callbacks", "--json")

    assert answers(said.out)["acme"][0] is True
    assert "hello from acme" in said.err


def test_metadata_that_cannot_be_read_is_a_warning_on_stderr(site: Site, shell: Shell) -> None:
    install(site, "acme")
    site.install("foreign")
    (site.path / "foreign-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")

    said = shell("callbacks", "--no-import")

    assert said.code == 0
    assert said.err.startswith("hookloop: warning: The entry_points.txt of foreign cannot be read (TypeError: ")
    assert said.err.count("\n") == 1


def test_the_list_is_ordered_by_name_and_stays_within_80_columns(site: Site, shell: Shell) -> None:
    for name in ("delta", "Alpha", "charlie-with-a-rather-long-name", "bravo"):
        install(site, name, "raise RuntimeError('a reason ' * 30)")

    lines = shell("callbacks").out.splitlines()

    heads = [line.split()[0] for line in lines if "does not say" in line]
    assert heads == ["Alpha", "bravo", "charlie-with-a-rather-long-name", "delta"]
    assert max(map(len, lines)) <= 80


def test_where_nothing_is_installed_it_says_what_to_install(site: Site) -> None:
    site.core("0.1.0")

    said = in_a_process("callbacks", path=site.path)

    assert said.code == 0
    assert said.out == (
        "hookloop 0.1.0, and 0 packages with callbacks\n"
        'Install some: pip install "hookloop[progress]", "hookloop[checkpoint]" or "hookloop[all]"\n'
    )


# lock


def test_torch_hookloop_and_every_package_with_callbacks_are_pinned_and_nothing_else(site: Site, shell: Shell) -> None:
    site.core("0.1.4")
    install(site, "Zed.Callbacks", version="3.1")
    site.install("acme", "2.0rc1", classes={"One": "acme:One"})
    site.install("foreign", "9")

    said = shell("lock")

    lines = [line for line in said.out.splitlines() if not line.startswith("#")]
    assert lines == ["acme==2.0rc1", "hookloop==0.1.4", f"torch=={torch.__version__}", "Zed.Callbacks==3.1"]
    assert said.out.startswith(f"# hookloop lock, Python {platform.python_version()}\n")
    assert site.imported() == set()


def test_a_build_that_only_its_own_index_has_is_marked(site: Site, shell: Shell) -> None:
    site.install("acme", "2.0+cu130", classes={"One": "acme:One"})

    assert (
        "# acme 2.0+cu130 is a build named cu130: pip needs the index that it came from.\nacme==2.0+cu130\n"
    ) in shell("lock").out


def test_what_was_installed_from_a_folder_is_marked(site: Site, shell: Shell) -> None:
    site.install("acme", "2.0", classes={"One": "acme:One"})
    (site.path / "acme-2.0.dist-info" / "direct_url.json").write_text('{"url": "file:///folder/acme", "dir_info": {}}')

    assert "# acme was installed from file:///folder/acme\n" in shell("lock").out


def test_the_pins_are_what_pip_takes_for_constraints(site: Site, shell: Shell) -> None:
    site.core("0.1.4")
    install(site, "acme")

    pins = [Requirement(line) for line in shell("lock").out.splitlines() if not line.startswith("#")]

    assert {one.name: str(one.specifier) for one in pins} == {
        "acme": "==1.0",
        "hookloop": "==0.1.4",
        "torch": f"=={torch.__version__}",
    }
