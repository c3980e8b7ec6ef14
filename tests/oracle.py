"""A world small enough to write losses as loops: what every recipe's terms are compared with.

A `World` is one optimiser batch over a vocabulary of nine tokens, in float64: three tasks (one that all attempts fail,
one that some do, one that none does), ragged attempts of one or two turns, teachers that read some of them. A reference
is a function from a world to the loss, written with loops over samples and tokens straight from the paper's equation.
What recipes measure before the loss is float32, as in training.

    settings   the recipe's, where not the defaults
    loss       the reference
    prepare    what the recipe's `samples` and `views` would have left behind: notes, sources, further sequences
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agents import recipes
from agents.batch import MAIN, Batch, Reading, Sample, Student, View, samples_of
from agents.losses.divergence import divergence
from agents.losses.fused import Head, Teacher, fused_loss
from agents.losses.support import top_k_support
from agents.recipes.base import Recipe, TaughtRecipe
from agents.training.learner import Learner
from agents.trajectory import Group, Trajectory, Turn

VOCABULARY, WIDTH = 9, 4


@dataclass
class Reference:
    """How to check one recipe."""

    loss: Callable[[World], Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[World], None] = lambda world: None


class World:
    """Everything a loss depends on, and the loss as the package makes it."""

    def __init__(self, recipe: Recipe, seed: int, prepare: Callable[[World], None] = lambda world: None) -> None:
        self.recipe, self.random = recipe, random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.groups = [Group({"id": str(g)}, [self._attempt(g, a) for a in range(3)]) for g in range(3)]
        self.samples: list[Sample] = samples_of(self.groups)
        self.advantages = recipe.advantages(self.groups)
        self.temperature = 1.0
        taught = isinstance(recipe, TaughtRecipe)
        for stream in recipe.streams() if taught else ():
            for sample in self.samples:
                if self.random.random() < 0.8:
                    sample.show(stream, View([], [1]))
        prepare(self)
        self.batch = batch = Batch(self.samples)
        batch.outcomes = {g: [t.reward for t in group.trajectories] for g, group in enumerate(self.groups)}
        batch.advantages = torch.tensor([self._advantage(s) for s in self.samples])
        n = len(batch.targets)
        self.weight = self.normal(VOCABULARY, WIDTH).requires_grad_()
        self.hidden = self.normal(n, WIDTH).requires_grad_()
        self.q_hidden: dict[str, Tensor] = {}
        if seed % 2:
            batch.old_logprobs = (self.logp_y().detach() + 0.3 * self.normal(n)).float()
        for stream in recipe.streams() if taught else ():
            self._read(stream)
        if taught and recipe.reads_student:
            self._look_at_student()

    def normal(self, *shape: int) -> Tensor:
        """Random numbers of this world."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def _attempt(self, group: int, attempt: int) -> Trajectory:
        reward = (0.0, float(attempt % 2), 1.0)[group]
        turns = []
        for t in range(1 + (group + attempt) % 2):
            ids = [self.random.randrange(VOCABULARY) for _ in range(self.random.randrange(1, 5))]
            logprobs = [-2.2 + 0.4 * self.random.gauss(0, 1) for _ in ids]
            turns.append(Turn([1, group, t], ids, logprobs, "x", [], before={"state_key": (group, t)}))
        turns[-1].reward = reward
        return Trajectory(turns)

    def _advantage(self, sample: Sample) -> float:
        if sample.advantage is not None:
            return sample.advantage
        own = sample.source == "policy"
        return self.advantages[sample.group, sample.attempt, sample.turn] if own else 0.0

    def add(self, source: str, group: int, length: int, **fields: Any) -> Sample:
        """One more sequence, of another source."""
        ids = [self.random.randrange(VOCABULARY) for _ in range(length)]
        sample = Sample([1, group], ids, None, [], "y", 1.0, [], group, 0, 0, source=source, **fields)
        self.samples.append(sample)
        return sample

    def _read(self, stream: str) -> None:
        batch = self.batch
        read = batch.per_token(batch.read_by(stream))
        self.q_hidden[stream] = self.normal(len(read), WIDTH)
        batch.teachers[stream] = Teacher([(1.0, self.q_hidden[stream][read], Head(self.weight.detach()))])
        logq = self.logq(stream)
        at = logq.gather(-1, batch.targets[:, None])[:, 0].float()
        top, ids = logq.exp().float().max(-1)
        entropy = -(logq.exp() * logq).sum(-1).float()
        nan = torch.nan
        batch.readings[stream] = Reading(
            at.masked_fill(~read, nan), entropy.masked_fill(~read, nan), top.masked_fill(~read, nan),
            (ids == batch.targets) & read,
        )  # fmt: skip

    def _look_at_student(self) -> None:
        batch, recipe = self.batch, self.recipe
        assert isinstance(recipe, TaughtRecipe)
        logp = self.logp().detach()
        gap, measure = torch.full((len(batch.targets),), torch.nan, dtype=torch.float64), recipe.measure(1)
        if MAIN in self.q_hidden:
            p, q = logp, self.logq(MAIN)
            if measure.top_k:
                p, q = top_k_support(p, q, measure.top_k, measure.tail)
            gap = divergence(p, q, measure.alpha).masked_fill(~batch.per_token(batch.scored), torch.nan)
        batch.student = Student(self.logp_y().detach().float(), -(logp.exp() * logp).sum(-1).float(), gap.float())

    # ---- distributions, as a reference reads them

    def logp(self) -> Tensor:
        """[N, V] the student's log-probabilities, with gradient."""
        return (self.hidden @ self.weight.t()).log_softmax(-1)

    def logp_y(self) -> Tensor:
        """[N] of the tokens that are scored, with gradient."""
        return self.logp().gather(-1, self.batch.targets[:, None])[:, 0]

    def logq(self, stream: str = MAIN) -> Tensor:
        """[N, V] a teacher's; meaningless where it does not read."""
        return (self.q_hidden[stream] @ self.weight.detach().t()).log_softmax(-1)

    def tokens(self, i: int) -> range:
        """Flat indices of the tokens of sample i."""
        return range(int(self.batch.offsets[i]), int(self.batch.offsets[i + 1]))

    def reads(self, i: int, stream: str = MAIN) -> bool:
        """Whether the teacher of a stream scored sample i."""
        return self.samples[i].view(stream) is not None

    def importance(self, t: int, logp_t: Tensor, clip: float = 2.0) -> tuple[float, float]:
        """rho and w of token t (`agents.losses.surrogate.importance_weights`); 1 where the policy did not sample it."""
        now = float(logp_t.detach())
        old = self.batch.old_logprobs
        start = now if old is None else float(old[t])
        by = float(self.batch.sampler_logprobs[t])
        rho = 1.0 if old is None or by != by else min(float(torch.tensor(now - start).exp()), clip)
        w = 1.0 if by != by else min(float(torch.tensor(start - by, dtype=torch.float64).exp()), clip)
        return rho, w

    def surrogate(
        self, t: int, logp_t: Tensor, advantage: float, low: float = 0.2, high: float = 0.28, dual: float | None = None
    ) -> Tensor:
        """PPO's clipped surrogate of token t, to be minimised, times w."""
        old = self.batch.old_logprobs
        ratio = (logp_t - (logp_t.detach() if old is None else old[t])).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
        if dual is not None and advantage < 0:
            gain = torch.maximum(gain, torch.tensor(dual * advantage, dtype=torch.float64))
        return -gain * self.importance(t, logp_t)[1]

    # ---- the package's own loss

    def fused(self, parts: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients to hidden states and head, from the recipe's terms, in the given parts of the tokens."""
        terms = self.recipe.loss(self.batch)
        learner = Learner.__new__(Learner)
        learner.temperature = self.temperature
        total = torch.zeros((), dtype=torch.float64)
        for leaf in (self.hidden, self.weight):
            leaf.grad = None
        for index in parts or [torch.arange(len(self.batch.targets))]:
            loss = learner.loss(self.batch, terms, index, self.hidden[index], Head(self.weight))[0]
            loss.backward()
            total = total + loss.detach()
        return total, [leaf.grad.clone() for leaf in (self.hidden, self.weight)]

    def referred(self, loss: Callable[[World], Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The same by a reference and plain autograd."""
        for leaf in (self.hidden, self.weight):
            leaf.grad = None
        value = loss(self)
        value.backward()
        zeros = [torch.zeros_like(leaf) for leaf in (self.hidden, self.weight)]
        return value.detach(), [z if (g := x.grad) is None else g.clone()
                                for x, z in zip((self.hidden, self.weight), zeros, strict=True)]  # fmt: skip


def world(name: str, reference: Reference, seed: int) -> World:
    """A world for a recipe by name."""
    return World(recipes.get(name)(**reference.settings), seed, reference.prepare)


__all__ = ["Reference", "World", "fused_loss", "world"]
