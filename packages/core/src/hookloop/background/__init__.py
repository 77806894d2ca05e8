"""Writing in the background: a copy of a state (`snapshot`), written by a thread (`writer`)."""

from hookloop.background.writer import BackgroundWriter

__all__ = ["BackgroundWriter"]
