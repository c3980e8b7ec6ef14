"""Errors that a person can act on: each names the setting, its value, and what to do."""

from __future__ import annotations


class SetupError(Exception):
    """A setting, a file or a missing package stops the run before it starts. The CLI prints it without a traceback."""
