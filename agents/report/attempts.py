"""Which attempts the page carries, and how it carries them in little space.

A long run writes gigabytes of attempts, a page should stay in the megabytes: attempts are sampled over the
steps, equal texts are stored once, and the detail of tokens has a budget. Whatever is left out is counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.report.metrics import iter_jsonl, parse_row

MAX_ATTEMPTS = 400
MAX_TOKENS = 120_000
"""Tokens with probabilities and alternatives on the whole page."""
MAX_TEXT = 20_000
"""Characters of one text."""


@dataclass(frozen=True, order=True)
class Key:
    """An attempt's place in the run."""

    step: int
    group: int
    attempt: int


@dataclass(frozen=True)
class Entry:
    """What is remembered of an attempt while the file is scanned."""

    offset: int
    reward: float | None
    """None where it was not scored."""
    lengths: tuple[int, ...] = ()
    """Recorded tokens of each turn."""


def index_attempts(path: Path) -> dict[Key, Entry]:
    """Where each attempt lies in ``trajectories.jsonl``, in order; the last row of a repeated key counts."""
    index: dict[Key, Entry] = {}
    for offset, row in iter_jsonl(path):
        lengths = tuple(len(turn.get("tokens") or ()) for turn in row.get("turns", ()))
        reward = row.get("reward") if row.get("scored", True) else None
        index[Key(row["step"], row.get("group", 0), row.get("attempt", 0))] = Entry(offset, reward, lengths)
    return dict(sorted(index.items()))


def choose_attempts(keys: Sequence[Key], limit: int = MAX_ATTEMPTS) -> list[Key]:
    """At most ``limit`` of the sorted keys: the first, the last, and an equal share of every step.

    With more steps than ``limit``, steps are taken at even distances. Within a step the share is made of
    whole groups as far as it goes, starting from another group at each step.
    """
    if len(keys) <= limit:
        return list(keys)
    steps: dict[int, dict[int, list[Key]]] = {}
    for key in keys:
        steps.setdefault(key.step, {}).setdefault(key.group, []).append(key)
    numbers = _evenly(sorted(steps), limit)
    chosen: list[Key] = []
    for position, number in enumerate(numbers):
        share = (position + 1) * limit // len(numbers) - position * limit // len(numbers)
        groups = list(steps[number].values())
        turn = position % len(groups)
        members = [key for group in groups[turn:] + groups[:turn] for key in group]
        if position == len(numbers) - 1:
            members = [key for group in reversed(groups) for key in reversed(group)]
        chosen += members[:share]
    return sorted(chosen)


def _evenly(items: list[int], count: int) -> list[int]:
    if len(items) <= count:
        return items
    if count == 1:
        return items[-1:]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def token_cap(lengths: Sequence[int], budget: int = MAX_TOKENS) -> int:
    """The largest cap on the tokens of one turn under which all turns together stay within ``budget``.

    >>> token_cap([10, 200, 300], budget=110)
    50
    """
    left = budget
    for position, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - position)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)


@dataclass
class Packer:
    """Turns rows into what the page reads, each text kept once in ``texts`` and named by its number."""

    cap: int
    """Tokens with detail in one turn; the rest keeps its text."""
    texts: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def pack(self, row: dict[str, Any], siblings: list[tuple[int, float | None]]) -> dict[str, Any]:
        """One attempt; ``siblings`` are number and reward of every attempt of its group, itself included."""
        names = ("step", "group", "attempt", "task", "reward", "stop_reason")
        packed = {name: row.get(name) for name in names}
        packed["scored"] = row.get("scored", True)
        packed["siblings"] = siblings
        packed["turns"] = [self._turn(turn) for turn in row.get("turns", ())]
        return packed

    def _turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        tokens = turn.get("tokens") or []
        rest = tokens[self.cap :]
        teacher = turn.get("teacher_messages")
        return {
            "messages": self._messages(turn.get("messages") or []),
            "text": self._text(turn.get("text")),
            "source": turn.get("source"),
            "label": turn.get("label"),
            "reason": self._text(turn.get("label_reason")),
            "advice": None if turn.get("advice") is None else self._text(turn["advice"]),
            "reward": turn.get("reward"),
            "finish_reason": turn.get("finish_reason"),
            "feedback": [self._feedback(item) for item in turn.get("feedback") or ()],
            "teacher": None if teacher is None else self._messages(teacher),
            "tokens": [_pack_token(token) for token in tokens[: self.cap]],
            "tail": [len(rest), self._text("".join(token.get("text") or "" for token in rest))],
        }

    def _feedback(self, item: dict[str, Any]) -> dict[str, Any]:
        names = ("kind", "severity", "source", "visibility", "reveals_reference")
        return {name: item.get(name) for name in names} | {"text": self._text(item.get("text"))}

    def _messages(self, messages: list[dict[str, Any]]) -> list[list[Any]]:
        return [[message.get("role", ""), self._text(message.get("content"))] for message in messages]

    def _text(self, value: Any) -> int:
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
        if len(text) > MAX_TEXT:
            text = f"{text[:MAX_TEXT]}\n[{len(text) - MAX_TEXT:,} characters left out of this page]"
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


def load_attempts(path: Path, limit: int = MAX_ATTEMPTS, budget: int = MAX_TOKENS) -> dict[str, Any]:
    """The page's share of ``trajectories.jsonl``: ``{"total": int, "list": [...], "texts": [...]}``.

    The file is read twice, a line at a time: once for its index, once for the chosen attempts.
    """
    index = index_attempts(path)
    chosen = choose_attempts(list(index), limit)
    siblings: dict[tuple[int, int], list[tuple[int, float | None]]] = {}
    for key, entry in index.items():
        siblings.setdefault((key.step, key.group), []).append((key.attempt, entry.reward))
    packer = Packer(token_cap([length for key in chosen for length in index[key].lengths], budget))
    attempts = []
    if chosen:
        with open(path, "rb") as file:
            for key in chosen:
                file.seek(index[key].offset)
                attempts.append(packer.pack(parse_row(file.readline()), siblings[key.step, key.group]))
    return {"total": len(index), "list": attempts, "texts": packer.texts}


def _pack_token(token: dict[str, Any]) -> list[Any]:
    top = [[text, _rounded(teacher), _rounded(student)] for text, teacher, student in token.get("top") or ()]
    numbers = [_rounded(token.get(name)) for name in ("logp", "teacher_logp", "gap")]
    return [token.get("text") or "", *numbers, top]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
