"""States of callbacks that change their shape, and classes that change their name."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from hookloop import Callback, Trainer
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import CheckpointError, HookError, MisconfigurationError

from .fitting import Regression, Saves, loader, trainer_in
from .installing import Site, installed_for_one_test

METER = """
from hookloop import Callback

class Meter(Callback):
    state_version = {version}
    loaded = None

    def state_dict(self):
        return {{"shape": {version}}}

    def load_state_dict(self, state_dict):
        self.loaded = state_dict

    def migrate_state(self, state_dict, version):
        {migrate}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.ckpt"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


def meter(site: Site, release: str, version: int, migrate: str = "raise AssertionError") -> Any:
    """A Meter of a release of acme-meters whose state has this version."""
    source = METER.format(version=version, migrate=migrate)
    sys.modules.pop("acme_meters", None)
    site.install("acme-meters", release, classes={"Meter": "acme_meters:Meter"}, modules={"acme_meters": source})
    importlib.invalidate_caches()
    module = ModuleType("acme_meters")  # not the import system: both releases would have one cached file
    exec(source, module.__dict__)
    return module.Meter()


def save(path: Path, *callbacks: Callback) -> None:
    trainer_in(path.parent, *callbacks, Saves("on_train_epoch_end", path), max_epochs=1).fit(Regression(), loader())


def resume(path: Path, *callbacks: Callback) -> None:
    trainer_in(path.parent, *callbacks).fit(Regression(), loader(), ckpt_path=path)


# ----------------------------------------------------------------------------------------------------- versions


def test_the_version_of_a_state_is_saved_beside_it(site: Site, path: Path) -> None:
    save(path, meter(site, "1.5", version=3))
    saved = read_checkpoint(path)["callback_classes"]
    assert saved == {
        "Meter": {"class": "Meter", "distribution": "acme-meters", "version": "1.5", "state_version": 3},
    }


def test_a_state_of_the_same_version_is_not_migrated(site: Site, path: Path) -> None:
    save(path, meter(site, "1.5", version=3))
    restored = meter(site, "1.6", version=3)
    resume(path, restored)
    assert restored.loaded == {"shape": 3}


def test_an_older_state_is_migrated_before_it_is_loaded(site: Site, path: Path) -> None:
    save(path, meter(site, "1.0", version=1))
    restored = meter(site, "2.0", version=4, migrate="return {**state_dict, 'from': version}")
    resume(path, restored)
    assert restored.loaded == {"shape": 1, "from": 1}


def test_a_file_that_tells_no_version_holds_states_of_version_1(site: Site, path: Path) -> None:
    import torch

    save(path, meter(site, "1.0", version=1))
    checkpoint = read_checkpoint(path)
    del checkpoint["callback_classes"]["Meter"]["state_version"]
    torch.save(checkpoint, path)
    restored = meter(site, "2.0", version=2, migrate="return {'from': version}")
    resume(path, restored)
    assert restored.loaded == {"from": 1}


@pytest.mark.parametrize("entry", ["fit", "validate"])
def test_a_newer_state_is_an_error_that_says_which_version_to_install(entry: str, site: Site, path: Path) -> None:
    save(path, meter(site, "2.1", version=3))
    older = meter(site, "1.0", version=2)
    message = (
        r"a state of Meter of version 3, saved by acme-meters 2\.1, and the Meter of acme-meters 1\.0 that is in this "
        r"run knows versions up to 2\. Run `pip install acme-meters==2\.1` to go on with what saved it, or leave the "
        r"callback out\."
    )
    with pytest.raises(CheckpointError, match=message):
        getattr(trainer_in(path.parent, older), entry)(Regression(), loader(), ckpt_path=path)
    assert older.loaded is None


class Own(Callback):
    """Of no package."""

    loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"n": 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict


def version_of_own(version: object, **members: Any) -> Own:
    kind = type("Own", (Own,), {"state_version": version, **members})
    made: Own = kind()
    return made


def test_a_newer_state_of_a_class_of_no_package_is_told_so(path: Path) -> None:
    save(path, version_of_own(2, migrate_state=lambda self, state_dict, version: state_dict))
    with pytest.raises(CheckpointError, match=r"of version 2, and the Own that is in this run .* Use the class that"):
        resume(path, version_of_own(1))


