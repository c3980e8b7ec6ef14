"""Samples in flat token order: what recipes annotate and the learner consumes.

Every per-token tensor has one entry for each action token of each sample, sample after sample: [N]. Statistics
are computed here, over the whole optimiser batch, before anything is split into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agents.losses.fused import Teacher as TeacherLogits
from agents.losses.stream import SparseTeacher
from agents.trajectory import Group, Message

MAIN = "teacher"
"""The stream that a recipe has unless it says otherwise: its teacher, under its context."""


@dataclass(frozen=True)
class View:
    """What a teacher sees in place of a sample's own prompt."""

    messages: list[Message]
    ids: list[int]


@dataclass
class Sample:
    """One scored sequence: usually a turn that the policy sampled."""

    prompt_ids: list[int]
    action_ids: list[int]
    logprobs: list[float] | None
    """Sampler's log-probabilities; None where the action was not sampled by the policy from ``prompt_ids``."""
    messages: list[Message]
    text: str
    reward: float
    """Reward of the whole trajectory."""
    feedback: list[dict[str, Any]]
    group: int
    attempt: int
    turn: int
    teacher_messages: list[Message] | None = None
    """What the teacher sees instead of ``messages``; None: this sample is not taught."""
    teacher_ids: list[int] | None = None
    label: str | None = None
    """A judge's word on this turn: ``"skip"``, ``"weak"`` or ``"strong"``; None: not judged."""
    label_reason: str = ""
    """Why, in one line."""
    source: str = "policy"
    """Who made the sequence, and how: ``"policy"`` for a turn of the rollout; else the recipe's word for it."""
    advantage: float | None = None
    """Its own, where the recipe knows it; None: that of its turn (`Recipe.advantages`), 0 for other sources."""
    others: dict[str, View] = field(default_factory=dict)
    """What the teachers of further streams see, by stream."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What a recipe found out while it made the sequence and needs for its loss terms: spans, weights, partners."""
    behaviour: list[float] | None = None
    """Log-probabilities under whoever wrote the action, where that was not the policy seeing ``prompt_ids``: the policy
    under another prompt, at an earlier age, or another model. None: the policy (``logprobs``), or nobody knows."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """One account of where each token comes from: a ratio to a distribution that did not make it means nothing.

        ``logprobs`` are those of the policy under the very prompt that is trained on. A sequence trained under another
        prompt, or made by somebody else, has ``behaviour``, or neither: then its ratio starts at 1.

        Raises:
            ValueError: both are there, or one has another length than the action.
        """
        if self.logprobs is not None and self.behaviour is not None:
            raise ValueError(
                f"a sequence of source {self.source!r} has logprobs and behaviour: it was sampled from its own prompt, "
                "or elsewhere, not both"
            )
        for name, values in (("logprobs", self.logprobs), ("behaviour", self.behaviour)):
            if values is not None and len(values) != len(self.action_ids):
                raise ValueError(
                    f"a sequence of source {self.source!r} has {len(values)} {name} for {len(self.action_ids)} tokens"
                )

    def view(self, stream: str) -> View | None:
        """What the teacher of a stream sees; None: it does not score this sample."""
        if stream != MAIN:
            return self.others.get(stream)
        return None if self.teacher_ids is None else View(self.teacher_messages or [], self.teacher_ids)

    def show(self, stream: str, view: View | None) -> None:
        """Let the teacher of a stream see this; None: nothing, it does not score the sample."""
        if stream == MAIN:
            self.teacher_messages, self.teacher_ids = (None, None) if view is None else (view.messages, view.ids)
        elif view is None:
            self.others.pop(stream, None)
        else:
            self.others[stream] = view


def samples_of(groups: Sequence[Group]) -> list[Sample]:
    """Every turn of every scored trajectory in which the policy acted."""
    return [
        Sample(
            turn.prompt_ids,
            turn.action_ids,
            turn.logprobs,
            turn.messages,
            turn.text,
            trajectory.reward,
            turn.feedback,
            g,
            a,
            t,
        )
        for g, group in enumerate(groups)
        for a, trajectory in enumerate(group.trajectories)
        if trajectory.scored
        for t, turn in enumerate(trajectory.turns)
        if turn.source == "policy"
    ]


def split(samples: Sequence[Sample], parts: int) -> list[list[Sample]]:
    """At most ``parts`` runs of consecutive samples, about equally long: one for each optimiser step.

    A trajectory is never cut: weights that compare its turns, and means over it, see the whole of it.
    """
    size = math.ceil(len(samples) / parts)
    runs: list[list[Sample]] = []
    for sample in samples:
        last = runs[-1][-1] if runs else None
        together = last is not None and (last.group, last.attempt) == (sample.group, sample.attempt)
        if not together and (last is None or len(runs[-1]) >= size):
            runs.append([])
        runs[-1].append(sample)
    return runs


@dataclass
class Reading:
    """What the teacher's distribution says at each token, [N] each, NaN (``agrees``: False) where it did not score."""

    logprob: Tensor
    """Of the sampled token, nats."""
    entropy: Tensor
    """Nats."""
    confidence: Tensor
    """Probability of the teacher's likeliest token, max_v q(v)."""
    agrees: Tensor
    """Bool: the sampled token is the teacher's likeliest."""


