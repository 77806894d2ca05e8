"""Installing the package changes nothing; environment variables ask for what it has."""

import pytest

import hookloop.callbacks
import hookloop.callbacks.batch_size_finder
import hookloop.callbacks.gradient_accumulation_scheduler
import hookloop.callbacks.lr_finder
import hookloop.tuner.tuning
from hookloop import Trainer
from hookloop.errors import HookloopError
from hookloop_callbacks_tuning import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder, Tuner

NAMES = ("HOOKLOOP_ACCUMULATION", "HOOKLOOP_FIND_LR", "HOOKLOOP_FIND_BATCH_SIZE")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_a_trainer_gets_no_callback_from_it() -> None:
    assert not [one for one in Trainer(logger=False).callbacks if "tuning" in type(one).__module__]


def test_its_names_are_where_users_look_for_them() -> None:
    assert hookloop.callbacks.GradientAccumulationScheduler is GradientAccumulationScheduler
    assert hookloop.callbacks.lr_finder.LearningRateFinder is LearningRateFinder
    assert hookloop.callbacks.batch_size_finder.BatchSizeFinder is BatchSizeFinder
    assert hookloop.tuner.tuning.Tuner is Tuner


def test_variables_ask_for_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_ACCUMULATION", "0:2,4:8")
    monkeypatch.setenv("HOOKLOOP_FIND_LR", "valley")
    monkeypatch.setenv("HOOKLOOP_FIND_BATCH_SIZE", "binsearch")
    own = {type(one): one for one in Trainer(logger=False).callbacks}

    assert own[GradientAccumulationScheduler].scheduling == {0: 2, 4: 8}  # type: ignore[attr-defined]
    assert own[LearningRateFinder].method == "valley"  # type: ignore[attr-defined]
    assert own[BatchSizeFinder].mode == "binsearch"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOOKLOOP_ACCUMULATION", "2", r'ACCUMULATION="2" must be factors by epochs, such as "0:1,4:2"\.'),
        ("HOOKLOOP_ACCUMULATION", "0:-2", r'ACCUMULATION="0:-2" must be factors by epochs, such as "0:1,4:2"\.'),
        ("HOOKLOOP_ACCUMULATION", "0:0", "the factors must be whole numbers of at least 1"),
        ("HOOKLOOP_FIND_LR", "yes", "HOOKLOOP_FIND_LR='yes' must be one of 'steepest', 'valley', 'minimum'"),
        ("HOOKLOOP_FIND_BATCH_SIZE", "1", "HOOKLOOP_FIND_BATCH_SIZE='1' must be one of 'power', 'binsearch'"),
    ],
)
def test_a_variable_that_is_wrong_is_an_error(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(HookloopError, match=message):
        Trainer(logger=False)
