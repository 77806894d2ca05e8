"""`hookloop.callbacks`: the classes of whatever is installed, under one module."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hookloop.callback
import hookloop.callbacks

from .installing import Site, installed_for_one_test

BROKEN = "hookloop.callbacks.One cannot be imported from acme 2.0 (entry point One = acme:One). "
CLASSES = "from hookloop.callback import Callback\nclass One(Callback): pass\nclass Two(Callback): pass\n"

# Distribution by distribution, as the design lists them.
BUILT_IN = {
    "hookloop-callbacks-checkpoint": "ModelCheckpoint OnExceptionCheckpoint",
    "hookloop-callbacks-swa": "StochasticWeightAveraging WeightAveraging EMAWeightAveraging",
    "hookloop-callbacks-progress": "ProgressBar TQDMProgressBar RichProgressBar ModelSummary RichModelSummary",
    "hookloop-callbacks-monitoring": (
        "DeviceStatsMonitor LearningRateMonitor EarlyStopping Timer ThroughputMonitor SpikeDetection"
    ),
    "hookloop-callbacks-finetuning": "BaseFinetuning BackboneFinetuning GradualUnfreezing",
    "hookloop-callbacks-pruning": "ModelPruning",
    "hookloop-callbacks-tuning": "LearningRateFinder BatchSizeFinder GradientAccumulationScheduler",
    "hookloop-callbacks-prediction": "BasePredictionWriter PredictionWriter",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


def test_the_cores_own_names_are_there_with_nothing_installed(site: Site) -> None:
    assert hookloop.callbacks.Callback is hookloop.callback.Callback
    assert hookloop.callbacks.LambdaCallback is hookloop.callback.LambdaCallback
    assert hookloop.callbacks.Order is hookloop.callback.Order
    assert dir(hookloop.callbacks) == ["Callback", "LambdaCallback", "Order"]


def test_a_class_that_a_package_registers_is_imported_from_it(site: Site) -> None:
    site.install("acme", classes={"One": "acme:One", "Second": "acme:Two"}, modules={"acme": CLASSES})
    acme = __import__("acme")

    from hookloop.callbacks import One, Second

    assert One is acme.One
    assert Second is acme.Two


def test_dir_lists_what_is_installed_and_imports_nothing(site: Site) -> None:
    site.install("acme", classes={"Zed": "acme:One", "Early": "acme:Two"}, modules={"acme": CLASSES})
    site.install("bravo", classes={"Order66": "bravo:One"})

    assert dir(hookloop.callbacks) == ["Callback", "Early", "LambdaCallback", "Order", "Order66", "Zed"]
    assert site.imported() == set()


def test_a_package_is_imported_when_a_class_of_it_is_used_and_no_other_is(site: Site) -> None:
    site.install("acme", classes={"One": "acme:One"}, modules={"acme": CLASSES})
    site.install("bravo", classes={"Two": "bravo:Two"}, modules={"bravo": CLASSES})
    program = (
        "import sys\n"
        "loaded = lambda: sorted({'acme', 'bravo'} & sys.modules.keys())\n"
        "import hookloop.callbacks\n"
        "print(loaded())\n"
        "from hookloop.callbacks import Two\n"
        "print(loaded(), Two.__module__)\n"
        "from hookloop.callbacks import *\n"
        "print(loaded(), 'One' in globals(), 'LambdaCallback' in globals())\n"
    )

    assert site.run(program).splitlines() == ["[]", "['bravo'] bravo", "['bravo'] False True"]


@pytest.mark.parametrize(
    ("name", "distribution"), [(name, package) for package, names in BUILT_IN.items() for name in names.split()]
)
def test_a_built_in_that_is_not_installed_names_the_distribution_to_install(
    site: Site, name: str, distribution: str
) -> None:
    expected = (
        f"^{name} is in {distribution}, which is not installed, or too old to have it. Run "
        f"`pip install --upgrade {distribution}` and start Python again.$"
    )
    with pytest.raises(ImportError, match=expected):
        getattr(hookloop.callbacks, name)


def test_the_import_statement_passes_that_message_on(site: Site) -> None:
    with pytest.raises(
        ImportError, match=r"^RichProgressBar is in hookloop-callbacks-progress, which is not installed"
    ):
        from hookloop.callbacks import RichProgressBar  # noqa: F401


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("EarlyStoping", " Did you mean EarlyStopping?"),
        ("AcmeMonitr", " Did you mean AcmeMonitor?"),
        ("LambdaCallbak", " Did you mean LambdaCallback?"),
        ("Zzz", ""),
    ],
)
def test_an_unknown_name_is_an_attribute_error_with_a_guess(site: Site, name: str, guess: str) -> None:
    site.install("acme", classes={"AcmeMonitor": "acme:One"}, modules={"acme": CLASSES})

    expected = f"hookloop.callbacks has no {name}.{guess} Installed are: AcmeMonitor, Callback, LambdaCallback, Order."
    with pytest.raises(AttributeError, match=f"^{re.escape(expected)}$"):
        getattr(hookloop.callbacks, name)
    assert not hasattr(hookloop.callbacks, name)
    assert site.imported() == set()


def test_a_private_name_is_not_looked_up(site: Site) -> None:
    site.install("acme", classes={"_One": "acme:One"}, modules={"acme": CLASSES})

    with pytest.raises(AttributeError, match=r"^module 'hookloop\.callbacks' has no attribute '_One'$"):
        getattr(hookloop.callbacks, "_One")  # noqa: B009


def test_a_name_that_two_distributions_claim_is_an_error_that_names_both(site: Site) -> None:
    site.install("bravo", "2.0", classes={"One": "bravo.callbacks:One"}, modules={"bravo.callbacks": CLASSES})
    site.install("acme", classes={"One": "acme:One"}, modules={"acme": CLASSES})

    expected = (
        "hookloop.callbacks.One is claimed by 2 entry points: acme 1.0 (One = acme:One); bravo 2.0 (One = "
        "bravo.callbacks:One). Import it from the package that you mean, for example `from acme import One`, or "
        "uninstall one of them."
    )
    with pytest.raises(ImportError, match=f"^{re.escape(expected)}$"):
        _ = hookloop.callbacks.One
    assert site.imported() == set()


@pytest.mark.parametrize(
    ("source", "cause", "text"),
    [
        ("import no_such_module_at_all", ModuleNotFoundError, "No module named 'no_such_module_at_all'"),
        ("1 / 0", ZeroDivisionError, "division by zero"),
        ("raise SystemExit(3)", SystemExit, "3"),
        ("One = 3", TypeError, "it is 3, which is no subclass of Callback"),
        ("class One: pass", TypeError, "it is <class 'acme.One'>, which is no subclass of Callback"),
        ("Two = 3", AttributeError, "module 'acme' has no attribute 'One'"),
    ],
)
def test_a_class_of_a_broken_package_is_an_import_error_with_the_distribution_and_the_cause(
    site: Site, source: str, cause: type[BaseException], text: str
) -> None:
    site.install("acme", "2.0", classes={"One": "acme:One"}, modules={"acme": source})

    with pytest.raises(ImportError, match=f"^{re.escape(f'{BROKEN}{cause.__name__}: {text}')}$") as caught:
        _ = hookloop.callbacks.One
    assert type(caught.value.__cause__) is cause


def test_a_class_of_a_package_for_another_core_is_an_import_error_and_nothing_is_imported(site: Site) -> None:
    site.core("0.1.0")
    site.install("acme", "2.0", requires=["hookloop>=2"], classes={"One": "acme:One"}, modules={"acme": CLASSES})

    expected = re.escape(f"{BROKEN}MisconfigurationError: acme 2.0 needs hookloop>=2, and hookloop 0.1.0 is installed.")
    with pytest.raises(ImportError, match=expected):
        _ = hookloop.callbacks.One
    assert site.imported() == set()


def test_a_package_outside_may_supply_a_built_ins_name_that_nobody_else_supplies(site: Site) -> None:
    site.install("acme", classes={"EarlyStopping": "acme:One"}, modules={"acme": CLASSES})

    assert hookloop.callbacks.EarlyStopping is __import__("acme").One
