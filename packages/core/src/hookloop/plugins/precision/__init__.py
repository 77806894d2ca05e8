"""How numbers are represented, as objects for `Trainer(plugins=...)`."""

from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision

__all__ = ["DoublePrecision", "HalfPrecision", "MixedPrecision", "Precision"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
