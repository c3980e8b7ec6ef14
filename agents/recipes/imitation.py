"""Imitation: likelihood of the expected answer, where feedback states it. The control for answer-conditioned SDPO.

    y*_g = the reference that revealing feedback states for task g, else a success of the group
    L    = - 1/N sum_g sum_t log p(y*_t | x_g, y*_<t)

Over several turns there is one such sequence for each prompt: the expected answer of the state, else what a success did
in it. It sees what a teacher with ``sources=["expected"]`` sees, and spends as many generations, but learns off-policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from agents.batch import Batch, Sample, samples_of
from agents.losses.reduction import token_mean
from agents.losses.terms import Likelihood, Term
from agents.recipes.base import Recipe
from agents.recipes.tools import StepTools
from agents.teachers.contexts import expected_answer
from agents.trajectory import Group


class Imitation(Recipe):
    """Supervised learning of the expected answers of the tasks just attempted."""

    name: ClassVar[str] = "imitation"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-5}}

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """One sequence for each task and prompt whose answer is known."""
        chosen: dict[tuple[int, tuple[int, ...]], Sample] = {}
        for sample in samples_of(groups):
            key = (sample.group, tuple(sample.prompt_ids))
            answer = expected_answer(sample.feedback)
            if answer is not None and (key not in chosen or chosen[key].logprobs is not None):
                ids = tools.chat.written(answer)
                if len(sample.prompt_ids) + len(ids) > tools.limit:
                    continue
                sample.action_ids, sample.text, sample.logprobs = ids, answer, None
                chosen[key] = sample
            elif sample.reward >= 1.0:
                chosen.setdefault(key, sample)
        return list(chosen.values())

    def terms(self, batch: Batch) -> list[Term]:
        """Negative log-likelihood, mean over tokens."""
        return [Likelihood(token_mean(torch.ones(len(batch.targets))))]
