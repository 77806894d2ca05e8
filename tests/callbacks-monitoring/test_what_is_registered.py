"""Installing the package changes nothing, and what it does not have yet is asked for in vain, with a reason."""

import pytest

import hookloop.callbacks
from hookloop import Trainer
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_monitoring import EarlyStopping, LearningRateMonitor


def test_a_trainer_gets_no_callback_from_it() -> None:
    assert not [one for one in Trainer(logger=False).callbacks if "monitoring" in type(one).__module__]


def test_its_classes_are_at_hookloop_callbacks() -> None:
    assert hookloop.callbacks.EarlyStopping is EarlyStopping
    assert hookloop.callbacks.LearningRateMonitor is LearningRateMonitor


def test_max_time_needs_a_timer_which_it_does_not_have_yet() -> None:
    with pytest.raises(MisconfigurationError, match=r"callback of family 'timer'.* Pass one in callbacks, or drop max"):
        Trainer(max_time="00:01:00:00")
    with pytest.raises(ImportError, match=r"^Timer is in hookloop-callbacks-monitoring, which is .* too old"):
        hookloop.callbacks.Timer  # noqa: B018
