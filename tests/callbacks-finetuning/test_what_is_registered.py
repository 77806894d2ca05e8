"""Installing the package changes nothing, unless an environment variable asks for it."""

import pytest

import hookloop.callbacks
import hookloop.callbacks.finetuning
from hookloop import Trainer
from hookloop.errors import CallbackFactoryError
from hookloop_callbacks_finetuning import BackboneFinetuning, BaseFinetuning, GradualUnfreezing, multiplicative


def of_this_package(trainer: Trainer) -> list[object]:
    return [one for one in trainer.callbacks if "finetuning" in type(one).__module__]


def test_a_trainer_gets_no_callback_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH", raising=False)
    assert of_this_package(Trainer(logger=False)) == []

    monkeypatch.setenv("HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH", " ")
    assert of_this_package(Trainer(logger=False)) == []


def test_a_variable_asks_for_a_backbone_to_be_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH", "3")

    [callback] = of_this_package(Trainer(logger=False))

    assert isinstance(callback, BackboneFinetuning)
    assert callback.unfreeze_backbone_at_epoch == 3
    own = GradualUnfreezing({1: "encoder"})
    assert of_this_package(Trainer(logger=False, callbacks=own)) == [own]  # the user's word goes first


@pytest.mark.parametrize("value", ["soon", "-1", "1.5"])
def test_a_variable_that_is_no_epoch_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH", value)

    with pytest.raises(
        CallbackFactoryError, match=rf"HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH={value}: it must be the index"
    ):
        Trainer(logger=False)


def test_its_names_are_where_they_are_looked_for() -> None:
    assert hookloop.callbacks.BackboneFinetuning is BackboneFinetuning
    assert hookloop.callbacks.BaseFinetuning is BaseFinetuning
    assert hookloop.callbacks.GradualUnfreezing is GradualUnfreezing
    assert hookloop.callbacks.finetuning.multiplicative is multiplicative
