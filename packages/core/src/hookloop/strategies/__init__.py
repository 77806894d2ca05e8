"""How one model lives on its devices. A strategy never gets the trainer."""

from typing import TYPE_CHECKING

from hookloop.strategies.select import select_strategy
from hookloop.strategies.single_device import SingleDeviceStrategy
from hookloop.strategies.strategy import Strategy

__all__ = ["SingleDeviceStrategy", "Strategy", "select_strategy"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        from hookloop.absent import absent  # not by every import

        raise absent(__name__, name)
