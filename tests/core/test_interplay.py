"""What callbacks declare about each other: conflicts, and who runs after whom."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView

from .fitting import Regression, loader
from .installing import Site, installed_for_one_test


class Averager(Callback):
    family = "weight_averaging"
    conflicts = ("weight_averaging",)


class OtherAverager(Callback):
    family = "weight_averaging"


class Pruner(Callback):
    conflicts = ("weight_averaging",)


class Bystander(Callback):
    pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


def callback(**members: Any) -> Callback:
    made: Callback = type(members.pop("name", "Declares"), (Callback,), members)()
    return made


def trainer(*callbacks: Callback, **arguments: Any) -> Trainer:
    return Trainer(callbacks=list(callbacks), **{"registered_callbacks": False, "logger": False, **arguments})


# --------------------------------------------------------------------------------------------------- conflicts


@pytest.mark.parametrize(
    ("callbacks", "declares", "other"),
    [
        ((Averager(), Averager()), "Averager", "Averager"),
        ((Averager(), OtherAverager()), "Averager", "OtherAverager"),
        ((OtherAverager(), Averager()), "Averager", "OtherAverager"),
        ((Pruner(), Bystander(), OtherAverager()), "Pruner", "OtherAverager"),
    ],
)
def test_a_conflict_with_a_family_is_an_error_that_names_both_and_what_to_drop(
    callbacks: tuple[Callback, ...], declares: str, other: str
) -> None:
    message = (
        rf"{declares} \(of {__name__}\) cannot be in a run with {other} \(of {__name__}\): {declares}\.conflicts names "
        rf"'weight_averaging'\. Keep one of the two: drop {declares}, or drop {other}\."
    )
    with pytest.raises(MisconfigurationError, match=message):
        trainer(*callbacks)


def test_what_conflicts_with_its_own_family_does_not_conflict_with_itself() -> None:
    assert len(trainer(Averager(), Bystander()).callbacks) == 2


@pytest.mark.parametrize("name", [f"{__name__}.Bystander", f"{__name__.partition('.')[0]}.Bystander"])
def test_a_class_is_named_with_its_module_or_any_package_around_that(name: str) -> None:
    with pytest.raises(MisconfigurationError, match="cannot be in a run with Bystander"):
        trainer(callback(conflicts=(name,)), Bystander())


def test_a_class_stands_for_those_that_inherit_from_it() -> None:
    derived = type("Derived", (Bystander,), {})
    with pytest.raises(MisconfigurationError, match="cannot be in a run with Derived"):
        trainer(callback(conflicts=[f"{__name__}.Bystander"]), derived())


@pytest.mark.parametrize("name", ["Bystander", "other.Bystander", f"{__name__}.Bystande", "ystander", "weight"])
def test_other_names_are_of_others(name: str) -> None:
    assert len(trainer(callback(conflicts=(name,)), Bystander(), OtherAverager()).callbacks) == 3


def test_a_package_that_is_not_installed_may_be_named() -> None:
    assert len(trainer(callback(conflicts={"not_installed.Averager"}), Bystander()).callbacks) == 2


@pytest.mark.parametrize("attribute", ["conflicts", "runs_after"])
@pytest.mark.parametrize("names", ["weight_averaging", None, (1,), 7])
def test_declarations_are_collections_of_names(attribute: str, names: Any) -> None:
    with pytest.raises(MisconfigurationError, match=rf"Declares\.{attribute} is .*, and it must be a tuple of names"):
        trainer(callback(**{attribute: names}))


AVERAGES = """
from hookloop import Callback

class Acme(Callback):
    family = "weight_averaging"

def factory():
    return Acme()
