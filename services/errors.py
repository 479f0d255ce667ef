"""Errors that the command line tells in one sentence, whatever of Keepwell is installed."""

from __future__ import annotations


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type or missing; the text names it and the next step."""


class NotInstalled(RuntimeError):
    """A command needs a library that is not installed; the text names both and the next step."""
