"""Shared parameters, where Lightning's users look for them."""

from hookloop.tied_parameters import find_shared_parameters, set_shared_parameters

__all__ = ["find_shared_parameters", "set_shared_parameters"]
