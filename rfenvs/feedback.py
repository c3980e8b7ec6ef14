"""Feedback items: what an environment has to say about an action, as plain JSON dicts.

`info["feedback"]` is a list of items, present on every reset and step, empty on success, never empty on
failure. Graders make items with `item`; the environment fills `id` and `turn`. Offsets and lengths count
code points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

Kind = Literal[
    "runtime_error", "compile_error", "timeout", "memory", "wrong_answer", "format_error", "tool_error",
    "invalid_action", "observation", "judge_critique", "hint", "reference", "success", "env_error",
]  # fmt: skip
"""What went wrong, or what the text is."""
Severity = Literal["info", "warning", "error", "fatal"]
"""`info` alone means that nothing is wrong."""
Scope = Literal["span", "turn", "episode"]
"""What the item blames: characters of an action, a whole action, or the whole episode."""
Visibility = Literal["policy", "teacher", "log"]
"""`policy`: also in the observation. `teacher`: privileged, for training only. `log`: for people."""

LeakLevel = Literal[0, 1, 2, 3]
"""How much a text gives away of the reference answer:

| level | tells | for example |
|---|---|---|
| 0 | nothing: what any reader of the task could say without an answer key | "no \\boxed{}", a schema, a traceback |
| 1 | that the answer is wrong, where, or of what kind the right one is | "a set was expected, you gave a number" |
| 2 | how the answer relates to the right one | "too large", "twice the expected value" |
| 3 | the answer, expected outputs or hidden tests themselves | "expected 42" |
"""

Item = dict[str, Any]
"""One feedback item; `FEEDBACK_SCHEMA` is its shape."""

TEXT_LIMIT = 4000
"""Longest text of an item by default, in code points."""

_SEVERITY_RANK: dict[str, int] = {"fatal": 0, "error": 1, "warning": 2, "info": 3}
_VISIBILITY_RANK: dict[str, int] = {name: rank for rank, name in enumerate(get_args(Visibility))}

_PROPERTIES: dict[str, Any] = {
    "id": {"type": "string", "description": "Deterministic, such as 't2.f0': turn 2, first item."},
    "kind": {"enum": list(get_args(Kind))},
    "severity": {"enum": list(get_args(Severity))},
    "source": {
        "type": "string",
        "pattern": r"^(sandbox|grader|env|judge:.+|tool:.+)$",
        "description": "Who speaks: sandbox, grader, env, judge:<name> or tool:<name>.",
    },
    "text": {"type": "string", "description": "Exactly the string to be tokenised, redacted and clipped."},
    "clipped": {"type": "boolean"},
    "full_length": {"type": "integer", "minimum": 0, "description": "Code points before clipping."},
    "turn": {"type": "integer", "minimum": -1, "description": "The action blamed, from 0; -1: the episode."},
    "scope": {"enum": list(get_args(Scope))},
    "span": {
        "type": ["array", "null"],
        "items": {"type": "integer", "minimum": 0},
        "minItems": 2,
        "maxItems": 2,
        "description": "[start, end) in code points of the blamed action's text.",
    },
    "visibility": {"enum": list(get_args(Visibility))},
    "reveals_reference": {
        "type": "boolean",
        "description": "Quotes the reference answer, expected outputs or hidden tests: leak level 3.",
    },
    "leak_level": {"enum": list(get_args(LeakLevel)), "description": "0 nothing, 1 kind, 2 relation, 3 the answer."},
    "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "data": {"type": "object", "description": "Structured payload; its keys depend on the environment."},
    "token_ids": {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0}},
    "tokenizer": {"type": ["string", "null"]},
}

FEEDBACK_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "rfenvs feedback item",
    "type": "object",
    "properties": _PROPERTIES,
    "required": list(_PROPERTIES),
    "additionalProperties": False,
}
"""JSON schema of one item of `info["feedback"]`; also in the file `feedback.schema.json` of the package."""


def clip(text: str, limit: int) -> str:
    """Shorten `text` to at most `limit` code points, keeping its head and tail around a marker.

    >>> clip("abcdefghij" * 10, 50)
    'abcdefghij [... 79 characters cut ...] jabcdefghij'
    """
    if len(text) <= limit:
        return text
    marker = f" [... {len(text) - limit + 28} characters cut ...] "
    room = limit - len(marker)
    if room < 2:
        return text[: max(limit, 0)]
    head = room // 2
    cut = len(text) - room
    return f"{text[:head]} [... {cut} characters cut ...] {text[len(text) - (room - head) :]}"


def item(
    kind: Kind,
    text: str,
    *,
    severity: Severity = "error",
    source: str = "grader",
    scope: Scope | None = None,
    span: tuple[int, int] | None = None,
    turn: int | None = None,
    visibility: Visibility = "policy",
    leak_level: LeakLevel | None = None,
    reveals_reference: bool = False,
    score: float | None = None,
    data: Mapping[str, Any] | None = None,
    limit: int = TEXT_LIMIT,
) -> Item:
    """Make one feedback item.

    Args:
        kind: What the item is about.
        text: The words, deterministic: no paths, addresses, timings or identifiers of processes.
        severity: How bad it is; an action that succeeded gets `info` items at most.
        source: `grader`, `env`, `sandbox`, `judge:<name>` or `tool:<name>`.
        scope: What is blamed; by default `span` where a span is given, else `turn`.
        span: Start and end of the blamed characters in the action, in code points.
        turn: The action blamed, from 0, or -1 for the episode; None lets the environment fill in the current one.
        visibility: Who may see it. `policy` items become part of the next observation.
        leak_level: How much it gives away (`LeakLevel`). By default 3 where it reveals the reference, 1 for a
            `wrong_answer`, and 0 otherwise.
        reveals_reference: True where the text or data quotes the reference answer or hidden tests; the same as
            `leak_level=3`.
        score: Optional local score in [0, 1].
        data: Structured payload, JSON only.
        limit: Longest text, in code points; a longer one is cut in the middle.

    Raises:
        ValueError: An item that reveals the reference would be shown to the acting policy.
    """
    if leak_level is None:
        leak_level = 3 if reveals_reference else 1 if kind == "wrong_answer" else 0
    elif reveals_reference and leak_level < 3:
        raise ValueError(f"An item that reveals the reference has leak_level=3, not {leak_level}.")
    if leak_level >= 3 and visibility == "policy":
        raise ValueError("An item that reveals the reference cannot have visibility='policy'; use 'teacher'.")
    shown = text if len(text) <= limit else clip(text, limit)
    return {
        "id": "",
        "kind": kind,
        "severity": severity,
        "source": source,
        "text": shown,
        "clipped": shown is not text,
        "full_length": len(text),
        "turn": turn,
        "scope": scope or ("turn" if span is None else "span"),
        "span": None if span is None else [span[0], span[1]],
        "visibility": visibility,
        "reveals_reference": leak_level >= 3,
        "leak_level": leak_level,
        "score": score,
        "data": {} if data is None else dict(data),
        "token_ids": None,
        "tokenizer": None,
    }


def stamp(items: Iterable[Item], turn: int) -> list[Item]:
    """Copy items into their final order (severity, then as given) and fill in `id` and `turn`."""
    ordered = sorted(items, key=_severity_rank)
    stamped = []
    for number, entry in enumerate(ordered):
        copy = dict(entry)
        if copy["turn"] is None:
            copy["turn"] = turn
        copy["id"] = f"t{turn}.f{number}"
        stamped.append(copy)
    return stamped


def _severity_rank(entry: Item) -> int:
    return _SEVERITY_RANK[entry["severity"]]


def visible(items: Iterable[Item], visibility: Visibility) -> list[Item]:
    """Keep the items that a reader of the given rank may see: policy < teacher < log."""
    rank = _VISIBILITY_RANK[visibility]
    return [entry for entry in items if _VISIBILITY_RANK[entry["visibility"]] <= rank]


def feedback_text(
    info: Mapping[str, Any],
    visibility: Visibility = "teacher",
    budget: int | None = None,
    *,
    reference: bool = True,
) -> str:
    """Join an info's feedback into one string; the empty string means that there is nothing to say.

    Args:
        info: What `reset` or `step` returned.
        visibility: The reader. `"teacher"` sees policy and teacher items, `"log"` sees all.
        budget: Longest result, in code points. Items that do not fit are dropped whole, the last ones first;
            where not even the first fits, it is cut.
        reference: False leaves out items that reveal the reference answer.

    Items of severity `info` are left out unless something worse is said too: an attempt without fault has
    nothing to learn from, and learners take any text as a reason to try again.
    """
    if visibility not in _VISIBILITY_RANK:
        raise ValueError(f"visibility={visibility!r}: use one of {', '.join(_VISIBILITY_RANK)}.")
    items = [e for e in visible(info["feedback"], visibility) if reference or not e["reveals_reference"]]
    if all(entry["severity"] == "info" for entry in items):
        return ""
    texts = [entry["text"] for entry in items]
    if budget is None:
        return "\n".join(texts)
    while len(texts) > 1 and sum(map(len, texts)) + len(texts) - 1 > budget:
        texts.pop()
    return clip("\n".join(texts), budget)