def test_a_migration_that_fails_is_told_with_the_release_that_saved(site: Site, path: Path) -> None:
    save(path, meter(site, "1.0", version=1))
    message = (
        r"Meter\.migrate_state could not bring a state of version 1, saved by acme-meters 1\.0 to version 2: "
        r"KeyError: 'gone'\. Run `pip install acme-meters==1\.0`"
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        resume(path, meter(site, "2.0", version=2, migrate="return {'a': state_dict['gone']}"))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_migration_may_refuse_in_its_own_words(path: Path) -> None:
    def refuse(self: Callback, state_dict: dict[str, Any], version: int) -> dict[str, Any]:
        raise CheckpointError("Averages of version 1 were wrong. Train anew.")

    save(path, version_of_own(1))
    with pytest.raises(CheckpointError, match=r"^Averages of version 1 were wrong\. Train anew\.$"):
        resume(path, version_of_own(2, migrate_state=refuse))


def test_a_migration_that_returns_nothing_is_an_error(path: Path) -> None:
    save(path, version_of_own(1))
    with pytest.raises(
        CheckpointError, match=r"Own\.migrate_state returned None \(NoneType\) for a state of version 1"
    ):
        resume(path, version_of_own(2, migrate_state=lambda self, state_dict, version: None))


def test_nobody_gets_a_state_if_one_of_them_cannot_be_migrated(path: Path) -> None:
    class First(Own):
        pass

    save(path, First(), version_of_own(1))
    first = First()
    with pytest.raises(CheckpointError, match="Own"):
        resume(path, first, version_of_own(2, migrate_state=lambda self, state_dict, version: None))
    assert first.loaded is None


def test_a_version_that_was_raised_without_a_migration_is_refused_before_the_run(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, version_of_own(2))
    with pytest.raises(
        MisconfigurationError, match=r"Own\.state_version is 2, .* Define migrate_state\(self, state_di"
    ):
        trainer.fit(Regression(), loader())


@pytest.mark.parametrize("version", [0, -1, True, "2", None, 1.5])
def test_a_version_is_a_whole_number(version: object, tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, version_of_own(version))
    with pytest.raises(MisconfigurationError, match=r"Own\.state_version is .* must be a whole number of at least 1"):
        trainer.fit(Regression(), loader())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("migrate_states", r"migrate_states is no hook, so it would never be called\. Rename it to migrate_state"),
        ("migrate_state", r"migrate_state takes \(state_dict\), and it is called with \(state_dict, version\)"),
    ],
)
def test_a_migration_is_checked_as_hooks_are(name: str, message: str, tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, version_of_own(1, **{name: lambda self, state_dict: state_dict}))
    with pytest.raises(HookError, match=message):
        trainer.fit(Regression(), loader())


# ------------------------------------------------------------------------------------------------------- names


class Renamed(Own):
    state_aliases: ClassVar[tuple[str, ...]] = ("Tally", "Own")


class Keyed(Own):
    state_aliases: ClassVar[tuple[str, ...]] = ("FormerlyKeyed",)

    def __init__(self, unit: str = "volts") -> None:
        self.unit = unit

    @property
    def state_key(self) -> str:
        return f"{type(self).__qualname__}[{self.unit}]"


def test_a_renamed_class_finds_the_state_of_its_former_name(path: Path) -> None:
    save(path, Own())
    renamed = Renamed()
    resume(path, renamed)
    assert renamed.loaded == {"n": 1}


def test_the_former_name_is_put_into_a_key_that_begins_with_the_name(path: Path) -> None:
    former = type("FormerlyKeyed", (Keyed,), {})
    save(path, former("volts"), former("amps"))
    volts, amps = Keyed("volts"), Keyed("amps")
    resume(path, volts, amps)
    assert (volts.loaded, amps.loaded) == ({"n": 1}, {"n": 1})


def test_a_renamed_class_whose_key_has_changed_too_finds_a_lone_state(path: Path) -> None:
    former = type("FormerlyKeyed", (Keyed,), {})
    save(path, former("volts"))
    amps = Keyed("amps")
    resume(path, amps)
    assert amps.loaded == {"n": 1}


def test_who_still_has_the_name_keeps_the_state(path: Path) -> None:
    save(path, Own())
    renamed, own = Renamed(), Own()
    resume(path, renamed, own)
    assert (renamed.loaded, own.loaded) == (None, {"n": 1})


def test_a_derived_class_does_not_inherit_the_former_name(path: Path) -> None:
    class Derived(Renamed):
        pass

    save(path, Own())
    derived = Derived()
    with pytest.warns(UserWarning, match="not in this run: Own"):
        resume(path, derived)
    assert derived.loaded is None


def test_former_names_are_a_collection(tmp_path: Path) -> None:
    broken = type("Broken", (Own,), {"state_aliases": "Own"})
    with pytest.raises(MisconfigurationError, match=r"Broken\.state_aliases is 'Own', .* state_aliases = \('Own',\)"):
        Trainer(callbacks=[broken()], logger=False, registered_callbacks=False, default_root_dir=tmp_path).fit(
            Regression(), loader()
        )
