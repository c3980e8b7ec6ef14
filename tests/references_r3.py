"""Recipes with sequences beside the rollout, as loops."""

from __future__ import annotations

from typing import Any

import torch
from oracle import Reference, World
from torch import Tensor


def zero() -> Tensor:
    """Where a sum begins."""
    return torch.zeros((), dtype=torch.float64)


def all_tokens(w: World, *sources: str) -> list[int]:
    """Flat indices of the tokens of some sources."""
    return [t for i, s in enumerate(w.samples) if s.source in sources for t in w.tokens(i)]


def at_sampling(w: World, t: int) -> float:
    """log p(y_t) before any optimiser step on this batch."""
    old, sampler = w.batch.old_logprobs, w.batch.sampler_logprobs
    return float(sampler[t] if old is None else old[t])


def one_golden_answer_a_prompt(w: World) -> None:
    for group in range(3):
        w.add("reference", group, 3)


def stable_opd(w: World) -> Tensor:
    """Surrogate with the teacher's log-ratio, 0.1 likelihood of golden answers, 0.01 KL to the initial student."""
    logp, y, logq, initial = w.logp(), w.logp_y(), w.logq(), w.logq("anchor")
    distil, anchor = zero(), zero()
    taught = [t for i in range(len(w.samples)) if w.reads(i) for t in w.tokens(i)]
    for t in taught:
        advantage = float(logq[t, w.batch.targets[t]]) - at_sampling(w, t)
        distil = distil + w.surrogate(t, y[t], advantage, low=0.2, high=0.2)
    held = [t for i in range(len(w.samples)) if w.reads(i, "anchor") for t in w.tokens(i)]
    for t in held:
        rho, mismatch = w.importance(t, y[t])
        anchor = anchor + (logp[t].exp() * (logp[t] - initial[t])).sum() * rho * mismatch
    gold = all_tokens(w, "reference")
    likelihood = sum((-y[t] for t in gold), zero())
    return distil / len(taught) + 0.1 * likelihood / len(gold) + 0.01 * anchor / len(held)


EXPECTED = {"context": {"sources": ["expected"], "allow_reference": True}}

REFERENCES = {
    "stable_opd": Reference(stable_opd, prepare=one_golden_answer_a_prompt),
}

RUNS: dict[str, dict[str, Any]] = {
    "stable_opd": {"recipe": EXPECTED},
}
