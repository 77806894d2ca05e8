"""Installing the package changes nothing; a Trainer gets what its arguments ask for, and nothing else."""

import pytest

import hookloop.callbacks.device_stats_monitor
import hookloop.callbacks.timer
from hookloop import Trainer
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_monitoring import DeviceStatsMonitor, EarlyStopping, Interval, LearningRateMonitor, Timer


def test_a_trainer_gets_no_callback_from_it() -> None:
    assert not [one for one in Trainer(logger=False).callbacks if "monitoring" in type(one).__module__]


def test_its_classes_are_at_hookloop_callbacks() -> None:
    assert hookloop.callbacks.DeviceStatsMonitor is DeviceStatsMonitor
    assert hookloop.callbacks.device_stats_monitor.DeviceStatsMonitor is DeviceStatsMonitor
    assert hookloop.callbacks.EarlyStopping is EarlyStopping
    assert hookloop.callbacks.LearningRateMonitor is LearningRateMonitor
    assert hookloop.callbacks.Timer is Timer
    assert hookloop.callbacks.timer.Interval is Interval


def test_max_time_has_a_timer_added_and_nothing_else() -> None:
    trainer = Trainer(max_time="00:01:00:00", logger=False)
    assert [type(one) for one in trainer.callbacks if "monitoring" in type(one).__module__] == [Timer]


def test_max_time_needs_it_to_be_switched_on() -> None:
    with pytest.raises(MisconfigurationError, match=r"callback of family 'timer'.* Switched off by registered_callb"):
        Trainer(max_time="00:01:00:00", registered_callbacks=False)


def added(trainer: Trainer) -> list[object]:
    return [one for one in trainer.callbacks if "monitoring" in type(one).__module__]


def test_an_environment_variable_adds_a_monitor_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_DEVICE_STATS", "1")
    assert [type(one) for one in added(Trainer(logger=False))] == [DeviceStatsMonitor]
    own = DeviceStatsMonitor(filter_keys="all")
    assert added(Trainer(logger=False, callbacks=[own])) == [own], "it steps aside for one that was passed"
    assert added(Trainer(logger=False, registered_callbacks=False)) == []


@pytest.mark.parametrize("value", ["", "0"])
def test_the_variable_can_say_no(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_DEVICE_STATS", value)
    assert added(Trainer(logger=False)) == []


def test_the_variable_is_one_or_nought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_DEVICE_STATS", "please")
    with pytest.raises(MisconfigurationError, match=r"HOOKLOOP_DEVICE_STATS=please must be 1, .* or 0\."):
        Trainer(logger=False)
