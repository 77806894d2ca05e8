"""Defaults of the Trainer's arguments from variables of the environment."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, Trainer
from hookloop.errors import MisconfigurationError

VARIABLE = "HOOKLOOP_TRAINER_"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trainer_with(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], **arguments: Any) -> Trainer:
    for name, text in variables.items():
        monkeypatch.setenv(VARIABLE + name, text)
    settings: dict[str, Any] = {"registered_callbacks": False, "accelerator": "cpu"}
    return Trainer(**(settings | arguments))


READ: list[tuple[str, str, str, Any]] = [
    ("MAX_EPOCHS", "3", "max_epochs", 3),
    ("MAX_EPOCHS", " 3 ", "max_epochs", 3),
    ("MAX_EPOCHS", "-1", "max_epochs", -1),
    ("MAX_EPOCHS", "none", "max_epochs", 1000),
    ("MAX_STEPS", "70", "max_steps", 70),
    ("MIN_STEPS", "7", "min_steps", 7),
    ("MIN_EPOCHS", "2", "min_epochs", 2),
    ("DEVICES", "1", "world_size", 1),
    ("DEVICES", "auto", "world_size", 1),
    ("DEVICES", "[0]", "world_size", 1),
    ("DEVICES", "0,", "world_size", 1),
    ("PRECISION", "bf16-mixed", "precision", "bf16-mixed"),
    ("PRECISION", "64", "precision", "64-true"),
    ("LOGGER", "false", "loggers", []),
    ("ACCUMULATE_GRAD_BATCHES", "4", "accumulate_grad_batches", 4),
    ("GRADIENT_CLIP_VAL", "0.5", "gradient_clip_val", 0.5),
    ("GRADIENT_CLIP_VAL", "1", "gradient_clip_val", 1),
    ("GRADIENT_CLIP_VAL", "None", "gradient_clip_val", None),
    ("GRADIENT_CLIP_ALGORITHM", "value", "gradient_clip_algorithm", "value"),
    ("LOG_EVERY_N_STEPS", "1", "log_every_n_steps", 1),
    ("VAL_CHECK_INTERVAL", "0.25", "val_check_interval", 0.25),
    ("VAL_CHECK_INTERVAL", "1", "val_check_interval", 1),
    ("VAL_CHECK_INTERVAL", "1.0", "val_check_interval", 1.0),
    ("VAL_CHECK_INTERVAL", "00:00:10:00", "val_check_interval", timedelta(minutes=10)),
    ("CHECK_VAL_EVERY_N_EPOCH", "5", "check_val_every_n_epoch", 5),
    ("FAST_DEV_RUN", "true", "fast_dev_run", True),
    ("FAST_DEV_RUN", "False", "fast_dev_run", False),
    ("FAST_DEV_RUN", "3", "fast_dev_run", 3),
    ("BAREBONES", "1", "log_every_n_steps", 0),
    ("BAREBONES", "0", "log_every_n_steps", 50),
    ("DEFAULT_ROOT_DIR", "/runs/of/mine", "default_root_dir", "/runs/of/mine"),
    # Without a value it is not set.
    ("MAX_EPOCHS", "", "max_epochs", 1000),
    ("MAX_EPOCHS", "  ", "max_epochs", 1000),
]


@pytest.mark.parametrize(("name", "text", "attribute", "value"), READ)
def test_a_variable_is_read_as_a_value_of_its_arguments_type(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, attribute: str, value: Any
) -> None:
    read = getattr(trainer_with(monkeypatch, {name: text}), attribute)
    assert (type(read), read) == (type(value), value)


def test_a_whole_number_of_batches_and_a_share_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from .fitting import Regression, loader

    trainer = trainer_with(monkeypatch, {"LIMIT_TRAIN_BATCHES": "1", "LIMIT_VAL_BATCHES": "1.0"}, max_epochs=1)
    trainer.fit(Regression(), loader(4), loader(3))
    assert (trainer.num_training_batches, trainer.num_val_batches) == (1, [3])


def test_what_is_passed_wins_even_if_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_with(monkeypatch, {"MAX_EPOCHS": "3", "MIN_EPOCHS": "2"}, max_epochs=None)
    assert (trainer.max_epochs, trainer.min_epochs) == (1000, 2)
    # It is not even read, so a value that makes no sense does no harm.
    assert trainer_with(monkeypatch, {"MAX_EPOCHS": "many"}, max_epochs=7).max_epochs == 7


def test_a_list_of_names_chooses_registered_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_TRAINER_REGISTERED_CALLBACKS", "no-such-package,neither-this")
    with pytest.raises(MisconfigurationError, match="registered_callbacks names 'no-such-package'"):
        Trainer()
    monkeypatch.setenv("HOOKLOOP_TRAINER_REGISTERED_CALLBACKS", "false")
    assert Trainer().callbacks == []


def test_a_subclass_gets_its_defaults_from_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Trainer):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(max_steps=5, registered_callbacks=False, **arguments)

    monkeypatch.setenv("HOOKLOOP_TRAINER_MAX_EPOCHS", "3")
    monkeypatch.setenv("HOOKLOOP_TRAINER_MAX_STEPS", "9")
    assert (Own().max_epochs, Own().max_steps) == (3, 5)


UNREADABLE = [
    ("MAX_EPOCHS", "many", "is no value for max_epochs. Write a whole number or none, or unset it"),
    ("MAX_EPOCHS", "1.5", "is no value for max_epochs. Write a whole number or none, or unset it"),
    ("MAX_STEPS", "none", "is no value for max_steps. Write a whole number, or unset it"),
    ("LIMIT_TRAIN_BATCHES", "all", "is no value for limit_train_batches. Write a whole number or a number, or unset"),
    ("BAREBONES", "maybe", "is no value for barebones. Write true or false, or unset it"),
    ("FAST_DEV_RUN", "yes", "is no value for fast_dev_run. Write true or false or a whole number, or unset it"),
    ("CALLBACKS", "ModelCheckpoint", "cannot set callbacks, which takes objects. Pass it in the program, and unset"),
]


@pytest.mark.parametrize(("name", "text", "message"), UNREADABLE)
def test_a_value_that_cannot_be_read_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=f"The environment variable {VARIABLE}{name}='{text}' {message}"):
        trainer_with(monkeypatch, {name: text})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("MAX_EPOCHS", "-5", "max_epochs=-5 must be a whole number of at least -1"),
        ("PRECISION", "8", "precision=8 is not known"),
        ("STRATEGY", "ddp", "strategy='ddp' trains on several devices"),
        ("LIMIT_VAL_BATCHES", "1.5", "limit_val_batches=1.5 must be a whole number of batches"),
        ("MAX_TIME", "soon", "max_time='soon' .* is no length of time"),
    ],
)
def test_a_value_that_the_argument_refuses_is_an_error_that_says_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=f"{message}.*This came from the environment: {VARIABLE}{name}"):
        trainer_with(monkeypatch, {name: text})


def test_an_error_about_something_else_does_not_blame_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        trainer_with(monkeypatch, {"MAX_EPOCHS": "3"}, precision="8")
    assert "environment" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("MAX_EPOCH", " Did you mean HOOKLOOP_TRAINER_MAX_EPOCHS?"), ("GPUS", ""), ("XYZZY", "")],
)
def test_a_variable_of_an_unknown_argument_is_an_error_that_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        trainer_with(monkeypatch, {name: "3"})
    assert str(caught.value) == (
        f"The environment variable {VARIABLE}{name}='3' sets an argument that Trainer does not have.{meant} "
        "Correct it or unset it."
    )


def test_factories_see_what_the_environment_gave_as_if_it_was_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bar(Callback):
        family = "progress_bar"

    # The switch refuses the bar, though nobody passed the switch.
    with pytest.raises(MisconfigurationError, match="enable_progress_bar=False, and callbacks holds Bar"):
        trainer_with(monkeypatch, {"ENABLE_PROGRESS_BAR": "false"}, callbacks=[Bar()])
