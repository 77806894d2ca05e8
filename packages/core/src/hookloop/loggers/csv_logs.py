"""Lightning's users import `CSVLogger` from here."""

from hookloop.loggers.csv import CSVLogger

__all__ = ["CSVLogger"]
