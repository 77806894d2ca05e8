"""`ModelCheckpoint` keeps the contract for callbacks."""

from collections.abc import Callable, Sequence

from hookloop import Callback
from hookloop.testing import CallbackContract
from hookloop_callbacks_checkpoint import ModelCheckpoint


class TestModelCheckpoint(CallbackContract):
    max_calls_per_step = 0
    varying = ("run",)  # drawn anew by each run that is not a resumed one

    def callback(self) -> Callback:
        return ModelCheckpoint(save_last=True)

    def others(self) -> Sequence[Callable[[], Callback]]:
        return [
            lambda: ModelCheckpoint(monitor="wavering"),
            lambda: ModelCheckpoint(monitor="wavering", mode="max"),
            lambda: ModelCheckpoint(save_top_k=-1, filename="{epoch}"),
            lambda: ModelCheckpoint(dirpath="elsewhere"),
        ]


class TestModelCheckpointOfTheBest(CallbackContract):
    max_calls_per_step = 0
    varying = ("run",)  # drawn anew by each run that is not a resumed one

    def callback(self) -> Callback:
        return ModelCheckpoint(monitor="wavering", filename="{epoch}-{wavering:.1f}")
