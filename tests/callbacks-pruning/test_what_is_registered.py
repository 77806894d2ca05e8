"""Installing the package changes nothing, unless an environment variable asks for it."""

import pytest

import hookloop.callbacks
import hookloop.callbacks.pruning
from hookloop import Trainer
from hookloop.errors import CallbackFactoryError
from hookloop_callbacks_pruning import ModelPruning


def of_this_package(trainer: Trainer) -> list[object]:
    return [one for one in trainer.callbacks if "pruning" in type(one).__module__]


def test_a_trainer_gets_no_callback_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKLOOP_PRUNING_AMOUNT", raising=False)
    assert of_this_package(Trainer(logger=False)) == []

    monkeypatch.setenv("HOOKLOOP_PRUNING_AMOUNT", " ")
    assert of_this_package(Trainer(logger=False)) == []


def test_a_variable_asks_for_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_PRUNING_AMOUNT", "0.2")

    [callback] = of_this_package(Trainer(logger=False))

    assert isinstance(callback, ModelPruning)
    assert callback.amount == 0.2
    assert callback.method.name == "l1_unstructured"
    own = ModelPruning("random_unstructured")
    assert of_this_package(Trainer(logger=False, callbacks=own)) == [own]  # the user's word goes first


@pytest.mark.parametrize("value", ["much", "0", "1.5", "nan"])
def test_a_variable_that_is_no_share_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_PRUNING_AMOUNT", value)

    with pytest.raises(CallbackFactoryError, match=rf"HOOKLOOP_PRUNING_AMOUNT={value}: it must be a number above 0"):
        Trainer(logger=False)


def test_it_is_where_it_is_looked_for() -> None:
    assert hookloop.callbacks.ModelPruning is ModelPruning
    assert hookloop.callbacks.pruning.ModelPruning is ModelPruning
