"""From entry points to the default callbacks of a Trainer."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hookloop.callback import Callback, LambdaCallback
from hookloop.discovery import Provenance, forget_entry_points, provenance, registered_callbacks
from hookloop.errors import CallbackFactoryError, MisconfigurationError
from hookloop.options import TrainerOptions

from .installing import Site, installed_for_one_test

DISABLE = "HOOKLOOP_DISABLE_CALLBACKS"

HEADER = "from hookloop.callback import Callback, LambdaCallback\n"
ONE = HEADER + "class One(Callback): pass\ndef factory(): return One()\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


def install_one(site: Site, name: str, *, family: str | None = None, entry: str | None = None) -> None:
    """A distribution `name` that registers one callback, of class One in module `name` with underscores."""
    module = name.replace("-", "_")
    body = f"class One(Callback): family = {family!r}\n" if family else "class One(Callback): pass\n"
    source = f"{HEADER}{body}def factory(): return One()\n"
    site.install(name, factories={entry or module: f"{module}:factory"}, modules={module: source})


def found(**arguments: Any) -> list[Callback]:
    return [callback for callback, _ in registered_callbacks(TrainerOptions(**arguments))]


def modules_of(callbacks: Sequence[Callback]) -> list[str]:
    return [type(callback).__module__ for callback in callbacks]


class Bar(Callback):
    family = "progress_bar"


class OtherBar(Callback):
    family = "progress_bar"


class Saver(Callback):
    family = "checkpoint"


class OtherSaver(Callback):
    family = "checkpoint"


class Summary(Callback):
    family = "model_summary"


class OtherSummary(Callback):
    family = "model_summary"


class Clock(Callback):
    family = "timer"


class OtherClock(Callback):
    family = "timer"


# What factories may be, and what they may return


def test_without_a_registered_factory_there_is_no_default(site: Site) -> None:
    assert registered_callbacks(TrainerOptions()) == []


@pytest.mark.parametrize(
    ("definition", "classes"),
    [
        ("def factory(): return One()", ["One"]),
        ("def factory(): return [One(), Two()]", ["One", "Two"]),
        ("def factory(): return (Two(), One())", ["Two", "One"]),
        ("def factory(): return []", []),
        ("def factory(): return ()", []),
        ("def factory(): return None", []),
        ("def factory(): pass", []),
        ("factory = One", ["One"]),
        ("class Maker:\n    def __call__(self): return One()\nfactory = Maker()", ["One"]),
        ("def factory(*anything, **more): return [One()] if not anything and not more else []", ["One"]),
        ("def factory(depth=3): return One() if depth == 3 else None", ["One"]),
        ("shared = One()\ndef factory(): return [shared, shared]", ["One"]),
    ],
)
def test_a_factory_without_arguments_returns_a_callback_or_a_sequence_or_nothing(
    site: Site, definition: str, classes: list[str]
) -> None:
    source = f"{HEADER}class One(Callback): pass\nclass Two(Callback): pass\n{definition}\n"
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme": source})

    assert [type(callback).__name__ for callback in found()] == classes


@pytest.mark.parametrize(
    "definition",
    [
        "def factory(options):",
        "def factory(trainer_options, /):",
        "def factory(options, /):",
        "def factory(anything, depth=2):",
        "def factory(options, depth=2):",
        "def factory(options=None):",
        "def factory(*, options):",
        "def factory(depth=2, *, options=None):",
    ],
)
def test_a_factory_with_one_argument_gets_the_options_that_the_user_gave(site: Site, definition: str) -> None:
    given = definition.partition("(")[2].split(",")[0].split("=")[0].split(")")[0]
    name = "options" if "options" in definition and "trainer" not in definition else given
    source = f"{HEADER}class One(Callback): pass\n{definition}\n    one = One(); one.seen = {name}; return one\n"
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme": source})
    options = TrainerOptions(max_epochs=7, callbacks=(Bar(),))

    [(callback, _)] = registered_callbacks(options)

    assert vars(callback)["seen"] is options


def test_each_trainer_gets_callbacks_of_its_own(site: Site) -> None:
    install_one(site, "acme")

    [first], [second] = found(), found()

    assert type(first) is type(second)
    assert first is not second


def test_a_callback_that_two_factories_share_comes_once(site: Site) -> None:
    source = ONE + "shared = One()\ndef left(): return shared\ndef right(): return shared\n"
    site.install("acme", factories={"left": "acme:left", "right": "acme:right"}, modules={"acme": source})

    [(_, origin)] = registered_callbacks(TrainerOptions())

    assert origin.entry_point == "left = acme:left"


def test_the_order_is_that_of_distributions_and_entry_points_and_not_of_the_file_system(site: Site) -> None:
    for name in ("delta", "alpha", "Charlie", "bravo"):
        source = ONE + "class Two(One): pass\ndef two(): return Two()\n"
        site.install(name, factories={"b": f"{name}:factory", "a": f"{name}:two"}, modules={name: source})

    origins = [(origin.distribution, origin.entry_point[0]) for _, origin in registered_callbacks(TrainerOptions())]

    assert origins == [(name, entry) for name in ("alpha", "bravo", "Charlie", "delta") for entry in "ab"]


def test_each_default_comes_with_its_provenance(site: Site) -> None:
    site.install("Acme.Monitor", "2.3.1", factories={"nan": "acme_monitor:factory"}, modules={"acme_monitor": ONE})

    [(_, origin)] = registered_callbacks(TrainerOptions())

    assert origin == Provenance("Acme.Monitor", "2.3.1", "nan = acme_monitor:factory")
    assert str(origin) == "Acme.Monitor 2.3.1, entry point nan = acme_monitor:factory"


# Broken factories


@pytest.mark.parametrize(
    ("value", "source", "cause", "text"),
    [
        (
            "acme:factory",
            "import no_such_module_at_all",
            ModuleNotFoundError,
            "No module named 'no_such_module_at_all'",
        ),
        ("acme:factory", "def factory(:", SyntaxError, "invalid syntax"),
        ("acme:factory", "1 / 0", ZeroDivisionError, "division by zero"),
        ("acme:factory", "", AttributeError, "module 'acme' has no attribute 'factory'"),
        ("acme:factory", "raise SystemExit('usage: acme [-h]')", SystemExit, r"usage: acme \[-h\]"),
        ("not_there:factory", "", ModuleNotFoundError, "No module named 'not_there'"),
        ("acme-callbacks:factory", "", ValueError, "'acme-callbacks:factory' is not of the form module:name"),
        ("acme", "", TypeError, "<module 'acme' from .*> cannot be called; name a function: module:function"),
        ("acme:factory", "factory = 3", TypeError, "3 cannot be called; name a function"),
        ("acme:factory", "def factory(): raise RuntimeError('no licence')", RuntimeError, "no licence"),
        (
            "acme:factory",
            "def factory(): return 42",
            TypeError,
            r"it returned 42 \(int\); a factory returns a Callback",
        ),
        ("acme:factory", "def factory(): return 'Bar'", TypeError, r"it returned 'Bar' \(str\)"),
        ("acme:factory", "def factory(): yield One()", TypeError, r"it returned <generator .* \(generator\)"),
        ("acme:factory", "def factory(): return {}", TypeError, r"it returned {} \(dict\)"),
        ("acme:factory", "def factory(): return One", TypeError, "it returned the class One and no instance of it"),
        (
            "acme:factory",
            "def factory(): return [One(), None]",
            TypeError,
            r"item 1 of what it returned is None \(NoneType\), which is no Callback",
        ),
        (
            "acme:factory",
            "def factory(): return [One]",
            TypeError,
            "item 0 of what it returned is the class One and no instance of it, which is no Callback",
        ),
        (
            "acme:factory",
            "def factory(options, depth): return One()",
            TypeError,
            "it needs the arguments options, depth; a factory takes nothing, or the TrainerOptions alone",
        ),
        ("acme:factory", "def factory(*, depth): return One()", TypeError, "it needs the arguments depth; a factory"),
        (
            "acme:Stopper",
            "class Stopper(Callback):\n    def __init__(self, monitor): pass",
            TypeError,
            "it needs the arguments monitor; a factory takes nothing",
        ),
    ],
)
def test_a_broken_factory_is_an_error_that_names_it_its_cause_and_the_way_on(
    site: Site, value: str, source: str, cause: type[BaseException], text: str
) -> None:
    modules = {"acme": f"{HEADER}class One(Callback): pass\n{source}\n"}
    site.install("acme-callbacks", "1.2", factories={"spy": value}, modules=modules)

    expected = (
        rf"^A registered callback factory is broken:\n"
        rf"  acme-callbacks 1\.2, entry point spy = {re.escape(value)}\n"
        rf"    {cause.__name__}: {text}.*\n"
        rf"    To go on without it: HOOKLOOP_DISABLE_CALLBACKS=spy, or pip uninstall acme-callbacks\n"
        rf"To go on without all registered callbacks: Trainer\(registered_callbacks=False\)$"
    )
    with pytest.raises(CallbackFactoryError, match=expected) as caught:
        registered_callbacks(TrainerOptions())
    assert type(caught.value.__cause__) is cause


def test_all_broken_factories_are_named_at_once_and_the_sound_ones_are_not(site: Site) -> None:
    site.install("bravo", "2", factories={"two": "bravo:factory"}, modules={"bravo": "raise OSError('disk\\nfull')"})
    site.install("alpha", "1", factories={"one": "alpha:factory"}, modules={"alpha": "def factory(): return 1"})
    install_one(site, "sound")

    with pytest.raises(CallbackFactoryError) as caught:
        registered_callbacks(TrainerOptions())

    assert str(caught.value).splitlines() == [
        "2 registered callback factories are broken:",
        "  alpha 1, entry point one = alpha:factory",
        "    TypeError: it returned 1 (int); a factory returns a Callback, a list of them, or nothing",
        "    To go on without it: HOOKLOOP_DISABLE_CALLBACKS=one, or pip uninstall alpha",
        "  bravo 2, entry point two = bravo:factory",
        "    OSError: disk",
        "    full",
        "    To go on without it: HOOKLOOP_DISABLE_CALLBACKS=two, or pip uninstall bravo",
        "To go on without any of these: HOOKLOOP_DISABLE_CALLBACKS=one,two",
        "To go on without all registered callbacks: Trainer(registered_callbacks=False)",
    ]
    assert isinstance(caught.value.__cause__, TypeError)


def test_the_ways_to_go_on_without_a_broken_factory_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    install_one(site, "sound")
    site.install("acme", factories={"spy": "acme:factory"}, modules={"acme": "1 / 0"})

    assert found(registered_callbacks=False) == []
    monkeypatch.setenv(DISABLE, "spy")
    assert modules_of(found()) == ["sound"]


def test_the_suggested_setting_keeps_what_is_switched_off_already(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("acme", factories={"spy": "acme:factory"}, modules={"acme": "1 / 0"})
    monkeypatch.setenv(DISABLE, "other, more")

    with pytest.raises(CallbackFactoryError, match="without it: HOOKLOOP_DISABLE_CALLBACKS=other,more,spy, or pip"):
        registered_callbacks(TrainerOptions())


def test_a_name_that_two_distributions_use_is_switched_off_by_distribution(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_one(site, "sound", entry="monitor")
    site.install("acme", factories={"monitor": "acme:factory"}, modules={"acme": "1 / 0"})

    with pytest.raises(CallbackFactoryError, match="without it: HOOKLOOP_DISABLE_CALLBACKS=acme, or pip"):
        registered_callbacks(TrainerOptions())
    monkeypatch.setenv(DISABLE, "acme")
    assert modules_of(found()) == ["sound"]


def test_ctrl_c_while_a_factory_is_imported_is_no_broken_factory(site: Site) -> None:
    site.install("acme", factories={"spy": "acme:factory"}, modules={"acme": "raise KeyboardInterrupt"})

    with pytest.raises(KeyboardInterrupt):
        registered_callbacks(TrainerOptions())


# The version of the core


@pytest.mark.parametrize(
    ("core", "requirement"),
    [
        ("0.1.0", "hookloop"),
        ("0.1.0", "hookloop>=0.1,<0.2"),
        ("0.1.5", "Hookloop (>=0.1,<0.2)"),
        ("0.1.0", "hookloop[progress]~=0.1.0"),
        ("0.2.0.dev3", "hookloop>=0.1"),
        ("0.1.0", 'hookloop>=9; python_version < "3"'),
        ("0.1.0", 'hookloop>=9; extra == "next"'),
        ("0.1.0", "hookloop @ https://example.org/hookloop.tar.gz"),
        ("0.1.0", "hookloop-callbacks-progress>=9"),
        ("0.1.0", "torch>=99"),
    ],
)
def test_a_distribution_whose_requirement_the_core_meets_is_used(site: Site, core: str, requirement: str) -> None:
    site.core(core)
    site.install("acme", requires=[requirement], factories={"acme": "acme:factory"}, modules={"acme": ONE})

    assert modules_of(found()) == ["acme"]


@pytest.mark.parametrize(
    ("core", "requirement", "specifier"),
    [
        ("0.1.0", "hookloop>=2", ">=2"),
        ("0.2.0", "hookloop<0.2,>=0.1", "<0.2,>=0.1"),
        ("1.0", "HookLoop==0.9.*", "==0.9.*"),
        ("0.2.0.dev3", "hookloop>=0.2", ">=0.2"),
        ("0.1.0", 'hookloop>=2; python_version >= "3"', ">=2"),
    ],
)
def test_a_distribution_for_another_version_of_the_core_is_broken_and_not_imported(
    site: Site, core: str, requirement: str, specifier: str
) -> None:
    site.core(core)
    site.install("acme", "3.1", requires=["torch", requirement], factories={"a": "acme:factory"}, modules={"acme": ONE})

    expected = re.escape(
        f"    MisconfigurationError: acme 3.1 needs hookloop{specifier}, and hookloop {core} is installed. "
        f'Run `pip install --upgrade acme "hookloop=={core}"` for a release of it that fits, or '
        f'`pip install "hookloop{specifier}"` to change the core.\n'
        "    To go on without it: HOOKLOOP_DISABLE_CALLBACKS=a, or pip uninstall acme"
    )
    with pytest.raises(CallbackFactoryError, match=expected):
        registered_callbacks(TrainerOptions())
    assert site.imported() == set()


def test_a_requirement_on_the_core_that_nobody_can_read_is_broken(site: Site) -> None:
    site.core("0.1.0")
    site.install("acme", requires=["hookloop>>2"], factories={"a": "acme:factory"}, modules={"acme": ONE})

    with pytest.raises(
        CallbackFactoryError, match=r"(?s)acme 1\.0, entry point a = .*InvalidRequirement: .*hookloop>>2"
    ):
        registered_callbacks(TrainerOptions())


def test_a_core_that_nobody_installed_fits_every_requirement(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("acme", requires=["hookloop>=99"], factories={"acme": "acme:factory"}, modules={"acme": ONE})
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not any(Path(path).glob("hookloop-*.dist-info"))])
    forget_entry_points()

    assert modules_of(found()) == ["acme"]


# Switching on and off


@pytest.mark.parametrize(
    ("variable", "argument", "expected"),
    [
        ("", True, ["alpha_callbacks", "bravo", "charlie"]),
        (" , ", True, ["alpha_callbacks", "bravo", "charlie"]),
        ("one", True, ["bravo", "charlie"]),
        ("alpha-callbacks", True, ["bravo", "charlie"]),
        ("Alpha_Callbacks", True, ["bravo", "charlie"]),
        (" two ,bravo, one", True, ["charlie"]),
        ("ONE", True, ["alpha_callbacks", "bravo", "charlie"]),
        ("nobody", True, ["alpha_callbacks", "bravo", "charlie"]),
        ("*", True, []),
        ("one,*", True, []),
        ("*", ["one"], []),
        ("", False, []),
        ("", [], []),
        ("", (), []),
        ("", ["one"], ["alpha_callbacks"]),
        ("", ("three", "one"), ["alpha_callbacks", "charlie"]),
        ("", ["ALPHA.callbacks"], ["alpha_callbacks"]),
        ("", ["two", "charlie"], ["bravo", "charlie"]),
        ("one", ["one", "two"], ["bravo"]),
        ("one,two,three", ["one"], []),
    ],
)
def test_the_argument_and_the_variable_choose_by_entry_point_or_distribution_and_nothing_else_is_imported(
    site: Site, monkeypatch: pytest.MonkeyPatch, variable: str, argument: Any, expected: list[str]
) -> None:
    for name, entry in (("alpha-callbacks", "one"), ("bravo", "two"), ("charlie", "three")):
        install_one(site, name, entry=entry)
    monkeypatch.setenv(DISABLE, variable)

    assert modules_of(found(registered_callbacks=argument)) == expected
    assert site.imported() == set(expected)


def test_barebones_imports_no_factory(site: Site) -> None:
    install_one(site, "acme")

    assert found(barebones=True) == []
    assert site.imported() == set()


@pytest.mark.parametrize(
    ("names", "unknown"), [(["nope"], "'nope'"), (["one", "nope", "Nada"], "'nope', 'Nada'"), (["On"], "'On'")]
)
def test_a_name_that_nobody_registers_is_an_error_that_lists_those_who_do(
    site: Site, names: list[str], unknown: str
) -> None:
    install_one(site, "alpha", entry="one")
    install_one(site, "bravo", entry="two")

    expected = (
        rf"registered_callbacks names {unknown}, which no installed package registers\. "
        r"Registered are: one \(alpha 1\.0\), two \(bravo 1\.0\)\. Use the name of an entry point or of a "
        r"distribution\."
    )
    with pytest.raises(MisconfigurationError, match=expected):
        registered_callbacks(TrainerOptions(registered_callbacks=names))
    assert site.imported() == set()


def test_a_name_where_nothing_is_registered_is_an_error_that_says_so(site: Site) -> None:
    with pytest.raises(MisconfigurationError, match=r"names 'one', .*Registered are: none\."):
        registered_callbacks(TrainerOptions(registered_callbacks=["one"]))


@pytest.mark.parametrize("given", ["progress", None, 1, 0, [1], {"progress"}, ["one", None], b"one"])
def test_registered_callbacks_of_another_type_is_an_error(site: Site, given: Any) -> None:
    expected = (
        rf"registered_callbacks={re.escape(repr(given))} must be True, False, or a list of names of entry points or "
        r'distributions, such as \["hookloop-callbacks-progress"\]'
    )
    with pytest.raises(MisconfigurationError, match=expected):
        registered_callbacks(TrainerOptions(registered_callbacks=given))


# The user wins


@pytest.mark.parametrize("passed", ["One", "Sub"])
def test_a_default_steps_aside_for_a_passed_callback_of_its_class_or_a_subclass(site: Site, passed: str) -> None:
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme": ONE + "class Sub(One): pass\n"})
    acme = __import__("acme")

    assert found(callbacks=(getattr(acme, passed)(),)) == []


def test_a_default_stays_beside_a_passed_callback_of_its_base_class_or_of_no_relation(site: Site) -> None:
    source = HEADER + "class Base(Callback): pass\nclass One(Base): pass\ndef factory(): return One()\n"
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme": source})
    acme = __import__("acme")

    assert modules_of(found(callbacks=(acme.Base(), Bar(), Callback(), LambdaCallback()))) == ["acme"]


@pytest.mark.parametrize("family", ["progress_bar", "checkpoint", "model_summary", "timer", "telemetry"])
def test_a_default_steps_aside_for_a_passed_callback_of_its_family(site: Site, family: str) -> None:
    install_one(site, "acme", family=family)
    mine = type("Mine", (Callback,), {"family": family})
    other = type("Other", (Callback,), {"family": "something_else"})

    assert found(callbacks=(mine(),)) == []
    assert modules_of(found(callbacks=(other(),))) == ["acme"]


def test_a_default_without_a_family_stays_beside_a_passed_callback_without_one(site: Site) -> None:
    install_one(site, "acme")

    assert modules_of(found(callbacks=(LambdaCallback(),))) == ["acme"]


def test_a_registered_lambda_callback_stays_beside_a_passed_one(site: Site) -> None:
    source = HEADER + "def factory(): return [LambdaCallback(), Callback()]\n"
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme": source})

    assert [type(callback) for callback in found(callbacks=(LambdaCallback(), Bar()))] == [LambdaCallback, Callback]


def test_a_shared_callback_that_the_user_passed_as_well_comes_once(site: Site) -> None:
    source = HEADER + "shared = LambdaCallback()\ndef factory(): return shared\n"
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme": source})

    assert found(callbacks=(__import__("acme").shared,)) == []


# Switches of families

SWITCHES = {
    "progress_bar": ("enable_progress_bar", "hookloop-callbacks-progress"),
    "checkpoint": ("enable_checkpointing", "hookloop-callbacks-checkpoint"),
    "model_summary": ("enable_model_summary", "hookloop-callbacks-progress"),
}
PASSED: dict[str, tuple[type[Callback], type[Callback]]] = {
    "progress_bar": (Bar, OtherBar),
    "checkpoint": (Saver, OtherSaver),
    "model_summary": (Summary, OtherSummary),
    "timer": (Clock, OtherClock),
}


@pytest.mark.parametrize("family", SWITCHES)
def test_a_family_that_is_switched_off_loses_its_default_and_no_other(site: Site, family: str) -> None:
    for one in SWITCHES:
        install_one(site, one, family=one)

    assert modules_of(found(**{SWITCHES[family][0]: False})) == sorted(SWITCHES.keys() - {family})


@pytest.mark.parametrize("family", SWITCHES)
@pytest.mark.parametrize("value", [None, True])
def test_a_family_that_is_not_switched_off_keeps_its_default(site: Site, family: str, value: bool | None) -> None:
    install_one(site, "acme", family=family)

    assert modules_of(found(**{SWITCHES[family][0]: value})) == ["acme"]


@pytest.mark.parametrize("family", SWITCHES)
def test_switching_a_family_off_and_passing_one_of_it_is_a_contradiction(site: Site, family: str) -> None:
    argument, kind = SWITCHES[family][0], PASSED[family][0]

    expected = f"{argument}=False, and callbacks holds {kind.__name__} of family '{family}'. Drop one or the other."
    with pytest.raises(MisconfigurationError, match=re.escape(expected)):
        found(callbacks=(Callback(), kind()), **{argument: False})


ASKED_FOR = [(family, argument, True, package) for family, (argument, package) in SWITCHES.items()] + [
    ("timer", "max_time", "00:01:00:00", "hookloop-callbacks-monitoring"),
    ("timer", "max_time", {}, "hookloop-callbacks-monitoring"),
]


@pytest.mark.parametrize(("family", "argument", "value", "package"), ASKED_FOR)
def test_asking_for_a_family_that_nobody_supplies_is_an_error_that_says_what_to_install(
    site: Site, family: str, argument: str, value: Any, package: str
) -> None:
    install_one(site, "acme")

    expected = (
        f"{argument}={value!r} needs a callback of family '{family}': callbacks holds none, and no registered factory "
        f"returned one (switched on: acme (acme 1.0)). Run `pip install {package}` and start Python again, or pass one "
        "in callbacks."
    )
    with pytest.raises(MisconfigurationError, match=f"^{re.escape(expected)}$"):
        registered_callbacks(TrainerOptions(callbacks=(Callback(),), **{argument: value}))


@pytest.mark.parametrize(("family", "argument", "value", "package"), ASKED_FOR)
def test_asking_for_a_family_that_is_switched_off_names_the_switch(
    site: Site, monkeypatch: pytest.MonkeyPatch, family: str, argument: str, value: Any, package: str
) -> None:
    install_one(site, package, family=family, entry="it")
    needs = f"{argument}={value!r} needs a callback of family '{family}': .*"
    hint = rf"it \({package} 1\.0\)\. Switch on what supplies it, or pass one in callbacks\.$"

    with pytest.raises(MisconfigurationError, match=rf"{needs}Switched off by registered_callbacks=False: {hint}"):
        registered_callbacks(TrainerOptions(registered_callbacks=False, **{argument: value}))
    with pytest.raises(MisconfigurationError, match=rf"{needs}Switched off by barebones=True: {hint}"):
        registered_callbacks(TrainerOptions(barebones=True, **{argument: value}))
    monkeypatch.setenv(DISABLE, "it,other")
    with pytest.raises(MisconfigurationError, match=rf"{needs}Switched off by {DISABLE}=it,other: {hint}"):
        registered_callbacks(TrainerOptions(**{argument: value}))
    monkeypatch.setenv(DISABLE, "*")
    both = rf"registered_callbacks=\['it'\] and {DISABLE}=\*"
    with pytest.raises(MisconfigurationError, match=rf"{needs}Switched off by {both}: {hint}"):
        registered_callbacks(TrainerOptions(registered_callbacks=["it"], **{argument: value}))
    assert site.imported() == set()


def test_asking_for_a_family_whose_package_supplies_none_suggests_to_pass_one(site: Site) -> None:
    install_one(site, "hookloop-callbacks-progress", family="progress_bar", entry="progress")

    expected = (
        r"enable_model_summary=True needs .*\(switched on: progress \(hookloop-callbacks-progress 1\.0\)\)\. "
        r"Pass one in callbacks, or drop enable_model_summary=True\.$"
    )
    with pytest.raises(MisconfigurationError, match=expected):
        registered_callbacks(TrainerOptions(enable_model_summary=True))


@pytest.mark.parametrize(("family", "argument", "value", "package"), ASKED_FOR[:3])
def test_asking_for_a_family_is_served_by_a_passed_callback(
    site: Site, family: str, argument: str, value: Any, package: str
) -> None:
    assert found(callbacks=(PASSED[family][0](),), registered_callbacks=False, **{argument: value}) == []


def test_max_time_is_served_by_a_registered_timer(site: Site) -> None:
    install_one(site, "acme", family="timer")

    assert modules_of(found(max_time="00:01:00:00")) == ["acme"]


def test_a_passed_timer_takes_the_place_of_max_time_and_a_warning_says_so(site: Site) -> None:
    install_one(site, "acme", family="timer")

    expected = "max_time='00:01:00:00' is not used, because callbacks holds Clock, which keeps its own limit"
    with pytest.warns(UserWarning, match=expected):
        assert found(max_time="00:01:00:00", callbacks=(Clock(),)) == []


@pytest.mark.parametrize("fast_dev_run", [True, 3])
def test_fast_dev_run_drops_registered_checkpoints_alone(site: Site, fast_dev_run: bool | int) -> None:
    for family in PASSED:
        install_one(site, family, family=family)

    expected = ["model_summary", "progress_bar", "timer"]
    assert modules_of(found(fast_dev_run=fast_dev_run)) == expected
    assert modules_of(found(fast_dev_run=fast_dev_run, enable_checkpointing=True)) == expected
    assert modules_of(found(fast_dev_run=False)) == ["checkpoint", *expected]


# Families of which a run has one

EXCLUSIVE = ["progress_bar", "model_summary", "timer"]


@pytest.mark.parametrize("family", EXCLUSIVE)
def test_two_registered_callbacks_of_an_exclusive_family_are_an_error_that_says_how_to_switch_one_off(
    site: Site, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    install_one(site, "alpha", family=family, entry="one")
    install_one(site, "bravo", family=family, entry="two")

    with pytest.raises(MisconfigurationError) as caught:
        registered_callbacks(TrainerOptions())

    assert str(caught.value).splitlines() == [
        f"Installed packages register 2 callbacks of family '{family}'; a run can have one:",
        "  One of alpha 1.0, entry point one = alpha:factory; switched off by HOOKLOOP_DISABLE_CALLBACKS=one",
        "  One of bravo 1.0, entry point two = bravo:factory; switched off by HOOKLOOP_DISABLE_CALLBACKS=two",
        "Switch off all but one, name those to keep in Trainer(registered_callbacks=[...]), or pass your own in "
        "callbacks.",
    ]
    assert modules_of(found(registered_callbacks=["bravo"])) == ["bravo"]
    monkeypatch.setenv(DISABLE, "two")
    assert modules_of(found()) == ["alpha"]


@pytest.mark.parametrize("family", EXCLUSIVE)
def test_two_registered_callbacks_of_an_exclusive_family_both_step_aside_for_a_passed_one(
    site: Site, family: str
) -> None:
    install_one(site, "alpha", family=family)
    install_one(site, "bravo", family=family)

    assert found(callbacks=(PASSED[family][0](),)) == []


@pytest.mark.parametrize("family", EXCLUSIVE)
def test_two_passed_callbacks_of_an_exclusive_family_are_an_error(site: Site, family: str) -> None:
    first, second = PASSED[family]

    expected = (
        rf"callbacks holds 2 callbacks of family '{family}' \({first.__name__}, {second.__name__}\), "
        "and a run can have only one of them. Keep one."
    )
    with pytest.raises(MisconfigurationError, match=expected):
        registered_callbacks(TrainerOptions(callbacks=(first(), second())))


@pytest.mark.parametrize("family", ["checkpoint", "telemetry"])
def test_other_families_may_have_several(site: Site, family: str) -> None:
    install_one(site, "alpha", family=family)
    install_one(site, "bravo", family=family)

    assert modules_of(found()) == ["alpha", "bravo"]
    assert found(callbacks=(Saver(), OtherSaver()), enable_checkpointing=None, registered_callbacks=False) == []


# Reading the entry points

COUNT_FILES = """
import json, sys
import packaging.requirements
import hookloop.discovery, hookloop.discovery.defaults
from hookloop.options import TrainerOptions

