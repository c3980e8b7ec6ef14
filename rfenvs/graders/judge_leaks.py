"""Keep a judge's critique from giving the answer away: sentences that share too much with a secret are masked.

This is a filter, not a proof. It finds copied runs of words, figures and names; a judge that paraphrases the answer in
common words gets through.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

RUN = 4
"""Words in a row, shared with a secret and not with what the policy knows, that make a sentence a quotation."""
_SHORT = 12
"""A secret of at most so many words is an answer rather than a text: each word of weight in it tells."""
_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_WORD = re.compile(r"\d+(?:[.,:/]\d+)*|\w+(?:['’]\w+)*")
_DIGIT = re.compile(r"\d")
_COMMON_WORDS = """
    about above after again against all also although an and another answer any are around as asked at be because been
    before being below best better between both but by can cannot clear clearly correct could criterion did do does
    doing done down each either enough every example explain explains explained explanation false fact few first for
    from full fully further give given gives good had has have how however if in incorrect instead into is it its just
    lack lacks last least less like made make makes many mention mentions missing more most much must name named names
    need needs neither never next no none nor not nothing of off on once one only or other our out over own part per
    place point points question rather reason reference response right same say says second see should show shows since
    so some something state stated states still such sure task than that the their them then there these they third
    this those through to too true two under until up upon use used uses using very was way well were what when where
    whether which while who whole whose why will with within without work would wrong yes yet you your
    """
_COMMON = frozenset(_COMMON_WORDS.split())


class Masked(NamedTuple):
    """A critique that the policy may read."""

    text: str
    """The sentences that are left; empty where none is."""
    leaked: bool
    """Whether any was taken out."""


def mask(
    critique: str, *, answers: Sequence[str] = (), rubric: Sequence[str] = (), known: Iterable[str] = ()
) -> Masked:
    """Take out the sentences of a critique that give a secret away.

    A sentence does where it shares with a secret, and not with what is known: `RUN` words in a row; a figure; a name
    (a word that the secret writes with a capital within a sentence); or, where an answer is at most 12 words long,
    any word of it that is not among the commonest.

    Args:
        critique: What the judge wrote.
        answers: Reference answers.
        rubric: Texts of criteria and levels. A critique speaks about what they speak about, so that the last of the
            four does not apply.
        known: What the policy has seen or written: its prompt and its answer.

    >>> mask("The year is wrong. It was 1989.", answers=["It fell in 1989."], known=["It fell in 1991."])
    Masked(text='The year is wrong.', leaked=True)
    """
    seen = [words(text) for text in known]
    known_runs = {run for content in seen for run in _runs(content)}
    telling: set[str] = set()
    runs: set[tuple[str, ...]] = set()
    for text in (*answers, *rubric):
        runs |= _secret_runs(text)
        telling |= _figures_and_names(text)
    for content in map(words, answers):
        if len(content) <= _SHORT:
            telling |= {word for word in content if word not in _COMMON and (len(word) > 1 or not word.isascii())}
        if 0 < len(content) < RUN:
            runs.add(tuple(content))
            known_runs |= {run for text in seen for run in _runs(text, len(content))}
    runs -= known_runs
    telling -= {word for content in seen for word in content}
    sizes = {len(run) for run in runs}
    kept = []
    for sentence in (sentences := _sentences(critique)):
        content = words(sentence)
        if not (telling & set(content) or any(runs & _runs(content, size) for size in sizes)):
            kept.append(sentence)
    return Masked(" ".join(kept), len(kept) < len(sentences))


def words(text: str) -> list[str]:
    """Words and figures of a text, in lower case and without typographic variants."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _sentences(text: str) -> list[str]:
    return [sentence for part in _BREAK.split(text) if (sentence := part.strip())]


@functools.lru_cache(maxsize=1024)
def _secret_runs(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_runs(words(text)))


def _runs(content: Sequence[str], size: int = RUN) -> set[tuple[str, ...]]:
    return {tuple(content[i : i + size]) for i in range(len(content) - size + 1)}


@functools.lru_cache(maxsize=1024)
def _figures_and_names(text: str) -> frozenset[str]:
    """Words with a digit in them, and words with a capital that do not begin a sentence."""
    found: set[str] = set()
    for sentence in _sentences(text):
        for place, word in enumerate(_WORD.findall(unicodedata.normalize("NFKC", sentence))):
            if _DIGIT.search(word) or (place > 0 and word[0].isupper() and word.casefold() not in _COMMON):
                found.add(word.casefold())
    return frozenset(found)
