"""What privileged information there is about a turn: the sources of a teacher's context.

    sibling    another attempt that succeeded: its answer, or in an episode of many turns its transcript
    expected   the reference that revealing feedback states for this very prompt or state
    plan       the expert's actions from here
    rest       what happened after this turn, and how the episode ended
    feedback   what the environment said of this turn's action
    failure    another attempt that failed: its answer, or its transcript
    reference  the environment's own right answer (`StepTools.gold`)

and texts that a recipe made or had made (`NOTES`): a critique, a plan, a reflection, a playbook, a skill, ...

The action being scored is never quoted, though the rest of the episode may hold an equal one. Actions of the expert
are references: without `Context.allow_reference` they are in no transcript either.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import rfenvs
from agents.batch import Sample
from agents.trajectory import Group, Turn
from rfenvs.feedback import clip

NOTES = (
    "critique", "rubric", "strategy", "reflection", "playbook", "skill", "summary", "rationale", "debate", "tag", "own",
    "demonstration",
)  # fmt: skip
"""Sources that only recipes which make such texts have: given to `agents.teachers.contexts.add_contexts`."""

Given = Mapping[str, Sequence[str | None]]
"""Texts by source, one for each sample: what the groups of a step do not hold themselves."""


@dataclass(frozen=True)
class Hint:
    """Privileged information, in parts that a wording puts into sentences. None: nothing to say."""

    attempt: str | None = None
    """Transcript of a whole attempt that succeeded."""
    answer: str | None = None
    """A good reply to the prompt."""
    then: tuple[str, ...] = ()
    """Good actions after ``answer``."""
    rest: str | None = None
    """What came after this turn's action."""
    feedback: str | None = None
    """What the environment said of the action, or of the episode's actions."""
    failure: str | None = None
    """Another attempt, which failed."""
    notes: tuple[tuple[str, str], ...] = ()
    """Further texts, each with its source, one of `NOTES`."""

    def __bool__(self) -> bool:
        return any((self.attempt, self.answer, self.rest, self.feedback, self.failure, self.notes))

    def clipped(self, cut: Callable[[str], str]) -> Hint:
        """Every part shortened by ``cut``."""
        parts: dict[str, Any] = {name: cut(text) for name in ("attempt", "answer", "rest", "feedback", "failure")
                                 if (text := getattr(self, name))}  # fmt: skip
        parts["notes"] = tuple((source, cut(text)) for source, text in self.notes)
        return replace(self, **parts, then=tuple(cut("\n".join(self.then)).split("\n")) if self.then else ())


