"""Callbacks of Acme for hookloop: `SQLiteLog` keeps the numbers of all runs in one file, `Budget` ends runs in time."""

from acme_callbacks.budget import Budget
from acme_callbacks.factory import factory
from acme_callbacks.sqlite_log import SQLiteLog

__all__ = ["Budget", "SQLiteLog", "factory"]
