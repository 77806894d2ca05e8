"""Enumerations, where Lightning's users look for them."""

from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.gradients import GradClipAlgorithmType

__all__ = ["GradClipAlgorithmType"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
