"""`ProgressBar`: what all progress bars have in common, and where to begin your own."""

from collections.abc import Collection
from typing import Any, ClassVar, TextIO

from hookloop import Callback, LightningModule, Order
from hookloop.view import TrainerView

_LONGEST_VERSION = 4


class ProgressBar(Callback):
    """Base of progress bars. It draws nothing: override the hooks that you need, and `print` if you hold the screen.

    A run has one progress bar; the registered default steps aside for any callback of this family. Its hooks run after
    the module's, so that `get_metrics` sees what the module logged in the same hook.
    """

    order: ClassVar[Order] = Order.MONITOR
    family: ClassVar[str | None] = "progress_bar"
    conflicts: ClassVar[Collection[str]] = ("progress_bar",)

    # Class attributes, so that subclasses need not call __init__.
    _enabled: bool = True
    _on_rank_zero: bool = True

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Note whether this process is the one that prints."""
        self._on_rank_zero = trainer.is_global_zero

    def enable(self) -> None:
        """Show the bar again, from the next entry point on."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False

    @property
    def is_enabled(self) -> bool:
        """Whether `disable` was not called, or `enable` was called after it. True by default."""
        return self._enabled

    @property
    def is_disabled(self) -> bool:
        """The opposite of `is_enabled`."""
        return not self.is_enabled

    def get_metrics(self, trainer: TrainerView, pl_module: LightningModule) -> dict[str, int | float | str]:
        """What the bar shows beside its counters; override it to show more or less.

        Reading it waits for the device, so bars call it only when they draw.

        Returns:
            `v_num`, the version of the first logger, if it has one (of a text, the last four characters); then
            everything that was logged with `prog_bar=True`, under its name.
        """
        metrics: dict[str, int | float | str] = {}
        version: int | str | None = getattr(trainer.logger, "version", None)
        if version is not None:
            metrics["v_num"] = version[-_LONGEST_VERSION:] if isinstance(version, str) else version
        return metrics | trainer.progress_bar_metrics

    def print(
        self, *args: Any, sep: str | None = " ", end: str | None = "\n", file: TextIO | None = None, flush: bool = False
    ) -> None:
        """Print like the built-in function, on rank zero alone, without tearing the bar.

        Args:
            *args: what to print.
            sep: between them.
            end: after the last one.
            file: where to; None is standard output.
            flush: whether to flush it.
        """
        if self._on_rank_zero:
            print(*args, sep=sep, end=end, file=file, flush=flush)
