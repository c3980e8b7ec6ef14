"""What the teacher may see: the policy's prompt, rewritten to hold privileged information.

Source: SDPO (arXiv 2601.20802). What there is to say is found by `agents.teachers.hints`, how it is said is
`agents.teachers.wording`; here it becomes ids. After the first turn these are a branch on the policy's own history:

    student   prompt_ids = history + bridge(observation)
    teacher   teacher_ids = history + bridge(observation, with the hint)       placement "turn"
              first prompt with the hint + history after the first prompt      placement "head"

History, sampled ids included, is never encoded again: the teacher scores what the policy saw, and what the turns of
an episode share is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agents.batch import MAIN, Sample, View
from agents.chat import Chat
from agents.errors import SetupError
from agents.teachers.hints import (
    NOTES,
    Given,
    Hint,
    Sources,
    expected_answer,
    many_turns,
    turn_of,
    without_thinking,
)
from agents.teachers.wording import EPISODE, QUESTION, TURN, reworded
from agents.trajectory import Group, Message, Trajectory

__all__ = ["Context", "Hint", "add_contexts", "expected_answer", "reworded", "without_thinking"]

SOURCES = ("sibling", "failure", "expected", "reference", "plan", "rest", "feedback", *NOTES, "none")
REVEALING = ("expected", "reference", "plan")
"""Sources that exist only where references may be revealed."""
_OF_THE_EPISODE = tuple(source for source in SOURCES if source not in ("expected", "rest"))


class Context(BaseModel):
    """Which information reaches the teacher, and in which words."""

    model_config = ConfigDict(extra="forbid")

    sources: list[str] = Field(
        ["sibling", "feedback"],
        description="fallback chain; each entry is 'sibling' (another attempt that succeeded), 'failure' (one that "
        "failed), 'expected' (the reference that revealing feedback states), 'reference' (the environment's own right "
        "answer), 'plan' (the expert's actions from here), 'rest' (what came after "
        "this turn, and how the episode ended), 'feedback' (what the environment said of this turn), a text that the "
        "recipe makes ('critique', 'playbook', ...), several of these joined by '+', or 'none' (the policy's own "
        "prompt, unchanged)",
    )
    wording: Literal["paper", "turn", "inline"] = Field(
        "paper",
        description="'paper': SDPO's reprompt; 'turn': the demonstration as an earlier question-and-answer turn; "
        "'inline': in brackets behind the question",
    )
    placement: Literal["turn", "head"] = Field(
        "turn",
        description="'turn': a hint of its own in the newest message of every turn; 'head': one hint for the whole "
        "episode, in its first message",
    )
    allow_reference: bool = Field(False, description="let what reveals the reference reach the teacher")
    max_tokens: int = Field(
        8192, ge=1, description="longest demonstration or feedback; more is cut, the question never"
    )
    max_observation: int = Field(500, ge=1, description="characters of one observation or action in a transcript")

    @field_validator("sources")
    @classmethod
    def _known(cls, sources: list[str]) -> list[str]:
        for entry in sources:
            parts = entry.split("+")
            for part in parts:
                if part not in SOURCES:
                    raise ValueError(f"unknown source {part!r}; there are {', '.join(SOURCES)}")
            if "none" in parts and len(parts) > 1:
                raise ValueError(f"{entry!r}: 'none' is the unchanged prompt and cannot be joined with another source")
        return sources

    @model_validator(mode="after")
    def _placed(self) -> Context:
        if self.placement == "head":
            for part in self.parts:
                if part not in _OF_THE_EPISODE:
                    raise ValueError(
                        f"placement='head' has one hint for all turns, but the source {part!r} is of a single turn; "
                        f"use placement='turn', or sources among {', '.join(_OF_THE_EPISODE)}"
                    )
        return self

    @property
    def parts(self) -> list[str]:
        """Every source that is named, in order."""
        return [part for entry in self.sources for part in entry.split("+")]

    @property
    def reveals(self) -> bool:
        """Whether some source only exists where references are revealed."""
        return any(part in REVEALING for part in self.parts)


def add_contexts(
    context: Context,
    samples: Sequence[Sample],
    groups: Sequence[Group],
    chat: Chat,
    limit: int,
    seed: str,
    *,
    stream: str = MAIN,
    given: Given | None = None,
    prompts: Sequence[Sample | None] | None = None,
) -> int:
    """Let the teacher of a stream see something (`Sample.show`), in place.

    ``given`` are the texts of sources that only the recipe has, one for each sample, None where there is none.
    ``prompts`` are the samples whose prompts the hints are worked into, one for each, where not its own
    (`agents.teachers.contrasts`), None where there is none. A sample
    stays untaught where no source has anything to say, or where the teacher's prompt and the action would exceed
    ``limit`` tokens; the number of the latter is returned.
    """
    overlong = 0
    if "plan" in context.parts:
        _require_plans(groups)
    sources = Sources.of(samples, groups, context.allow_reference, context.max_observation, seed, given)
    for sample, asked in zip(samples, samples if prompts is None else prompts, strict=True):
        hint = _first_available(context, sample, sources)
        if hint is None or asked is None:
            continue
        messages, ids = _prompt(context, asked, groups, chat, hint, many_turns(groups[sample.group]))
        if len(ids) + len(sample.action_ids) > limit:
            overlong += 1
            continue
        sample.show(stream, View(messages, ids))
    return overlong


def _first_available(context: Context, sample: Sample, sources: Sources) -> Hint | None:
    """The hint of the first entry that has one; an empty hint is the unchanged prompt."""
    find = sources.turn if context.placement == "turn" else sources.episode
    for entry in context.sources:
        if entry == "none":
            return Hint()
        if hint := find(entry.split("+"), sample):
            return hint
    return None


def _prompt(
    context: Context, sample: Sample, groups: Sequence[Group], chat: Chat, hint: Hint, many: bool
) -> tuple[list[Message], list[int]]:
    """The teacher's conversation, and its ids; ``many``: the hint is about an episode of many turns."""
    if not hint:
        return sample.messages, sample.prompt_ids
    hint = hint.clipped(lambda text: _clip(chat, text, context.max_tokens))
    trajectory = groups[sample.group].trajectories[sample.attempt]
    if context.placement == "head" and many:
        opening = trajectory.turns[0]
        head = reworded(context.wording, opening.messages, hint, EPISODE)
        after = _after_opening(sample, trajectory)
        return [*head, *sample.messages[len(opening.messages) :]], chat.encode(head) + after
    messages = reworded(context.wording, sample.messages, hint, TURN if many else QUESTION)
    turn = turn_of(sample, groups)
    if turn.stem and sample.prompt_ids == turn.prompt_ids:
        history = turn.prompt_ids[: turn.stem]
        newest = messages[len(turn.messages) - turn.new_messages :]
        return messages, history + chat.bridge(newest, history[-1])
    return messages, chat.encode(messages)