@dataclass
class Sources:
    """Looks things up in the groups of one step."""

    groups: Sequence[Group]
    expected: dict[Hashable, str]
    """Answers that revealing feedback states, by `_state`; empty where references may not be seen."""
    allow_reference: bool
    max_observation: int
    """Characters of one observation in a transcript."""
    seed: str
    given: dict[str, dict[int, str]] = field(default_factory=dict)
    """Texts that came from outside, by source and by the identity of their sample."""

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        groups: Sequence[Group],
        allow_reference: bool,
        max_observation: int,
        seed: str,
        given: Given | None = None,
    ) -> Sources:
        """Sources for these samples."""
        expected: dict[Hashable, str] = {}
        for sample in samples if allow_reference else ():
            if answer := expected_answer(sample.feedback):
                expected.setdefault(_state(sample, groups), answer)
        texts = {
            source: {id(sample): text for sample, text in zip(samples, column, strict=True) if text}
            for source, column in (given or {}).items()
        }
        return cls(groups, expected, allow_reference, max_observation, seed, texts)

    def turn(self, parts: Sequence[str], sample: Sample) -> Hint:
        """What sources ``parts`` together say about one turn."""
        hint = Hint()
        if "sibling" in parts:
            hint = self._sibling(sample)
        if "expected" in parts and not hint.answer:
            hint = replace(hint, answer=self.expected.get(_state(sample, self.groups)))
        if "plan" in parts and not hint.answer:
            hint = self._plan(hint, turn_of(sample, self.groups))
        if "rest" in parts:
            hint = replace(hint, rest=self._rest(sample))
        if "feedback" in parts:
            turn, many = turn_of(sample, self.groups), many_turns(self.groups[sample.group])
            hint = replace(hint, feedback=self._said(turn, sample.feedback, many))
        return self._further(hint, parts, sample)

    def episode(self, parts: Sequence[str], sample: Sample) -> Hint:
        """What they say about the whole episode: the same for each of its turns."""
        trajectory = self.groups[sample.group].trajectories[sample.attempt]
        hint = self._sibling(sample) if "sibling" in parts else Hint()
        if "plan" in parts and not hint.answer:
            hint = self._plan(hint, trajectory.turns[0])
        if "feedback" in parts:
            many = many_turns(self.groups[sample.group])
            said = [self._said(turn, turn.feedback, many) for turn in trajectory.turns]
            texts = [f"Action {t}: {text}" if many else text for t, text in enumerate(said, 1) if text]
            hint = replace(hint, feedback="\n".join(texts) or None)
        return self._further(hint, parts, sample)

    def _further(self, hint: Hint, parts: Sequence[str], sample: Sample) -> Hint:
        """A failed attempt, the reference and the texts that were given, where they are asked for and there."""
        if "failure" in parts:
            hint = replace(hint, failure=self._other(sample, success=False)[0])
        if "reference" in parts and self.allow_reference and not hint.answer:
            hint = replace(hint, answer=self.given.get("reference", {}).get(id(sample)))
        notes = [(part, text) for part in parts if part in NOTES and (text := self.given.get(part, {}).get(id(sample)))]
        return replace(hint, notes=tuple(notes))

    def _sibling(self, sample: Sample) -> Hint:
        """Another attempt that succeeded."""
        text, many = self._other(sample, success=True)
        return Hint(attempt=text) if many else Hint(answer=text)

    def _other(self, sample: Sample, success: bool) -> tuple[str | None, bool]:
        """A random other success or failure of the group, the same one for every sample that may see it.

        Random, never the shortest: choosing by length makes answers shrink. One for all: equal teacher prompts
        are forwarded once. Returns its text, None where there is none, and whether it is a transcript.
        """
        group, many = self.groups[sample.group], many_turns(self.groups[sample.group])
        chosen = [
            a
            for a, t in enumerate(group.trajectories)
            if t.scored and t.turns and (t.reward >= 1.0) == success and self._quotable(t.turns)
        ]
        random.Random(f"{self.seed}:{sample.group}{'' if success else ':failure'}").shuffle(chosen)
        for attempt in chosen:
            if attempt != sample.attempt:
                turns = group.trajectories[attempt].turns
                text = self._transcript(turns) if many else without_thinking(turns[-1].text)
                return text or None, many
        return None, many

    def _quotable(self, turns: Sequence[Turn]) -> bool:
        return self.allow_reference or all(turn.source == "policy" for turn in turns)

    def _plan(self, hint: Hint, turn: Turn) -> Hint:
        if not self.allow_reference:
            return hint
        plan = turn.before.get("expert_plan") or [turn.before.get("expert_action") or turn.advice]
        return replace(hint, answer=plan[0], then=tuple(plan[1:])) if plan[0] else hint

    def _rest(self, sample: Sample) -> str | None:
        group = self.groups[sample.group]
        if not many_turns(group):
            return None  # nothing came after the only turn
        trajectory = group.trajectories[sample.attempt]
        later = trajectory.turns[sample.turn + 1 :]
        if not self._quotable(later):
            return None
        if trajectory.reward >= 1.0:
            end = "The task was solved"
        elif trajectory.stop_reason in CUT:
            end = "The attempt was stopped unfinished"
        else:
            end = "The attempt failed"
        when = f"{len(later)} action{'s' if len(later) > 1 else ''} later" if later else "with this action"
        followed = [self._short(trajectory.turns[sample.turn].reply), self._transcript(later)]
        return "\n".join([f"{end} {when}.", *filter(None, followed)])

    def _said(self, turn: Turn, items: Sequence[dict[str, object]], many: bool) -> str | None:
        """The items about a turn; in an episode of ``many`` turns, below the environment's answer where it complains.

        It does where there are items, or where the state stayed as it was ("Nothing happens."). What a useful action
        brings to light is no feedback.
        """
        text = rfenvs.feedback_text({"feedback": items}, "teacher", reference=self.allow_reference)
        key = turn.after.get("state_key")
        if many and (text or (key is not None and key == turn.before.get("state_key"))):
            answer = self._short(turn.reply)
            if not set(answer.splitlines()) <= set(text.splitlines()):
                text = f"{answer}\n{text}".strip()
        return text or None

    def _transcript(self, turns: Sequence[Turn]) -> str:
        lines = []
        for turn in turns:
            lines.append(f"> {self._short(without_thinking(turn.text))}")
            lines.append(self._short(turn.reply))
        return "\n".join(filter(None, lines))

    def _short(self, text: str) -> str:
        return clip(text, self.max_observation)


CUT = frozenset({"curriculum", "context_overflow", "rollout_turns"})
"""Stop reasons of the rollout's own: the environment did not end these episodes."""


def many_turns(group: Group) -> bool:
    """Whether these are episodes of several turns, and not questions with one answer each."""
    return any(len(t.turns) > 1 or t.stop_reason in CUT for t in group.trajectories)


def expected_answer(feedback: Sequence[dict[str, object]]) -> str | None:
    """``data["expected"]`` of the first item that reveals the reference."""
    for item in feedback:
        data = item.get("data")
        if item.get("reveals_reference") and isinstance(data, dict) and isinstance(data.get("expected"), str):
            return str(data["expected"])
    return None


def without_thinking(text: str) -> str:
    """``text`` without its ``<think>`` blocks; one that was never closed goes to the end."""
    return re.sub(r"<think>.*?(</think>\s*|\Z)", "", text, flags=re.DOTALL).strip()


def turn_of(sample: Sample, groups: Sequence[Group]) -> Turn:
    """The turn that a sample was made from."""
    return groups[sample.group].trajectories[sample.attempt].turns[sample.turn]


def _state(sample: Sample, groups: Sequence[Group]) -> Hashable:
    """Samples with equal values were asked the same: in the same state of the same task, or by the same prompt."""
    key = turn_of(sample, groups).before.get("state_key")
    return sample.group, key if key is not None else tuple(sample.prompt_ids)
