"""Errors that users catch, where Lightning's users look for them."""

from hookloop.errors import MisconfigurationException, SIGTERMException

__all__ = ["MisconfigurationException", "SIGTERMException"]
