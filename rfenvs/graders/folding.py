"""Text folded for comparison: one spelling for what looks alike, in time linear in its length."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator

_MOST_MARKS = 30
"""Combining marks kept behind a letter (as in UAX 15's Stream-Safe Text): more make normalisation quadratic."""


def compatible(text: str) -> str:
    """NFKC without invisible format characters; longer runs of combining marks are cut off.

    >>> compatible("ｙｅ\\u200bｓ：")
    'yes:'
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", "".join(_kept(text)))


def fold(text: str) -> str:
    """`compatible`, without regard to case.

    >>> fold("Straße") == fold("STRASSE")
    True
    """
    return compatible(text).casefold()


def _kept(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        kind = _kind(character)
        marks = marks + 1 if kind == "mark" else 0
        if kind != "format" and marks <= _MOST_MARKS:
            yield character


@functools.lru_cache(maxsize=8192)
def _kind(character: str) -> str:
    if unicodedata.category(character) == "Cf":
        return "format"
    return "mark" if unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) else "other"
