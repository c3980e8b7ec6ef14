"""What the teacher may see: the policy's prompt, rewritten to hold privileged information.

Source: SDPO (arXiv 2601.20802), teacher prompt construction. The paper's wording is ``wording="paper"``; the
others are ours, because a small model does not understand it (see docs/experiments.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

import rfenvs
from agents.batch import Sample
from agents.chat import Chat
from agents.trajectory import Group, Message

SOURCES = ("sibling", "expected", "feedback")


class Context(BaseModel):
    """Which information reaches the teacher, and in which words."""

    model_config = ConfigDict(extra="forbid")

    sources: list[str] = Field(
        ["sibling", "feedback"],
        description="fallback chain; each entry is 'sibling' (another attempt that succeeded), 'expected' (the "
        "reference that revealing feedback states), 'feedback' (what the environment said), or several joined by '+'",
    )
    wording: Literal["paper", "turn", "inline"] = Field(
        "paper",
        description="'paper': SDPO's reprompt; 'turn': the demonstration as an earlier question-and-answer turn; "
        "'inline': in brackets behind the question",
    )
    allow_reference: bool = Field(False, description="let feedback that reveals the reference reach the teacher")
    max_tokens: int = Field(
        8192, ge=1, description="longest demonstration or feedback; more is cut, the question never"
    )

    @field_validator("sources")
    @classmethod
    def _known(cls, sources: list[str]) -> list[str]:
        for entry in sources:
            for part in entry.split("+"):
                if part not in SOURCES:
                    raise ValueError(f"unknown source {part!r}; there are {', '.join(SOURCES)}")
        return sources

    @property
    def reveals(self) -> bool:
        """Whether some source only exists where references are revealed."""
        return any("expected" in entry.split("+") for entry in self.sources)


def add_contexts(
    context: Context, samples: Sequence[Sample], groups: Sequence[Group], chat: Chat, limit: int, seed: str
) -> int:
    """Fill `Sample.teacher_messages` and `Sample.teacher_ids` in place.

    A sample stays untaught where no source has anything to say, or where the teacher's prompt and the action
    would exceed ``limit`` tokens; the number of the latter is returned.
    """
    overlong = 0
    expected = _expected_by_group(samples) if context.allow_reference else {}
    for sample in samples:
        demonstration, feedback = _first_available(context, sample, groups, expected, seed)
        if demonstration is None and feedback is None:
            continue
        demonstration, feedback = (_clip(chat, text, context.max_tokens) for text in (demonstration, feedback))
        messages = reworded(context.wording, sample.messages, demonstration, feedback)
        ids = chat.encode(messages)
        if len(ids) + len(sample.action_ids) > limit:
            overlong += 1
            continue
        sample.teacher_messages, sample.teacher_ids = messages, ids
    return overlong


def reworded(
    wording: str, messages: Sequence[Message], demonstration: str | None, feedback: str | None
) -> list[Message]:
    """The conversation with the privileged information worked into its last message.

    The student's own attempt is never shown: it is the thing being scored.
    """
    *before, last = messages
    question = last["content"]

    def ask(content: str) -> Message:
        return {"role": last["role"], "content": content}

    if wording == "paper":
        solution = f"\nCorrect solution:\n\n{demonstration}\n" if demonstration else ""
        said = (
            f"\nThe following is feedback from your unsuccessful earlier attempt:\n\n{feedback}\n" if feedback else ""
        )
        return [*before, ask(f"{question}{solution}{said}\n\nCorrectly solve the original question.")]
    noted = f"{question}\n\n(Feedback on an earlier attempt: {feedback})" if feedback else question
    if not demonstration:
        return [*before, ask(noted)]
    if wording == "inline":
        return [*before, ask(f"{noted} (answer: {demonstration})")]
    return [*before, ask(question), {"role": "assistant", "content": demonstration}, ask(noted)]


def _first_available(
    context: Context, sample: Sample, groups: Sequence[Group], expected: dict[tuple[int, int], str], seed: str
) -> tuple[str | None, str | None]:
    for entry in context.sources:
        demonstration = feedback = None
        for source in entry.split("+"):
            if source == "sibling":
                demonstration = _sibling(sample, groups[sample.group], seed)
            elif source == "expected":
                demonstration = demonstration or expected.get((sample.group, sample.turn))
            else:
                feedback = _feedback(sample, context.allow_reference)
        if demonstration or feedback:
            return demonstration, feedback
    return None, None


def _sibling(sample: Sample, group: Group, seed: str) -> str | None:
    """A random other success of the group, the same one for every sample that may see it.

    Random, never the shortest: choosing by length makes answers shrink. One for all: equal teacher prompts
    are forwarded once.
    """
    good = [a for a, t in enumerate(group.trajectories) if t.scored and t.turns and t.reward >= 1.0]
    random.Random(f"{seed}:{sample.group}").shuffle(good)
    for attempt in good:
        if attempt != sample.attempt:
            return without_thinking(group.trajectories[attempt].turns[-1].text) or None
    return None


def _expected_by_group(samples: Sequence[Sample]) -> dict[tuple[int, int], str]:
    """The reference that some failed attempt's feedback states, for all attempts at that task."""
    found: dict[tuple[int, int], str] = {}
    for sample in samples:
        if answer := expected_answer(sample.feedback):
            found.setdefault((sample.group, sample.turn), answer)
    return found


def expected_answer(feedback: Sequence[dict[str, object]]) -> str | None:
    """``data["expected"]`` of the first item that reveals the reference."""
    for item in feedback:
        data = item.get("data")
        if item.get("reveals_reference") and isinstance(data, dict) and isinstance(data.get("expected"), str):
            return str(data["expected"])
    return None


def _feedback(sample: Sample, allow_reference: bool) -> str | None:
    items = [f for f in sample.feedback if allow_reference or not f.get("reveals_reference")]
    return rfenvs.feedback_text({"feedback": items}, visibility="teacher") or None


def without_thinking(text: str) -> str:
    """``text`` without its ``<think>`` blocks; one that was never closed goes to the end."""
    return re.sub(r"<think>.*?(</think>\s*|\Z)", "", text, flags=re.DOTALL).strip()


def _clip(chat: Chat, text: str | None, max_tokens: int) -> str | None:
    if text is None or len(text) <= max_tokens:  # a token is at least one character here
        return text
    ids = chat.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return text if len(ids) <= max_tokens else chat.decode(ids[:max_tokens])