touched, watching = [], False

def watch(event, arguments):
    if watching and event in ("open", "os.listdir", "os.scandir"):
        touched.append(str(arguments[0]))

sys.addaudithook(watch)

def files_of(action):
    global watching
    touched.clear()
    watching = True
    result = action()
    watching = False
    return result, list(touched)
"""


def test_two_hundred_distributions_are_read_once_per_process(site: Site) -> None:
    site.core("0.1.0")
    for number in range(197):
        site.install(f"foreign-{number}")
    for number in range(3):
        module = f"ours_{number}"
        site.install(
            f"ours-{number}",
            factories={module: f"{module}:factory"},
            requires=["hookloop>=0.1,<0.2"],
            modules={module: ONE},
        )
    program = COUNT_FILES + (
        "names = ['ours-0', 'ours-1', 'ours-2']\ncall = lambda: "
        "hookloop.discovery.registered_callbacks(TrainerOptions(registered_callbacks=names))\nfirst, files = "
        "files_of(call)\nsecond, again = files_of(call)\n_, origin = files_of(lambda: "
        "hookloop.discovery.provenance(first[0][0]))\nprint(json.dumps([len(first), len(second), files, again, "
        "origin]))\n"
    )

    first, second, files, again, origin = json.loads(site.run(program))

    in_site = [Path(file) for file in files if Path(file).is_relative_to(site.path)]
    assert (first, second) == (3, 3)
    lists = [file.parent.name for file in in_site if file.name == "entry_points.txt"]
    assert sum(name.startswith(("foreign", "ours")) for name in lists) == 200
    assert len(lists) == len(set(lists))
    # The metadata of those alone that registered something, and of the core.
    read = {file.parent.name.split("-")[0] for file in in_site if file.name == "METADATA"}
    assert read == {"ours_0", "ours_1", "ours_2", "hookloop"}
    assert again == []
    assert origin == []


def test_two_hundred_distributions_are_read_in_30_ms_and_then_never_again(site: Site) -> None:
    for number in range(200):
        entries = {f"one_{number}": f"ours_{number}:factory"} if number < 9 else None
        site.install(f"dist-{number}", factories=entries, requires=["hookloop>=0.1,<0.2"] if entries else ())
    # These two hundred alone. In seconds of CPU: what the machine does besides is not part of it.
    program = (
        "import json, sys, time\n"
        "import hookloop.discovery.entries as entries\n"
        f"sys.path[:] = [{str(site.path)!r}, *(one for one in sys.path if 'site-packages' not in one)]\n"
        "def seconds():\n"
        "    started = time.process_time()\n"
        "    found = entries.installed().factories\n"
        "    return time.process_time() - started, len(found)\n"
        "print(json.dumps([seconds(), seconds()]))\n"
    )

    runs = [json.loads(site.run(program)) for _ in range(3)]

    assert all(first[1] == second[1] == 9 for first, second in runs)
    assert min(first[0] for first, _ in runs) < 0.030
    assert min(second[0] for _, second in runs) < 0.001


def test_where_everything_is_switched_off_no_file_is_read(site: Site) -> None:
    install_one(site, "acme")
    program = COUNT_FILES + (
        "import os\ncall = lambda **given: files_of(lambda: "
        "hookloop.discovery.registered_callbacks(TrainerOptions(**given)))\nresults = "
        "[call(registered_callbacks=False), call(registered_callbacks=[]), "
        f"call(barebones=True)]\nos.environ[{DISABLE!r}] = '*'\nresults += [call(), "
        "call(registered_callbacks=['acme'])]\nprint(json.dumps(results))\n"
    )

    assert json.loads(site.run(program)) == [[[], []]] * 5


def test_reading_the_entry_points_imports_none_of_the_packages(site: Site) -> None:
    install_one(site, "alpha", entry="one")
    install_one(site, "bravo", entry="two")
    program = (
        "import sys, hookloop.discovery, hookloop.callback\n"
        "from hookloop.options import TrainerOptions\n"
        "hookloop.discovery.provenance(hookloop.callback.Callback())\n"
        "print(sorted({'alpha', 'bravo'} & sys.modules.keys()))\n"
        "hookloop.discovery.registered_callbacks(TrainerOptions(registered_callbacks=['bravo']))\n"
        "print(sorted({'alpha', 'bravo'} & sys.modules.keys()))\n"
    )

    assert site.run(program).splitlines() == ["[]", "['bravo']"]


def test_what_is_installed_later_is_seen_once_the_entry_points_are_forgotten(site: Site, tmp_path: Path) -> None:
    install_one(site, "alpha")
    assert modules_of(found()) == ["alpha"]
    aside = tmp_path / "aside"
    (site.path / "alpha-1.0.dist-info").rename(aside)
    assert modules_of(found()) == ["alpha"]

    forget_entry_points()

    assert found() == []


def test_what_an_interrupted_uninstall_left_behind_counts_once(site: Site) -> None:
    install_one(site, "acme-bar", family="progress_bar")
    left = site.path / "~cme_bar-1.0.dist-info"
    left.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (left / name).write_text((site.path / "acme_bar-1.0.dist-info" / name).read_text())
    forget_entry_points()

    assert modules_of(found()) == ["acme_bar"]


def test_a_malformed_list_of_entry_points_hides_the_package_that_has_it_and_nobody_else(site: Site) -> None:
    install_one(site, "sound")
    site.install("foreign")
    (site.path / "foreign-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
    forget_entry_points()

    with pytest.warns(
        UserWarning, match=r"The entry_points\.txt of foreign cannot be read \(TypeError: .*Install that"
    ):
        assert modules_of(found()) == ["sound"]


def test_a_malformed_list_of_entry_points_brings_no_hidden_distribution_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed_for_one_test(tmp_path / "later", monkeypatch) as later:
        install_one(later, "acme")
        monkeypatch.syspath_prepend(site.path)
        site.install("acme", "2.0")
        site.install("foreign")
        (site.path / "foreign-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
        forget_entry_points()

        with pytest.warns(UserWarning, match="of foreign cannot be read"):
            assert found() == []


def test_a_broken_factory_of_a_distribution_without_metadata_is_named_by_its_folder(site: Site) -> None:
    site.install("acme", factories={"spy": "gone:factory"})
    (site.path / "acme-1.0.dist-info" / "METADATA").unlink()
    forget_entry_points()

    expected = (
        rf"a distribution without METADATA in {re.escape(str(site.path))}/? \?, entry point spy = gone:factory\n"
        "    ModuleNotFoundError: No module named 'gone'"
    )
    with pytest.raises(CallbackFactoryError, match=expected):
        registered_callbacks(TrainerOptions())


# Where a passed callback comes from

CLASSES = HEADER + "class One(Callback): pass\n"


@pytest.mark.parametrize(
    "entries",
    [
        {"factories": {"acme": "acme.factories:make"}},
        {"classes": {"One": "acme.other:Other"}},
        {"factories": {"acme": "acme"}, "classes": {"One": "acme.other:Other"}},
    ],
)
def test_a_passed_callback_comes_from_the_distribution_that_registers_something_in_its_package(
    site: Site, entries: dict[str, Any]
) -> None:
    site.install("acme-callbacks", "4.5", modules={"acme.deep.inside": CLASSES}, **entries)
    inside = __import__("acme.deep.inside", fromlist=["One"])

    origin = provenance(inside.One())

    assert origin == Provenance("acme-callbacks", "4.5", "")
    assert str(origin) == "acme-callbacks 4.5, passed by you"


def test_a_callback_of_a_script_and_one_of_the_core_come_from_no_known_distribution(site: Site) -> None:
    install_one(site, "acme")

    assert provenance(Bar()) is None
    assert provenance(LambdaCallback()) is None


def test_a_malformed_entry_point_is_in_nobodys_way(site: Site) -> None:
    site.install("acme", classes={"One": "not a module!", "Two": "acme : One [extra]"}, modules={"acme": CLASSES})

    assert provenance(__import__("acme").One()) == Provenance("acme", "1.0", "")
    assert provenance(Bar()) is None


def test_in_a_namespace_package_the_nearest_entry_point_tells_the_distribution(site: Site) -> None:
    for part in ("left", "right"):
        site.install(f"space-{part}", classes={part: f"space.{part}:One"}, modules={f"space.{part}.own": CLASSES})
    (site.path / "space" / "third.py").write_text(CLASSES)
    own = __import__("space.left.own", fromlist=["One"])
    third = __import__("space.third", fromlist=["One"])

    assert provenance(own.One()) == Provenance("space-left", "1.0", "")
    assert provenance(third.One()) is None


def test_a_package_whose_name_begins_alike_is_another_package(site: Site) -> None:
    site.install("acme", factories={"acme": "acme:factory"}, modules={"acme_more": CLASSES})

    assert provenance(__import__("acme_more").One()) is None