@dataclass
class Student:
    """The policy at its current weights, [N] each, nats: one more forward pass, made where a recipe asks for it."""

    logprob: Tensor
    """Of the sampled token."""
    entropy: Tensor
    gap: Tensor
    """Divergence from the main teacher, as the recipe's ``alpha``, ``top_k`` and ``tail`` have it; NaN where unread."""


@dataclass
class Batch:
    """The samples of one optimiser step, N action tokens in all."""

    samples: list[Sample]
    advantages: Tensor = field(default_factory=lambda: torch.zeros(0))
    """[samples] advantage of each sample: its trajectory's, group-relative, unless the recipe says otherwise."""
    teachers: dict[str, TeacherLogits | SparseTeacher] = field(default_factory=dict)
    """By stream: the teacher's hidden states, or its likeliest tokens, at the tokens of the samples `read_by` it."""
    readings: dict[str, Reading] = field(default_factory=dict)
    """By stream: the teacher at the sampled tokens; present where a recipe asks for it (``needs_reading``)."""
    student: Student | None = None
    """Present where a recipe asks for it (``reads_student``)."""
    passed_over: Tensor | None = None
    """[samples] bool: taught, but with a weight that is known to be 0, so that the teacher need not read it."""
    outcomes: dict[int, list[float]] = field(default_factory=dict)
    """By group, the rewards of all its scored attempts, also those that other optimiser steps learn from."""
    old_logprobs: Tensor | None = None
    """[N] log-probabilities before the first of several optimiser steps on the same rollouts."""
    log: dict[str, float] = field(default_factory=dict)
    """Numbers that a recipe wants in the metrics of the step."""

    def __post_init__(self) -> None:
        for sample in self.samples:
            sample.check()
        lengths = torch.tensor([len(s.action_ids) for s in self.samples], dtype=torch.long)
        self.lengths = lengths
        self.sequence = torch.repeat_interleave(torch.arange(len(self.samples)), lengths)
        """[N] index of the sample each token belongs to."""
        self.targets = torch.tensor([i for s in self.samples for i in s.action_ids], dtype=torch.long)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def teacher(self) -> TeacherLogits | SparseTeacher | None:
        """That of the main stream."""
        return self.teachers.get(MAIN)

    @teacher.setter
    def teacher(self, logits: TeacherLogits | SparseTeacher | None) -> None:
        _put(self.teachers, logits)

    @property
    def reading(self) -> Reading | None:
        """That of the main stream."""
        return self.readings.get(MAIN)

    @reading.setter
    def reading(self, reading: Reading | None) -> None:
        _put(self.readings, reading)

    def viewed(self, stream: str) -> Tensor:
        """[samples] bool: a teacher of this stream sees something in place of the prompt."""
        return torch.tensor([s.view(stream) is not None for s in self.samples], dtype=torch.bool)

    def read_by(self, stream: str) -> Tensor:
        """[samples] bool: the rows of ``teachers[stream]``, and the numbers of ``readings[stream]``."""
        return self.scored if stream == MAIN else self.viewed(stream)

    @property
    def groups(self) -> Tensor:
        """[samples] the group of each sample."""
        return torch.tensor([s.group for s in self.samples], dtype=torch.long)

    def made_by(self, *sources: str) -> Tensor:
        """[samples] bool: `Sample.source` is one of these."""
        return torch.tensor([s.source in sources for s in self.samples], dtype=torch.bool)

    @property
    def logprobs(self) -> Tensor:
        """[N] log p(y_t) of the policy, detached: at its current weights if those were read, else before the first of
        several optimiser steps, else as sampled; NaN where a sequence that it did not sample was not read.
        """
        if self.student is not None:
            return self.student.logprob
        if self.old_logprobs is not None:
            return self.old_logprobs
        values = [x for s in self.samples for x in (s.logprobs or [math.nan] * len(s.action_ids))]
        return torch.tensor(values, dtype=torch.float32)

    def log_ratio(self, stream: str = MAIN) -> Tensor:
        """[N] d_t = log q(y_t) - log p(y_t), detached; 0 where the teacher of the stream did not read."""
        reading = self.readings.get(stream)
        if reading is None:
            return torch.zeros(len(self.targets))
        return (reading.logprob - self.logprobs).masked_fill(~self.per_token(self.read_by(stream)), 0.0)

    @property
    def trajectories(self) -> list[Tensor]:
        """The samples of each trajectory: indices, in the order of its turns. Other sources are ones of their own."""
        found: dict[tuple[int, int, str], list[int]] = {}
        for i, sample in enumerate(self.samples):
            found.setdefault((sample.group, sample.attempt, sample.source), []).append(i)
        return [torch.tensor(sorted(rows, key=lambda i: self.samples[i].turn)) for rows in found.values()]

    @property
    def taught(self) -> Tensor:
        """[samples] bool: there is something to teach here; it counts in means, whatever its weight."""
        return torch.tensor([s.teacher_ids is not None for s in self.samples], dtype=torch.bool)

    @property
    def scored(self) -> Tensor:
        """[samples] bool: `taught`, and not `passed_over`: the rows of ``teacher``, and the numbers of ``reading``."""
        return self.taught if self.passed_over is None else self.taught & ~self.passed_over

    @property
    def correct(self) -> Tensor:
        """[samples] bool: full reward."""
        return torch.tensor([s.reward >= 1.0 for s in self.samples], dtype=torch.bool)

    @property
    def rewards(self) -> Tensor:
        """[samples] reward of each sample's trajectory."""
        return torch.tensor([s.reward for s in self.samples], dtype=torch.float32)

    @property
    def sampler_logprobs(self) -> Tensor:
        """[N] as sampled, NaN where the policy did not sample the sequence from its prompt."""
        values = [x for s in self.samples for x in (s.logprobs or [math.nan] * len(s.action_ids))]
        return torch.tensor(values, dtype=torch.float32)

    @property
    def behaviour(self) -> Tensor | None:
        """[N] `Sample.behaviour`, NaN elsewhere: for `PolicyGradient.behaviour`; None where no sample has any."""
        if all(s.behaviour is None for s in self.samples):
            return None
        values = [x for s in self.samples for x in (s.behaviour or [math.nan] * len(s.action_ids))]
        return torch.tensor(values, dtype=torch.float32)

    def per_token(self, values: Tensor) -> Tensor:
        """[samples] to [N]: every token gets its sample's value."""
        return values[self.sequence]

    def items(self) -> list[tuple[list[int], list[int]]]:
        """(prompt, action) of each sample."""
        return [(s.prompt_ids, s.action_ids) for s in self.samples]


def _put(table: dict[str, Any], value: Any) -> None:
    if value is None:
        table.pop(MAIN, None)
    else:
        table[MAIN] = value