"""


def test_the_packages_are_named_and_a_registered_one_is_switched_off_by_its_entry_point(site: Site) -> None:
    site.install("acme", "2.5", factories={"averages": "acme_averages:factory"}, modules={"acme_averages": AVERAGES})
    message = (
        r"Pruner \(of .*\) cannot be in a run with Acme \(of acme_averages; acme 2\.5, entry point averages = .*\): .* "
        r"drop Pruner, or switch Acme off with HOOKLOOP_DISABLE_CALLBACKS=averages\."
    )
    with pytest.raises(MisconfigurationError, match=message):
        trainer(Pruner(), registered_callbacks=True, enable_progress_bar=False, enable_checkpointing=False)


def test_a_callback_that_a_module_brings_is_checked_when_the_run_begins(tmp_path: Path) -> None:
    class Brings(Regression):
        def configure_callbacks(self) -> list[Callback]:
            return [OtherAverager()]

    one = trainer(Averager(), default_root_dir=tmp_path, max_epochs=1)
    with pytest.raises(MisconfigurationError, match=r"Averager .* cannot be in a run with OtherAverager"):
        one.fit(Brings(), loader())
    assert [type(each) for each in one.callbacks] == [Averager]


def test_a_callback_that_conflicts_cannot_join_a_run(tmp_path: Path) -> None:
    refused: list[str] = []

    class Joins(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            try:
                trainer.callbacks.append(OtherAverager())
            except MisconfigurationError as error:
                refused.append(str(error))

    one = trainer(Averager(), Joins(), default_root_dir=tmp_path, max_epochs=1)
    one.fit(Regression(), loader())
    assert len(refused) == 1
    assert [type(each) for each in one.callbacks] == [Averager, Joins]


# ------------------------------------------------------------------------------------------------------- order


def names(callbacks: Any) -> list[str]:
    return [type(each).__name__ for each in callbacks]


def test_a_callback_runs_after_those_that_it_names_and_nobody_else_moves() -> None:
    late = callback(name="Late", runs_after=("weight_averaging",))
    assert names(trainer(late, Bystander(), OtherAverager(), Bystander()).callbacks) == [
        *("Bystander", "OtherAverager", "Late", "Bystander")
    ]


def test_a_callback_that_stands_right_already_stays_where_it_is() -> None:
    late = callback(name="Late", runs_after=("weight_averaging",))
    assert names(trainer(OtherAverager(), Bystander(), late).callbacks) == ["OtherAverager", "Bystander", "Late"]


def test_several_wait_for_each_other_in_a_row() -> None:
    c = callback(name="C", runs_after=("b",))
    b = callback(name="B", family="b", runs_after=("a",))
    a = callback(name="A", family="a")
    assert names(trainer(c, b, a).callbacks) == ["A", "B", "C"]
    assert names(trainer(c, b).callbacks) == ["B", "C"]


def test_who_waits_for_an_earlier_order_has_nothing_to_wait_for() -> None:
    last = callback(name="Last", order=Order.LAST, runs_after=("weight_averaging",))
    assert names(trainer(last, OtherAverager()).callbacks) == ["OtherAverager", "Last"]


def test_a_callback_cannot_wait_for_a_later_order() -> None:
    early = callback(name="Early", runs_after=("saver",))
    saver = callback(name="Saver", family="saver", order=Order.LAST)
    with pytest.raises(
        MisconfigurationError, match=r"Early .* runs after Saver .* Order\.NORMAL is before Order\.LAST"
    ):
        trainer(early, saver)


def test_two_that_wait_for_each_other_are_an_error() -> None:
    a = callback(name="A", family="a", runs_after=("b",))
    b = callback(name="B", family="b", runs_after=("a",))
    with pytest.raises(MisconfigurationError, match=r"run after each other: A \(of .*\), B \(of .*\)\. Drop one"):
        trainer(a, Bystander(), b)


def test_several_of_a_family_that_runs_after_itself_wait_for_each_other_so_it_is_an_error() -> None:
    kind = type("Own", (Callback,), {"family": "own", "runs_after": ("own",)})
    with pytest.raises(MisconfigurationError, match="run after each other"):
        trainer(kind(), kind())
