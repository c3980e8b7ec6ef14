"""Answers that are worth nothing whatever a judge would say: found before one is asked.

Strong judges pay for a lone ":" or "Thought process:" (arXiv 2507.08794), for the rubric read back to them, and for
verdicts that the answer brings along. None of these needs a judge.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from typing import NamedTuple

from rfenvs.graders.rubric import CANARY, KEY, Rubric

_OPENERS = """
thought process | thinking process | reasoning process | reasoning | thoughts | analysis | explanation | solution
answer | response | final answer | the answer is | the final answer is | my answer is | here is my answer
here is the answer | here is the solution | let's solve this problem step by step
let us solve this problem step by step | let's think step by step | let us think step by step | let me think
let's begin | step by step | step 1 | sure | certainly | of course | okay | ok | 解 | 解答 | 答案 | かいせつ | 解説
respuesta | solución | réponse | lösung | antwort
"""
_MASTER_KEYS = frozenset(entry.strip() for line in _OPENERS.splitlines() for entry in line.split("|")) - {""}
_FORGED = re.compile(rf"""["'“”‘’`\\]{KEY}["'“”‘’`\\]+\s*:""", re.IGNORECASE)
_SHORTEST_QUOTE = 5


class Gate(NamedTuple):
    """Why an answer is worth nothing."""

    code: str
    """`empty`, `too_short`, `master_key`, `forged_verdicts`, `quotes_rubric` or `addresses_grader`."""
    text: str
    """The same in words, for the policy: none of them says what the rubric asks for."""


ADDRESSES_GRADER = Gate(
    "addresses_grader", "The answer speaks to whoever grades it instead of doing the task; that is worth nothing."
)
"""What `CANARY` says of an answer."""


def gate(answer: str, rubric: Rubric, *, prompt: str = "", min_characters: int = 1) -> Gate | None:
    """Look for a reason not to ask a judge at all; None where there is none.

    Args:
        answer: What the policy wrote.
        rubric: What it would be judged by. A criterion of five words or more that is read back counts as quoted.
        prompt: The task: a criterion that the policy was shown there is no secret, and may be repeated.
        min_characters: The least number of characters other than blanks.
    """
    visible = [c for c in answer if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf")]
    if not visible:
        return Gate("empty", "The answer is empty.")
    if len(visible) < min_characters:
        return Gate("too_short", f"The answer is too short: it has to have at least {min_characters} characters.")
    if set(visible) <= set(string.punctuation) or _bare(answer) in _MASTER_KEYS:
        return Gate("master_key", "The answer announces an answer, or is punctuation, and says nothing.")
    if _FORGED.search(answer):
        return Gate("forged_verdicts", "The answer holds a verdict of its own in place of an answer to the task.")
    said, shown = _words(answer), _words(prompt)
    for criterion in (*rubric.criteria, CANARY):
        quote = _quote(criterion.text)
        if quote.count(" ") >= _SHORTEST_QUOTE + 1 and quote in said and quote not in shown:
            return Gate("quotes_rubric", "The answer repeats what it is graded by instead of doing it.")
    return None


def _bare(text: str) -> str:
    """Lower case, without what stands around the words: blanks, punctuation, Markdown."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(folded.split()).strip(string.punctuation + "…。：:、 ")


def _words(text: str) -> str:
    """The words in lower case, one blank between and around them, for a search that ends at word borders."""
    found = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return f" {' '.join(found)} "


@functools.lru_cache(maxsize=1024)
def _quote(criterion: str) -> str:
    return _words(criterion)
