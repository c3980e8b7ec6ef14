"""Other graders' rules for math answers, written anew from what is known of them; and how a bare answer is taken out.

None of this is their code. What each does was read from descriptions and from its behaviour; `Rule.note` says what.
"""

from __future__ import annotations

import re

_ENVIRONMENTS = (
    re.compile(r"\$\$(.+?)\$\$", re.S),
    re.compile(r"\\\[(.+?)\\\]", re.S),
    re.compile(r"\\\((.+?)\\\)", re.S),
    re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$", re.S),
)


def boxes(text: str) -> list[str]:
    """Contents of every balanced `\\boxed{...}`, in order."""
    found = []
    for match in re.finditer(r"\\f?boxed\s*\{", text):
        depth, start = 1, match.end()
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0) if text[position - 1] != "\\" else 0
            if depth == 0:
                found.append(text[start:position])
                break
    return found


_LINKS = re.compile(r"(?:\s|[,.;$]|\\\(|\\\)|\\\[|\\\]|\\quad|\\text\{[^{}]*\}|and|or)*")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MAY_STAND = re.compile(r"percent(?:age)?|pct|and|or|miles|(?:the )?(?:final )?answer(?: is)?", re.I)


def stripped(text: str) -> str | None:
    """The bare answer within a text: its last box, else its formulas; None where it would have to be looked for in prose.

    Boxes with nothing but commas or "and" between them are one answer.
    """
    found = boxes(text)
    if found:
        pieces = re.split("|".join(re.escape(f"\\boxed{{{box}}}") for box in found), text)
        first = len(found) - 1
        while first > 0 and _LINKS.fullmatch(pieces[first]):
            first -= 1
        return ", ".join(found[first:]) + _unit(pieces[-1])
    for environment in _ENVIRONMENTS:
        formulas = environment.findall(text)
        outside = _MAY_STAND.sub("", environment.sub(" ", text))
        if not formulas:
            continue
        if _WORD.search(outside) and (len(formulas) > 1 or re.search(r"\d", outside)):
            return None
        return ", ".join(formula.strip() for formula in formulas) + _unit(environment.split(text)[-1])
    return None if _WORD.search(_MAY_STAND.sub("", re.sub(r"\\text\{[^{}]*\}", "", text))) else text.strip()


def _unit(after: str) -> str:
    unit = re.match(r"\s*\$?\s*(%|percent(?:age)?|pct|miles)", after)
    return f" {unit[1]}" if unit else ""
