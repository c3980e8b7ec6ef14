"""Which part of a reply is the answer, and which is thinking that does not count."""

from __future__ import annotations

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"


def visible_span(text: str) -> tuple[int, int]:
    """The part of a reply that is not thinking, in code points: from the last closing tag to the next opening one.

    The opening tag may be part of the prompt. Where it ends before the reply does, the thinking was never finished.

    >>> visible_span("<think>5?</think> 4")
    (17, 19)
    >>> visible_span("<think>5")
    (0, 0)
    """
    closed = text.rfind(CLOSE_TAG)
    start = 0 if closed < 0 else closed + len(CLOSE_TAG)
    opened = text.find(OPEN_TAG, start)
    return start, len(text) if opened < 0 else opened
