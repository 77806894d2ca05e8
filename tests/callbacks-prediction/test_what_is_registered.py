"""Installing the package changes nothing; environment variables ask for a writer."""

from pathlib import Path

import pytest
import torch

import hookloop.callbacks
import hookloop.callbacks.prediction_writer as face
from hookloop import Trainer
from hookloop.errors import HookloopError
from hookloop_callbacks_prediction import BasePredictionWriter, PredictionWriter, WriteInterval, read_predictions
from predicting import Classifier, Samples, in_batches, plainly

NAMES = ("HOOKLOOP_PREDICTIONS", "HOOKLOOP_PREDICTIONS_FORMAT", "HOOKLOOP_PREDICTIONS_RERUN")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_a_trainer_gets_no_callback_from_it() -> None:
    assert not [one for one in Trainer(logger=False).callbacks if "prediction" in type(one).__module__]


def test_its_names_are_where_users_look_for_them() -> None:
    assert hookloop.callbacks.BasePredictionWriter is BasePredictionWriter
    assert hookloop.callbacks.PredictionWriter is PredictionWriter
    assert face.BasePredictionWriter is BasePredictionWriter
    assert face.WriteInterval is WriteInterval


def test_a_variable_asks_for_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_PREDICTIONS", str(tmp_path / "out"))
    monkeypatch.setenv("HOOKLOOP_PREDICTIONS_FORMAT", "npz")
    monkeypatch.setenv("HOOKLOOP_PREDICTIONS_RERUN", "replace")
    for _ in range(2):
        trainer = Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
        trainer.predict(Classifier(), in_batches(4), return_predictions=False)

    assert list((tmp_path / "out").glob("*.npz"))
    assert torch.equal(read_predictions(tmp_path / "out")["prediction"], plainly(Classifier(), Samples(4))[0])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HOOKLOOP_PREDICTIONS_FORMAT": "npz"}, "HOOKLOOP_PREDICTIONS_FORMAT is set, and HOOKLOOP_PREDICTIONS is not"),
        ({"HOOKLOOP_PREDICTIONS": "out", "HOOKLOOP_PREDICTIONS_FORMAT": "xls"}, "The environment has .*_FORMAT=xls"),
        ({"HOOKLOOP_PREDICTIONS": "out", "HOOKLOOP_PREDICTIONS_RERUN": "yes"}, "The environment has .*_RERUN=yes"),
        ({"HOOKLOOP_PREDICTIONS": "s3://x/y"}, "must be a folder of this machine"),
    ],
)
def test_a_variable_that_is_wrong_is_an_error(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HookloopError, match=message):
        Trainer(logger=False)
