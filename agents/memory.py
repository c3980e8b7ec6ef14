"""A text memory that grows over training: lessons, skills, solutions; what teachers read and policies never do.

Entries are told apart by their key. Each counts how often it helped and how often it harmed, and when it was
last used, so that what harms goes first and what is stale next. All of it is plain data and goes into checkpoints: a
resumed run remembers the same.

Source: the playbook of RESD (arXiv 2605.12741). Sizes are in tokens of whoever measures, which the caller says.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Size = Callable[[str], int]
"""Tokens of a text."""


@dataclass
class Entry:
    """One text."""

    key: str
    text: str
    helpful: int = 0
    harmful: int = 0
    used: int = 0
    """Step at which it was added, read or tagged last."""


class Memory:
    """At most ``entries`` texts. A text as long as ``longest`` characters or more is cut there."""

    def __init__(self, entries: int, longest: int = 1000) -> None:
        if entries < 1 or longest < 1:
            raise ValueError(f"a memory of entries={entries} with longest={longest} could hold nothing")
        self.limit, self.longest = entries, longest
        self._entries: dict[str, Entry] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def add(self, text: str, step: int, key: str | None = None) -> Entry | None:
        """Keep a text, and evict where there are too many; None where it says nothing new.

        A text that is the same as another but for case, spacing and punctuation is not kept twice. A given ``key``
        replaces what was kept under it; without one the entry gets a key of its own.
        """
        text = text.strip()[: self.longest].rstrip()
        if not text or any(_plain(text) == _plain(e.text) for e in self._entries.values() if e.key != key):
            return None
        if key is None:
            key, self._made = f"m{self._made}", self._made + 1
        old = self._entries.pop(key, None)
        entry = Entry(key, text, *((old.helpful, old.harmful) if old else (0, 0)), used=step)
        self._entries[key] = entry
        self.evict(keep=key)
        return entry

    def get(self, key: str) -> str | None:
        """The text under a key."""
        entry = self._entries.get(key)
        return None if entry is None else entry.text

    def tag(self, key: str, step: int, *, helpful: bool) -> None:
        """Count that an entry helped, or harmed; unknown keys are passed over."""
        if (entry := self._entries.get(key)) is not None:
            entry.used = step
            if helpful:
                entry.helpful += 1
            else:
                entry.harmful += 1

    def prune(self) -> int:
        """Drop what harmed as often as it helped, or more; returns how many went. What was never tagged stays."""
        bad = [e.key for e in self._entries.values() if e.harmful and e.harmful >= e.helpful]
        for key in bad:
            del self._entries[key]
        return len(bad)

    def evict(self, keep: str | None = None) -> None:
        """Drop the stalest entries, the least useful among equals first, until there are few enough."""
        while len(self._entries) > self.limit:
            stale = min(
                (e for e in self._entries.values() if e.key != keep), key=lambda e: (e.used, e.helpful - e.harmful)
            )
            del self._entries[stale.key]

    def render(self, budget: int, size: Size, step: int | None = None) -> str:
        """The entries as lines ``[key] text``, the most helpful first, within ``budget`` tokens; the rest is left out.

        With ``step``, those that are shown count as used then.
        """
        lines: list[str] = []
        for entry in sorted(self._entries.values(), key=lambda e: (e.harmful - e.helpful, -e.used, e.key)):
            if size("\n".join([*lines, f"[{entry.key}] {entry.text}"])) <= budget:
                lines.append(f"[{entry.key}] {entry.text}")
                if step is not None:
                    entry.used = step
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"made": self._made, "entries": [asdict(e) for e in self._entries.values()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._made = int(state["made"])
        self._entries = {e["key"]: Entry(**e) for e in state["entries"]}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def upper_bound(helpful: int, tried: int, total: int, exploration: float) -> float:
    """Upper confidence bound of the share of trials that helped (UCB1); infinite where there was none.

    ``tried`` are the trials of the entry, ``total`` those of all entries.

    >>> upper_bound(1, 2, 1, 1.0)
    0.5
    """
    if not tried:
        return math.inf
    return helpful / tried + exploration * math.sqrt(math.log(max(total, 1)) / tried)


def pick(memory: Memory, askers: Sequence[int], own: Mapping[int, str], exploration: float) -> dict[int, str]:
    """The key of one entry for each asker: that of the largest `upper_bound`, among equals the asker's ``own`` first.

    What one asker was given counts as a trial that did not help for those after it, so that a step spreads. Nobody gets
    anything from an empty memory.
    """
    counts = {e.key: (e.helpful, e.helpful + e.harmful) for e in memory}
    given: Counter[str] = Counter()
    picked: dict[int, str] = {}
    for asker in askers if counts else ():
        total = sum(tried for _, tried in counts.values()) + given.total()
        bounds = {
            key: upper_bound(helpful, tried + given[key], total, exploration)
            for key, (helpful, tried) in sorted(counts.items())
        }
        picked[asker] = max(bounds, key=lambda key: (bounds[key], own.get(asker) == key))
        given[picked[asker]] += 1
    return picked