def _after_opening(sample: Sample, trajectory: Trajectory) -> list[int]:
    """What the policy's prompt holds after the first prompt of the episode."""
    opening = trajectory.turns[0].prompt_ids
    if sample.prompt_ids[: len(opening)] != opening or not all(t.prefix for t in trajectory.turns[1 : sample.turn + 1]):
        raise SetupError(
            "recipe.context.placement='head' needs episodes that are one row of tokens, but a row started anew: its "
            "history was rewritten. Use recipe.context.placement='turn', or keep whole histories (rollout.history, "
            "rollout.thinking)"
        )
    return sample.prompt_ids[len(opening) :]


def _require_plans(groups: Sequence[Group]) -> None:
    """Refuse groups of which no episode began with a plan: the environment tells none."""
    first = [t.turns[0] for group in groups for t in group.trajectories if t.turns]
    if first and not any(turn.advice or turn.before.get("expert_action") for turn in first):
        raise SetupError(
            "recipe.context.sources holds 'plan', but the environment tells no plan; use one that does "
            "(rfenvs/ALFWorld-v0 with env.kwargs='{expert: true}'), or another source"
        )


def _clip(chat: Chat, text: str, max_tokens: int) -> str:
    if len(text.encode("utf-8", "surrogatepass")) <= max_tokens:  # a token is at least one byte
        return text
    ids = chat.plain(text)
    if len(ids) <= max_tokens:
        return text
    return chat.decode(ids[:max_tokens]).rstrip("\ufffd")  # what is left of a character that was cut in two
