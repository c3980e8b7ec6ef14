"""Sampling from a mixture of two models, token by token: the policy, with the teacher's word in it.

    p~(y | x, y_<t) = a q(y | x, y_<t) + (1 - a) p(y | x, y_<t)

Both models read the same prompt and every sampled token; each has a cache of its own. The log-probabilities that are
reported are the mixture's, so that an importance weight p / p~ is at most 1 / (1 - a).

Source: teacher-mixed sampling of MiniLLM (arXiv 2306.08543).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from agents.engines.base import Completion, Sampling
from agents.engines.hf import HFEngine, _draw
from agents.teachers.teacher import Teacher


class MixedEngine:
    """An `agents.engines.base.Engine`; ``share`` is a, the teacher's weight, in [0, 1)."""

    def __init__(self, policy: HFEngine, teacher: Teacher, share: float) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share={share} of the teacher must be at least 0 and below 1")
        self.policy, self.teacher, self.share = policy, teacher, share
        self.context_length = min(policy.context_length, teacher.context_length)

    @torch.no_grad()
    def generate(self, prompts: list[list[int]], sampling: Sampling, seed: int) -> list[Completion]:
        """See `Engine.generate`; at temperature 0 the mixture's likeliest token."""
        generator = torch.Generator(self.policy.device).manual_seed(seed)
        fitting = (i for i in range(len(prompts)) if len(prompts[i]) < self.context_length)
        order = sorted(fitting, key=lambda i: (len(prompts[i]), prompts[i]))
        results: list[Completion] = [Completion([], [], "length")] * len(prompts)
        for k in range(0, len(order), self.policy.rows):
            chosen = order[k : k + self.policy.rows]
            done = self._decode([prompts[i] for i in chosen], sampling, generator)
            for i, completion in zip(chosen, done, strict=True):
                results[i] = completion
        return results

    def _decode(self, prompts: list[list[int]], sampling: Sampling, generator: torch.Generator) -> list[Completion]:
        heat = sampling.temperature or 1.0
        drawn = Sampling(temperature=1.0 if sampling.temperature else 0.0, top_p=sampling.top_p)
        policy = _Reading(self.policy, prompts)
        with self.teacher.weights():
            teacher = _Reading(self.teacher.reader, prompts)
        done = [Completion([], [], "length") for _ in prompts]
        budgets = [min(sampling.max_tokens, self.context_length - len(p)) for p in prompts]
        active = list(range(len(prompts)))
        for step in range(max(budgets)):
            own = (policy.logits / heat).log_softmax(-1)
            said = (teacher.logits.to(own.device) / (heat * self.teacher.settings.temperature)).log_softmax(-1)
            ids, logprobs = _draw(mixture(own, said, self.share), drawn, generator)
            running = []
            for row, (token, logprob) in enumerate(zip(ids.tolist(), logprobs.tolist(), strict=True)):
                k = active[row]
                done[k].ids.append(token)
                done[k].logprobs.append(logprob)
                stopped = token in self.policy.stop_ids
                done[k].finish_reason = "stop" if stopped else "length"
                if not stopped and step + 1 < budgets[k]:
                    running.append(row)
            if not running:
                break
            active = [active[row] for row in running]
            keep = torch.tensor(running, device=ids.device)
            policy.go_on(ids, keep)
            with self.teacher.weights():
                teacher.go_on(ids, keep)
        return done


def mixture(policy: Tensor, teacher: Tensor, share: float) -> Tensor:
    """``log(share q + (1 - share) p)`` from log-probabilities, ``[B, V] x [B, V] -> [B, V]``."""
    if share == 0:
        return policy
    return torch.logaddexp(policy + math.log1p(-share), teacher + math.log(share))


class _Reading:
    """One model's place in the sequences that still run."""

    def __init__(self, engine: HFEngine, prompts: list[list[int]]) -> None:
        self.engine = engine
        distinct: dict[tuple[int, ...], int] = {}
        rows = [distinct.setdefault(tuple(p), len(distinct)) for p in prompts]
        self.cache, self.mask, self.position, self.logits = engine._prefill([list(p) for p in distinct])
        if len(distinct) < len(prompts):
            self._select(torch.tensor(rows, device=engine.device))

    def _select(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.position, self.logits = self.mask[rows], self.position[rows], self.logits[rows]

    def go_on(self, ids: Tensor, rows: Tensor) -> None:
        """Read the tokens ``ids`` [B] in the sequences ``rows`` of the B, and forget the others."""
        ids, rows = ids.to(self.engine.device), rows.to(self.engine.device)
        if len(rows) < len(ids):
            self._select(rows)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        output: Any = self.engine.model(
            input_ids=ids[rows][:, None],
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits, self.position = output.logits[:, -1].float(), self.position + 1
