"""Texts that a model writes about attempts: marks in one, what sets good ones apart, a skill to keep.

What they are told of attempts is quoted line by line behind "> ", so that an attempt cannot pose as the question. The
wording is ours: the papers' own is not public. A policy never sees what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.batch import Sample
from agents.credit.spans import ERROR_TAGS, KEY_TAGS, Span, numbered, parse_annotation, segments, within
from agents.recipes.tools import Attempt, StepTools, question_of
from agents.teachers.hints import many_turns, without_thinking
from agents.trajectory import Group, Message, Trajectory
from rfenvs.feedback import clip

MARK = """\
{task}

An attempt at this {outcome}. It is quoted here in numbered segments:
{attempt}

Which segments {decided}? Mark as few as possible, the most decisive first, and say of what kind they are.
Kinds: {tags}.
Reply with exactly two lines:
segments: <numbers, such as 4 or 2, 5-6>
tag: <one of the kinds>"""

CONTRAST = """\
{task}

Attempts at this that succeeded:
{good}

Attempts at this that failed:
{bad}

Say in a few short sentences, step by step, what those that succeeded did and the others did not, and where the others
went wrong. Do not copy an attempt."""

SKILL = """\
{task}

An attempt at this {outcome}:
{attempt}

Write one skill for tasks of this kind: one or two general sentences on what to do, or what to avoid, that would help on
another such task, too. Do not mention this task's answer. Reply with the skill alone."""


AGAIN = (
    "There may be a mistake in the answer above. Look at it again, correct it if something is wrong, and give the "
    "whole answer once more."
)


def second_attempts(first: Sequence[Sample], tools: StepTools) -> list[Attempt]:
    """The policy's second answer to each question, judged: it sees its first one, not what that was worth."""
    return tools.attempt(
        [
            (s.group, [*s.messages, {"role": "assistant", "content": s.text}, {"role": "user", "content": AGAIN}])
            for s in first
        ]
    )


def mark_spans(
    samples: Sequence[Sample], tools: StepTools, author: str, share: float, max_tokens: int
) -> list[tuple[str, list[Span]] | None]:
    """For each sample: the kind of its decisive passage, and the tokens, at most ``share`` of its action's.

    None where the reply is unclear, or nothing that it marks fits.
    """
    chat, cuts, asked = tools.chat, [], []
    pieces = {i: chat.decode([i]) for i in {i for sample in samples for i in sample.action_ids}}
    for sample in samples:
        spans = segments([pieces[i] for i in sample.action_ids])
        right = sample.reward >= 1.0
        content = MARK.format(
            task=_task(sample.messages),
            outcome="succeeded" if right else "failed",
            attempt=quoted(numbered([chat.decode(sample.action_ids[a:b]) for a, b in spans])),
            decided="was it decided by" if right else "made it fail",
            tags=", ".join(KEY_TAGS if right else ERROR_TAGS),
        )
        cuts.append(spans)
        asked.append(_ask(content))
    result: list[tuple[str, list[Span]] | None] = []
    replies = tools.ask(asked, who=author, max_tokens=max_tokens, temperature=0.0) if asked else []
    for sample, spans, reply in zip(samples, cuts, replies, strict=True):
        tags = KEY_TAGS if sample.reward >= 1.0 else ERROR_TAGS
        said = parse_annotation(without_thinking(reply.text), len(spans), tags)
        chosen = within([spans[k] for k in said.segments], len(sample.action_ids), share) if said else []
        result.append((said.tag, sorted(chosen)) if said and chosen else None)
    return result


def contrast_notes(
    groups: Mapping[int, Group], tools: StepTools, author: str, max_tokens: int, max_chars: int
) -> dict[int, str]:
    """What sets successes apart from failures, for each group that has both; at most two of each are quoted."""
    asked: dict[int, list[Message]] = {}
    for g, group in groups.items():
        told = [(t.reward >= 1.0, attempt_text(group, t, max_chars)) for t in group.scored() if _own(t)]
        good = [text for right, text in told if right and text][:2]
        bad = [text for right, text in told if not right and text][:2]
        if good and bad:
            asked[g] = _ask(CONTRAST.format(task=question_of(group), good="\n\n".join(good), bad="\n\n".join(bad)))
    replies = tools.ask(list(asked.values()), who=author, max_tokens=max_tokens) if asked else []
    notes = {g: without_thinking(reply.text) for g, reply in zip(asked, replies, strict=True)}
    return {g: text for g, text in notes.items() if text}


def skills(
    attempts: Sequence[tuple[Group, Trajectory]], tools: StepTools, author: str, max_tokens: int, max_chars: int
) -> list[str | None]:
    """One skill from each finished attempt; None where nothing was written."""
    asked = [
        _ask(
            SKILL.format(
                task=question_of(group),
                outcome="succeeded" if attempt.reward >= 1.0 else "failed",
                attempt=attempt_text(group, attempt, max_chars),
            )
        )
        for group, attempt in attempts
    ]
    replies = tools.ask(asked, who=author, max_tokens=max_tokens) if asked else []
    return [" ".join(without_thinking(reply.text).split()) or None for reply in replies]


def attempt_text(group: Group, attempt: Trajectory, max_chars: int) -> str:
    """An attempt, quoted: its answer, or in an episode of many turns actions and replies, each cut to ``max_chars``."""
    lines = []
    for turn in attempt.turns:
        lines.append(quoted(clip(without_thinking(turn.text), max_chars)))
        if many_turns(group) and turn.reply:
            lines.append(quoted(f"({clip(turn.reply, max_chars)})"))
    return "\n".join(lines)


def quoted(text: str) -> str:
    """Every line behind "> ".

    >>> quoted("a\\nb")
    '> a\\n> b'
    """
    return "\n".join(f"> {line}" for line in text.splitlines() or ["(nothing)"])


def _own(attempt: Trajectory) -> bool:
    """Whether the policy alone acted: what an expert did is a reference."""
    return bool(attempt.turns) and all(turn.source == "policy" for turn in attempt.turns)


def _task(messages: Sequence[Message]) -> str:
    return "\n".join(m["content"] for m in messages if m["role"] != "assistant")


def _ask(content: str) -> list[Message]:
    return [{"role": "user", "content": content}]
