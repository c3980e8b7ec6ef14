"""Decisive passages of an attempt: numbered segments, an annotator's reply about them, and the tokens it marks.

    segments(pieces)                what can be marked: runs of tokens that end with a line or a sentence
    numbered(texts)                 how an annotator is shown them
    parse_annotation(reply, ...)    what it marked, and one tag out of a closed list; nothing where the reply is unclear
    within(spans, total, share)     as much of it as the coverage allows

A segment is a run of tokens by construction, so that a mark never cuts a token and positions need no re-encoding. Tags
are of a closed list, so that what a teacher is told of an attempt cannot quote it. Source: TRACE (arXiv 2605.10194);
lists, form and parser are our reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

KEY_TAGS = (
    "case split", "decisive computation", "key insight", "plan", "reading of the question", "right choice",
    "verification",
)  # fmt: skip
"""Kinds of passage that a correct attempt may owe its success to."""
ERROR_TAGS = (
    "invalid step", "missed case", "misread question", "wrong choice", "wrong computation", "wrong format",
    "wrong plan",
)  # fmt: skip
"""Kinds of passage that a wrong attempt may fail by."""

Span = tuple[int, int]
"""Tokens from the first up to but without the second."""

_MARKS = re.compile(r"\d+(?: *- *\d+)?(?: *, *\d+(?: *- *\d+)?)*", re.ASCII)


@dataclass(frozen=True)
class Annotation:
    """What an annotator says of an attempt."""

    segments: tuple[int, ...]
    """Marked segments, from 0, the most decisive first, each once; never empty."""
    tag: str


def segments(pieces: Sequence[str], longest: int = 48) -> list[Span]:
    """Cut an attempt, given token by token as text, behind line ends and sentences, and after ``longest`` tokens.

    The spans are a partition of the tokens, in order. What is blank, such as a stop token, goes with what is before it.

    >>> segments(["2", "+2", " is", " 4.", " So", "\\n", "4"])
    [(0, 4), (4, 6), (6, 7)]
    """
    if longest < 1:
        raise ValueError(f"longest={longest} must be at least 1")
    spans: list[Span] = []
    start = 0
    for end, piece in enumerate(pieces, 1):
        if spans and start == end - 1 and not piece.strip():
            spans[-1], start = (spans[-1][0], end), end
        elif "\n" in piece or piece.rstrip().endswith((".", "!", "?", ";")) or end - start >= longest:
            spans.append((start, end))
            start = end
    return [*spans, (start, len(pieces))] if start < len(pieces) else spans


def numbered(texts: Sequence[str]) -> str:
    """Segments as an annotator sees them: ``[1] ...`` line by line."""
    return "\n".join(f"[{k}] {' '.join(text.split())}" for k, text in enumerate(texts, 1))


def parse_annotation(reply: str, count: int, tags: Sequence[str]) -> Annotation | None:
    """The last ``segments:`` line and the last ``tag:`` line of a reply, in any case; None where anything is unclear.

    Unclear are: either line missing, a number outside 1 to ``count``, a range that runs backwards, a tag that is not
    one of ``tags``, any other text on the lines.

    >>> parse_annotation("Segments: 3, 1-2\\nTag: missed case", 4, ERROR_TAGS)
    Annotation(segments=(2, 0, 1), tag='missed case')
    >>> parse_annotation("segments: 9\\ntag: missed case", 4, ERROR_TAGS) is None
    True
    """
    marks, tag = _last(reply, "segments"), _last(reply, "tag")
    if marks is None or tag is None or not _MARKS.fullmatch(marks):
        return None
    tag = tag.rstrip(".").lower()
    if tag not in tags:
        return None
    chosen: dict[int, None] = {}
    for part in marks.split(","):
        first, _, last = (x.strip() for x in part.partition("-"))
        # Compared as digits first: a reply may hold numbers of any length.
        if max(len(first), len(last)) > len(str(count)) + 1:
            return None
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= count:
            return None
        chosen.update(dict.fromkeys(range(low - 1, high)))
    return Annotation(tuple(chosen), tag)


def within(spans: Sequence[Span], total: int, share: float) -> list[Span]:
    """The spans, in the order given, as long as they together cover at most ``share`` of ``total`` tokens.

    One that does not fit is left out, and later ones are still tried.
    """
    kept, used = [], 0
    for start, end in spans:
        if used + end - start <= share * total:
            kept.append((start, end))
            used += end - start
    return kept


def _last(reply: str, name: str) -> str | None:
    found = re.findall(rf"^[ \t*]*{name}[ \t*]*:[ \t*]*(.*?)[ \t*]*$", reply, re.IGNORECASE | re.MULTILINE)
    return found[-1].strip() if found else None
