"""States of callbacks: under which key they are kept, whose they are afterwards, and what is said of the others."""

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from hookloop import Callback, LambdaCallback, LightningModule, Order, Trainer
from hookloop.accelerators import CPUAccelerator
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies import SingleDeviceStrategy
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, Saves, loader, trainer_in
from .installing import Site, installed_for_one_test
from .recording import QuietDataModule, Trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.ckpt"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


class Counter(Callback):
    """Counts either the epochs or the batches of a training; how it talks about them is nothing to remember."""

    def __init__(self, unit: str, talkative: bool = False) -> None:
        self.unit = unit
        self.talkative = talkative
        self.counts = {"epochs": 0, "batches": 0}

    @property
    def state_key(self) -> str:
        return f"Counter[unit={self.unit}]"

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.counts["epochs"] += self.unit == "epochs"

    def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
        self.counts["batches"] += self.unit == "batches"

    def state_dict(self) -> dict[str, Any]:
        return dict(self.counts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts.update(state_dict)


class Memory(Callback):
    """Remembers a number under a key, and notes whatever it is given."""

    def __init__(self, key: str, value: Any = 0) -> None:
        self.key = key
        self.value = value
        self.loaded: list[dict[str, Any]] = []

    @property
    def state_key(self) -> str:
        return self.key

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded.append(state_dict)


class OtherMemory(Memory):
    """Another class with the same methods."""


def save(path: Path, *callbacks: Callback) -> None:
    """A checkpoint of one epoch with these callbacks."""
    trainer_in(path.parent, *callbacks, Saves("on_train_epoch_end", path), max_epochs=1).fit(Regression(), loader())


def resume(path: Path, *callbacks: Callback) -> Trainer:
    trainer = trainer_in(path.parent, *callbacks)
    trainer.fit(Regression(), loader(), ckpt_path=path)
    return trainer


def quietly(path: Path, *callbacks: Callback) -> None:
    """Resume; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume(path, *callbacks)


def values(callback: Memory) -> list[Any]:
    return [state["value"] for state in callback.loaded]


# ------------------------------------------------------------------------------------------------ two of a class


def test_two_counters_are_kept_apart_and_go_on_counting(path: Path) -> None:
    trainer_in(path.parent, Counter("epochs"), Counter("batches"), Saves("on_train_epoch_end", path, n=2)).fit(
        Regression(), loader()
    )
    assert read_checkpoint(path)["callbacks"] == {
        "Counter[unit=epochs]": {"epochs": 2, "batches": 0},
        "Counter[unit=batches]": {"epochs": 0, "batches": 2 * BATCHES},
    }

    # Their order and what is no part of the key may change.
    batches, epochs = Counter("batches", talkative=True), Counter("epochs")
    trainer_in(path.parent, batches, epochs, max_epochs=5).fit(Regression(), loader(), ckpt_path=path)
    assert epochs.counts == {"epochs": 5, "batches": 0}
    assert batches.counts == {"epochs": 0, "batches": 5 * BATCHES}


def test_a_counter_resumed_inside_an_epoch_counts_every_batch_once(path: Path) -> None:
    trainer_in(path.parent, Counter("batches"), Saves("on_train_batch_end", path, n=7)).fit(Regression(), loader())
    resumed = Counter("batches")
    resume(path, resumed)
    assert resumed.counts["batches"] == 2 * BATCHES


# ------------------------------------------------------------------------------------------------ whose state it is


def test_a_state_goes_to_the_callback_with_its_key(path: Path) -> None:
    save(path, Memory("a", 1), Memory("b", 2), OtherMemory("c", 3))
    a, b, c = Memory("a"), Memory("b"), OtherMemory("c")
    quietly(path, c, b, a)
    assert [values(each) for each in (a, b, c)] == [[1], [2], [3]]


def test_a_key_is_enough_whatever_the_class(path: Path) -> None:
    save(path, Memory("a", 1))
    other = OtherMemory("a")
    quietly(path, other)
    assert values(other) == [1]


def test_the_key_is_the_name_of_the_class_if_nothing_else_is_said(path: Path) -> None:
    class Plain(Callback):
        loaded: dict[str, Any] | None = None

        def state_dict(self) -> dict[str, Any]:
            return {"n": 3}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.loaded = state_dict

    key = "test_the_key_is_the_name_of_the_class_if_nothing_else_is_said.<locals>.Plain"
    assert Plain().state_key == key
    save(path, Plain())
    assert list(read_checkpoint(path)["callbacks"]) == [key]
    plain = Plain()
    quietly(path, plain)
    assert plain.loaded == {"n": 3}


def test_a_callback_that_is_new_gets_nothing(path: Path) -> None:
    save(path, Memory("a", 1))
    a, new = Memory("a"), Memory("new")
    quietly(path, a, new)
    assert (values(a), values(new)) == ([1], [])


def test_a_callback_that_is_given_no_state_keeps_its_own(path: Path) -> None:
    save(path)
    counter = Counter("epochs")
    counter.counts["epochs"] = 41
    quietly(path, counter)
    assert counter.counts["epochs"] == 42


@pytest.mark.parametrize("state", [{}, None])
def test_an_empty_state_is_not_given_back(state: Any, path: Path) -> None:
    class Empty(Memory):
        def state_dict(self) -> Any:
            return state

    save(path, Empty("a"))
    restored = Memory("a")
    quietly(path, restored)
    assert restored.loaded == []


def test_a_state_full_of_zeros_is_not_empty(path: Path) -> None:
    save(path, Memory("a", 0))
    restored = Memory("a", 5)
    quietly(path, restored)
    assert values(restored) == [0]


def test_a_callback_that_saves_and_never_loads_is_no_stranger(path: Path) -> None:
    class Reports(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"for people to read": 3}

    save(path, Reports(), LambdaCallback(state_dict=lambda: {"n": 4}))
    quietly(path, Reports(), LambdaCallback(state_dict=lambda: {"n": 5}))


def test_the_state_is_given_once(path: Path) -> None:
    save(path, Memory("a", 1))
    restored = Memory("a")
    trainer = resume(path, restored)
    trainer.max_epochs = 3
    assert trainer.lightning_module is not None
    trainer.fit(trainer.lightning_module, loader())
    assert values(restored) == [1]


def test_tensors_come_back_bit_for_bit(path: Path) -> None:
    value = torch.tensor([0.1, -0.0, float("inf")], dtype=torch.float64)
    save(path, Memory("a", value))
    restored = Memory("a")
    quietly(path, restored)
    [found] = values(restored)
    assert found.dtype == value.dtype
    assert torch.equal(found.view(torch.int64), value.view(torch.int64))


def test_a_lambda_callback_may_take_its_state_back(path: Path) -> None:
    loaded: list[dict[str, Any]] = []
    save(path, LambdaCallback(state_dict=lambda: {"n": 4}))
    quietly(path, LambdaCallback(load_state_dict=loaded.append))
    assert loaded == [{"n": 4}]


# ------------------------------------------------------------------------------------------------ a key that changed


def test_the_lone_state_of_a_lone_callback_is_found_under_another_key(path: Path) -> None:
    save(path, Memory("Memory[every=1]", 1))
    restored = Memory("Memory[every=5]")
    quietly(path, restored)
    assert values(restored) == [1]


def test_a_changed_key_is_found_beside_callbacks_of_other_classes(path: Path) -> None:
    save(path, Memory("Memory[every=1]", 1), OtherMemory("Other[every=1]", 2), Counter("epochs"))
    restored, other, counter = Memory("Memory[every=5]"), OtherMemory("Other[every=5]"), Counter("epochs")
    quietly(path, other, counter, restored)
    assert (values(restored), values(other), counter.counts["epochs"]) == ([1], [2], 2)


def test_of_two_states_none_is_guessed(path: Path) -> None:
    save(path, Memory("Memory[1]", 1), Memory("Memory[2]", 2))
    restored = Memory("Memory[3]")
    with pytest.warns(UserWarning, match=r"Memory\[1\]; Memory\[2\]\. Pass them to the Trainer"):
        resume(path, restored)
    assert restored.loaded == []


def test_between_two_callbacks_none_is_guessed(path: Path) -> None:
    save(path, Memory("Memory[1]", 1))
    restored = Memory("Memory[2]"), Memory("Memory[3]")
    with pytest.warns(UserWarning, match=r"not in this run: Memory\[1\]\."):
        resume(path, *restored)
    assert [each.loaded for each in restored] == [[], []]


def test_a_derived_class_is_another_class(path: Path) -> None:
    save(path, Memory("Memory[1]", 1))
    derived = OtherMemory("Memory[2]")
    with pytest.warns(UserWarning, match=r"Memory\[1\]"):
        resume(path, derived)
    assert derived.loaded == []


def test_a_callback_that_takes_no_state_is_not_the_one_meant(path: Path) -> None:
    class Silent(Callback):
        state_key = "Silent[2]"

    class Spoke(Callback):
        state_key = "Silent[1]"

        def state_dict(self) -> dict[str, Any]:
            return {"n": 1}

    Spoke.__qualname__ = Silent.__qualname__
    save(path, Spoke())
    with pytest.warns(UserWarning, match=r"Silent\[1\]"):
        resume(path, Silent())


METER = """
from hookloop import Callback

class Meter(Callback):
    def __init__(self, unit):
        self.unit = unit
        self.loaded = []

    @property
    def state_key(self):
        return f"Meter[{self.unit}]"

    def state_dict(self):
        return {"unit": self.unit}

    def load_state_dict(self, state_dict):
        self.loaded.append(state_dict["unit"])
"""


def meters(site: Site, distribution: str, version: str = "1.0") -> ModuleType:
    """The module of a distribution that supplies a callback class, Meter."""
    module = distribution.replace("-", "_")
    site.install(distribution, version, classes={"Meter": f"{module}:Meter"}, modules={module: METER})
    return importlib.import_module(module)


def test_a_changed_key_is_found_for_a_class_of_a_package_too(site: Site, path: Path) -> None:
    package = meters(site, "acme-meters")
    save(path, package.Meter("volts"))
    restored = package.Meter("amps")
    quietly(path, restored)
    assert restored.loaded == ["volts"]


def test_a_class_of_the_same_name_from_another_package_is_another_class(site: Site, path: Path) -> None:
    save(path, meters(site, "acme-meters").Meter("volts"))
    stranger = meters(site, "other-meters").Meter("amps")
    with pytest.warns(UserWarning, match=r"Meter\[volts\] \(from acme-meters 1\.0"):
        resume(path, stranger)
    assert stranger.loaded == []


# ------------------------------------------------------------------------------------------------ what is left over


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_a_state_that_nobody_takes_is_named_with_the_package_to_install(entry: str, site: Site, path: Path) -> None:
    save(path, meters(site, "acme-meters", "2.5").Meter("volts"), Memory("mine"))
    message = (
        r"states of callbacks that are not in this run: "
        r"Meter\[volts\] \(from acme-meters 2\.5: pip install acme-meters==2\.5\); mine\. Pass them to the Trainer"
    )
    with pytest.warns(UserWarning, match=message):
        getattr(trainer_in(path.parent), entry)(Regression(), loader(), ckpt_path=path)


def test_the_package_need_not_be_there_any_more(site: Site, path: Path) -> None:
    save(path, meters(site, "acme-meters").Meter("volts"))
    for file in [*site.path.rglob("*")]:
        if file.is_file():
            file.unlink()
    with pytest.warns(UserWarning, match=r"pip install acme-meters==1\.0"):
        resume(path)


def test_a_file_without_the_names_of_packages_will_do(path: Path) -> None:
    save(path, Memory("a", 1), Memory("b", 2))
    checkpoint = read_checkpoint(path)
    del checkpoint["callback_classes"]
    torch.save(checkpoint, path)
    restored = Memory("a")
    with pytest.warns(UserWarning, match=r"not in this run: b\."):
        resume(path, restored)
    assert values(restored) == [1]


def test_a_file_of_weights_alone_leaves_callbacks_alone(path: Path) -> None:
    class Hears(Memory):
        def on_load_checkpoint(self, *args: Any) -> None:
            raise AssertionError

    saver = Saves("on_train_epoch_end", path, weights_only=True)
    trainer_in(path.parent, Memory("a", 1), saver).fit(Regression(), loader())
    restored = Hears("a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer_in(path.parent, restored).test(Regression(), loader(), ckpt_path=path, verbose=False)
    assert restored.loaded == []


# ------------------------------------------------------------------------------------------------ how it is given


def test_load_state_dict_gets_a_copy(path: Path) -> None:
    class Spoils(Memory):
        checkpoint: dict[str, Any]

        def on_load_checkpoint(
            self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]
        ) -> None:
            self.checkpoint = checkpoint

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            state_dict["value"].append("spoilt")
            state_dict.clear()

    save(path, Memory("a", [1, 2]))
    spoils = Spoils("a")
    quietly(path, spoils)
    assert spoils.checkpoint["callbacks"] == {"a": {"value": [1, 2]}}


def test_every_callback_hears_of_the_checkpoint_before_any_gets_its_state(path: Path) -> None:
    heard: list[str] = []

    class Hears(Memory):
        def on_load_checkpoint(
            self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]
        ) -> None:
            heard.append(f"{self.key} hears of step {checkpoint['global_step']}")

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            heard.append(f"{self.key} gets {state_dict['value']}")

    class HearsFirst(Hears):
        order = Order.FIRST

    save(path, Memory("b", 2), Memory("a", 1))
    quietly(path, Hears("a"), Hears("new"), HearsFirst("b"))
    steps = [f"{key} hears of step {BATCHES}" for key in ("b", "a", "new")]
    assert heard == [*steps, "b gets 2", "a gets 1"]


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_every_entry_point_gives_states_back(entry: str, path: Path) -> None:
    save(path, Memory("a", 1))
    restored = Memory("a")
    getattr(trainer_in(path.parent, restored), entry)(Regression(), loader(), ckpt_path=path)
    assert values(restored) == [1]


def test_states_are_there_when_the_fit_starts(path: Path) -> None:
    seen: list[int] = []

    class Early(Counter):
        def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            seen.append(self.counts["epochs"])

    save(path, Early("epochs"))
    quietly(path, Early("epochs"))
    assert seen == [0, 1]


def test_callbacks_of_the_module_take_part(path: Path) -> None:
    class Brings(Regression):
        def __init__(self, value: int) -> None:
            super().__init__()
            self.memory = Memory("a", value)

        def configure_callbacks(self) -> Any:
            return [self.memory]

    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Brings(7), loader())
    restored = Brings(0)
    trainer_in(path.parent).fit(restored, loader(), ckpt_path=path)
    assert values(restored.memory) == [7]


# ------------------------------------------------------------------------------------------------ others with a state


def test_a_datamodule_gets_its_state_back(path: Path) -> None:
    class Data(QuietDataModule):
        loaded: Any = None

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.loaded = state_dict

        def train_dataloader(self) -> Any:
            return loader()

        def val_dataloader(self) -> Any:
            return loader(1)

    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(), datamodule=Data(Trace()))
    restored = Data(Trace())
    trainer_in(path.parent).fit(Regression(), datamodule=restored, ckpt_path=path)
    assert restored.loaded == {"seen": 3}

    # Neither a run without one nor a file without its state is an error.
    module = Regression()
    trainer_in(path.parent).fit(module, loader(), ckpt_path=path)
    assert len(module.marks) == BATCHES
    save(path)
    untouched = Data(Trace())
    trainer_in(path.parent).fit(Regression(), datamodule=untouched, ckpt_path=path)
    assert untouched.loaded is None


class Scaling(Precision):
    """A precision that remembers a number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.loss_scale = scale

    def state_dict(self) -> dict[str, Any]:
        return {"loss_scale": self.loss_scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss_scale = state["loss_scale"]


def test_the_precision_gets_its_state_back(path: Path) -> None:
    def strategy(precision: Precision) -> SingleDeviceStrategy:
        return SingleDeviceStrategy(torch.device("cpu"), CPUAccelerator(), precision_plugin=precision)

    saver = Saves("on_train_epoch_end", path)
    trainer_in(path.parent, saver, strategy=strategy(Scaling(1024.0))).fit(Regression(), loader())
    restored = Scaling(2.0)
    trainer_in(path.parent, strategy=strategy(restored)).fit(Regression(), loader(), ckpt_path=path)
    assert restored.loss_scale == 1024.0


# ------------------------------------------------------------------------------------------------ one key for two

CLASH = (
    r"Two callbacks would share one state in a checkpoint: Memory \(of .*test_callback_state\) and OtherMemory "
    r'\(of .*test_callback_state\) both have the state_key "same"\. Remove one, or define the property state_key'
)


def by_the_trainer(first: Callback, second: Callback) -> Any:
    return Trainer(callbacks=[first, second], registered_callbacks=False)


def by_append(first: Callback, second: Callback) -> Any:
    trainer = Trainer(callbacks=[first], registered_callbacks=False)
    trainer.callbacks.append(second)


def by_extend(first: Callback, second: Callback) -> Any:
    trainer = Trainer(registered_callbacks=False)
    trainer.callbacks.extend([first, second])


def by_assignment(first: Callback, second: Callback) -> Any:
    trainer = Trainer(registered_callbacks=False)
    trainer.callbacks = [first, second]


def by_two_of_the_module(first: Callback, second: Callback) -> Any:
    class Brings(Regression):
        def configure_callbacks(self) -> Any:
            return [first, second]

    trainer_in(Path()).fit(Brings(), loader())


@pytest.mark.parametrize("way", [by_the_trainer, by_append, by_extend, by_assignment, by_two_of_the_module])
def test_two_states_under_one_key_are_refused_with_both_named(way: Callable[[Callback, Callback], Any]) -> None:
    with pytest.raises(MisconfigurationError, match=CLASH):
        way(Memory("same"), OtherMemory("same"))


def test_a_callback_of_the_module_may_not_share_the_key_of_one_of_the_trainer(tmp_path: Path) -> None:
    class Brings(Regression):
        def configure_callbacks(self) -> Any:
            # Not of a class that would take the other one's place.
            return Memory("Counter[unit=epochs]")

    trainer = trainer_in(tmp_path, Counter("epochs"))
    with pytest.raises(MisconfigurationError, match=r'Counter \(of .*\) and Memory \(of .*"Counter\[unit=epochs\]"'):
        trainer.fit(Brings(), loader())
    assert [type(callback) for callback in trainer.callbacks] == [Counter]


def test_a_callback_that_joins_in_a_hook_may_not_share_a_key_either(tmp_path: Path) -> None:
    joins = LambdaCallback(on_train_start=lambda trainer, _: trainer.callbacks.append(OtherMemory("same")))
    with pytest.raises(MisconfigurationError, match=CLASH):
        trainer_in(tmp_path, Memory("same"), joins).fit(Regression(), loader())


def test_two_lambda_callbacks_with_a_state_cannot_be_told_apart() -> None:
    with pytest.raises(MisconfigurationError, match=r'LambdaCallback .* and LambdaCallback .*"LambdaCallback"'):
        Trainer(callbacks=[LambdaCallback(state_dict=dict), LambdaCallback(state_dict=dict)])


def test_two_without_a_state_may_have_the_same_key(path: Path) -> None:
    class Stateless(Callback):
        state_key = "same"

    save(path, Stateless(), Stateless(), Memory("same", 5))
    restored = Memory("same")
    quietly(path, Stateless(), restored, Stateless())
    assert values(restored) == [5]
