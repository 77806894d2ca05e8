"""How one model lives on its devices. A strategy never gets the trainer."""

from hookloop.strategies.select import select_strategy
from hookloop.strategies.single_device import SingleDeviceStrategy
from hookloop.strategies.strategy import Strategy

__all__ = ["SingleDeviceStrategy", "Strategy", "select_strategy"]
