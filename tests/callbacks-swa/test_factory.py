"""The environment averages an unchanged script, and nothing else does."""

import pytest

from hookloop import TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_swa import EMAWeightAveraging, StochasticWeightAveraging, factory


def test_nothing_is_averaged_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKLOOP_SWA_LRS", raising=False)
    monkeypatch.delenv("HOOKLOOP_EMA_DECAY", raising=False)

    assert factory(TrainerOptions()) == []


def test_each_variable_makes_its_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_EMA_DECAY", "0.9")
    (ema,) = factory(TrainerOptions())
    monkeypatch.delenv("HOOKLOOP_EMA_DECAY")
    monkeypatch.setenv("HOOKLOOP_SWA_LRS", "0.05,0.01")
    (swa,) = factory(TrainerOptions())

    assert isinstance(ema, EMAWeightAveraging)
    assert ema.decay == 0.9
    assert isinstance(swa, StochasticWeightAveraging)
    assert swa.swa_lrs == [0.05, 0.01]


@pytest.mark.parametrize(
    ("name", "value"), [("EMA_DECAY", "2"), ("EMA_DECAY", "much"), ("SWA_LRS", "-1"), ("SWA_LRS", "0.1,,")]
)
def test_a_value_that_is_not_allowed_is_told(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HOOKLOOP_{name}", value)

    with pytest.raises(MisconfigurationError, match=rf"^HOOKLOOP_{name}={value} is not .* Correct it, or unset it"):
        factory(TrainerOptions())


def test_both_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_EMA_DECAY", "0.9")
    monkeypatch.setenv("HOOKLOOP_SWA_LRS", "0.1")

    with pytest.raises(MisconfigurationError, match=r"are set, and a run has one average. Unset one of them"):
        factory(TrainerOptions())
