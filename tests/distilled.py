"""Worlds of a few outcomes for recipes: a policy and a teacher that are tables of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from agents.batch import Batch, Sample, View
from agents.losses.fused import Head, Teacher
from agents.losses.terms import Term
from agents.recipes.base import Recipe, TaughtRecipe
from agents.teachers.teacher import read_teacher
from agents.training.learner import Learner

Prefix = tuple[int, ...]


def sample(ids: Sequence[int], reward: float = 0.0, group: int = 0, attempt: int = 0, **fields: object) -> Sample:
    """A taught sequence."""
    made = Sample([1], list(ids), None, [], "", reward, [], group, attempt, 0, **fields)  # type: ignore[arg-type]
    made.show("teacher", View([], [1]))
    return made


def on_tables(
    recipe: Recipe,
    samples: list[Sample],
    policy: Callable[[Prefix], Tensor],
    teacher: Callable[[Prefix], Tensor],
    weights: Sequence[float] | None = None,
) -> tuple[float, Batch]:
    """The recipe's loss of these sequences, whose gradient is left in the tables.

    ``policy`` and ``teacher`` give the logits [V] behind a prefix. With ``weights`` the loss is the sum of each
    sequence's own loss, so often: an expectation, where weights are probabilities.
    """
    batch = Batch(samples)
    batch.advantages = torch.tensor([s.advantage or 0.0 for s in samples])
    prefixes = [tuple(s.action_ids[:t]) for s in samples for t in range(len(s.action_ids))]
    hidden = torch.stack([policy(prefix) for prefix in prefixes])
    said = torch.stack([teacher(prefix).detach() for prefix in prefixes])
    head = Head(torch.eye(hidden.shape[-1], dtype=hidden.dtype))
    if isinstance(recipe, TaughtRecipe) and recipe.streams():
        batch.teacher = Teacher([(1.0, said[batch.per_token(batch.scored)], head)])
        batch.reading = read_teacher(batch)
    learner = Learner.__new__(Learner)
    learner.temperature = 1.0
    everything = torch.arange(len(prefixes))
    batch.old_logprobs = hidden.detach().log_softmax(-1).gather(1, batch.targets[:, None])[:, 0]
    terms: list[Term] = list(recipe.loss(batch))
    if weights is not None:
        scale = batch.per_token(torch.tensor(weights, dtype=torch.float64) * len(prefixes))
        for term in terms:
            object.__setattr__(term, "coefficients", term.coefficients * scale)
    loss, _ = learner.loss(batch, terms, everything, hidden, head)
    loss.backward()
    return float(loss.detach()), batch
