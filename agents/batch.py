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


@dataclass
class Sample:
    """One scored sequence: usually a turn that the policy sampled."""

    prompt_ids: list[int]
    action_ids: list[int]
    logprobs: list[float] | None
    """Sampler's log-probabilities; None where the action was not sampled by the policy."""
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
class Batch:
    """The samples of one optimiser step, N action tokens in all."""

    samples: list[Sample]
    advantages: Tensor = field(default_factory=lambda: torch.zeros(0))
    """[samples] group-relative advantage of each sample's trajectory."""
    teacher: TeacherLogits | SparseTeacher | None = None
    """The teacher's hidden states, or its likeliest tokens, for the tokens of the scored samples."""
    reading: Reading | None = None
    """The teacher at the sampled tokens; present where a recipe asks for it (``needs_reading``)."""
    passed_over: Tensor | None = None
    """[samples] bool: taught, but with a weight that is known to be 0, so that the teacher need not read it."""
    old_logprobs: Tensor | None = None
    """[N] log-probabilities before the first of several optimiser steps on the same rollouts."""
    log: dict[str, float] = field(default_factory=dict)
    """Numbers that a recipe wants in the metrics of the step."""

    def __post_init__(self) -> None:
        lengths = torch.tensor([len(s.action_ids) for s in self.samples], dtype=torch.long)
        self.lengths = lengths
        self.sequence = torch.repeat_interleave(torch.arange(len(self.samples)), lengths)
        """[N] index of the sample each token belongs to."""
        self.targets = torch.tensor([i for s in self.samples for i in s.action_ids], dtype=torch.long)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def trajectories(self) -> list[Tensor]:
        """The samples of each trajectory: indices, in the order of its turns."""
        found: dict[tuple[int, int], list[int]] = {}
        for i, sample in enumerate(self.samples):
            found.setdefault((sample.group, sample.attempt), []).append(i)
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
    def sampler_logprobs(self) -> Tensor | None:
        """[N], or None where some sample was not drawn from the policy."""
        if any(s.logprobs is None for s in self.samples):
            return None
        return torch.tensor([x for s in self.samples for x in s.logprobs or ()], dtype=torch.float32)

    def per_token(self, values: Tensor) -> Tensor:
        """[samples] to [N]: every token gets its sample's value."""
        return values[self.sequence]

    def items(self) -> list[tuple[list[int], list[int]]]:
        """(prompt, action) of each sample."""
        return [(s.prompt_ids, s.action_ids) for s in self.samples]
