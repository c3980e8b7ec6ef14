"""Recipes that reshape advantages, contrast contexts, mark spans or correct themselves, as loops."""

from __future__ import annotations

import math
from typing import Any

import torch
from oracle import Reference, World
from torch import Tensor

RUNS: dict[str, dict[str, Any]] = {"score": {"env": {"kwargs": {"max_turns": 2}}, "recipe": {"stage_one": 1}}}


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def policy_logprob(w: World, t: int) -> float:
    """log p(y_t) as a recipe knows it before the step: of the old policy, else as sampled."""
    source = w.batch.sampler_logprobs if w.batch.old_logprobs is None else w.batch.old_logprobs
    return float(source[t])


def log_ratio(w: World, t: int, stream: str = "teacher") -> float:
    """log q(y_t) - log p(y_t)."""
    return float(w.logq(stream)[t, w.batch.targets[t]]) - policy_logprob(w, t)


def with_advantages(w: World, advantage: Any) -> Tensor:
    """GRPO's loss with ``advantage(i, t)`` for the advantage of token t of sample i."""
    y, total = w.logp_y(), zero()
    for i in range(len(w.samples)):
        for t in w.tokens(i):
            total = total + w.surrogate(t, y[t], advantage(i, t))
    return total / len(y)


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def ratio_mix(w: World, i: int, t: int, direction: int, epsilon: float, mix: float) -> float:
    a = float(w.batch.advantages[i])
    weight = 1.0
    if w.reads(i):
        weight = min(max(math.exp(direction * sign(a) * log_ratio(w, t)), 1 - epsilon), 1 + epsilon)
    return a * ((1 - mix) + mix * weight)


def rlsd(w: World) -> Tensor:
    return with_advantages(w, lambda i, t: ratio_mix(w, i, t, 1, 0.2, 0.5))


def rlrt(w: World) -> Tensor:
    def advantage(i: int, t: int) -> float:
        if w.samples[i].reward == 1:
            return ratio_mix(w, i, t, -1, 0.5, 0.5)
        return float(w.batch.advantages[i])

    return with_advantages(w, advantage)


def antisd(w: World) -> Tensor:
    """The gate is open at first."""

    def advantage(i: int, t: int) -> float:
        a = float(w.batch.advantages[i])
        if not w.reads(i):
            return a
        u = min(max(log_ratio(w, t), -5.0), 5.0)
        return a - 0.5 * 0.5 * (math.log1p(math.exp(u)) - math.log(2))

    return with_advantages(w, advantage)


def credit(w: World) -> Tensor:
    """Mean over taught tokens of -(log q - log p - lambda log q') log p, the bracket without gradient."""
    y, total, n = w.logp_y(), zero(), 0
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            now = float(y[t].detach())
            reward = float(w.logq()[t, w.batch.targets[t]]) - now
            if w.reads(i, "contrast1"):
                reward -= 0.1 * float(w.logq("contrast1")[t, w.batch.targets[t]])
            rho, mismatch = w.importance(t, y[t])
            total = total - reward * y[t] * rho * mismatch
            n += 1
    return total / max(n, 1)


def sgcd(w: World) -> Tensor:
    """Weights standardised and of mean 1 over the tokens of a trajectory that the teacher read."""
    weights: dict[int, float] = {}
    for g in range(3):
        for attempt in range(3):
            turns = [i for i, s in enumerate(w.samples) if (s.group, s.attempt) == (g, attempt) and w.reads(i)]
            a = {i: sign(float(w.batch.advantages[i])) for i in turns}
            s = {t: a[i] * min(max(log_ratio(w, t), -5.0), 5.0) for i in turns for t in w.tokens(i)}
            if not s:
                continue
            mean = sum(s.values()) / len(s)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in s.values()) / len(s)) + 1e-6
            raw = {t: min(max(1 + 0.5 * math.tanh((x - mean) / deviation), 0.5), 1.5) for t, x in s.items()}
            weights |= {t: x * len(raw) / sum(raw.values()) for t, x in raw.items()}
    return with_advantages(w, lambda i, t: float(w.batch.advantages[i]) * weights.get(t, 1.0))


def skill_sd(w: World) -> Tensor:
    """GRPO plus 0.1 of the mean over taught tokens of rho k3, rho with its gradient."""
    y, total, n = w.logp_y(), zero(), 0
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            delta = float(w.logq()[t, w.batch.targets[t]]) - y[t]
            rho = (y[t] - policy_logprob(w, t)).exp()
            rho = rho if float(rho.detach()) <= 2 else torch.tensor(2.0, dtype=torch.float64)
            total = total + rho * (delta.exp() - delta - 1)
            n += 1
    return with_advantages(w, lambda i, t: float(w.batch.advantages[i])) + 0.1 * total / max(n, 1)


def score(w: World) -> Tensor:
    """Stage I: only second attempts are rewarded; the KL weighs 0.11 on first ones and 0.01 on second ones."""
    y, logp, total = w.logp_y(), w.logp(), zero()
    seconds = {(s.group, s.attempt): w.groups[s.group].trajectories[s.attempt].turns[1].reward
               for s in w.samples if s.turn == 1}  # fmt: skip
    for i, sample in enumerate(w.samples):
        mates = [r for (g, _), r in seconds.items() if g == sample.group]
        for t in w.tokens(i):
            mismatch = w.importance(t, y[t])
            if sample.turn == 1:
                a = seconds[sample.group, sample.attempt] - sum(mates) / len(mates)
                total = total - a * y[t] * mismatch[1]
            if w.reads(i, "anchor"):
                kl = (logp[t].exp() * (logp[t] - w.logq("anchor")[t])).sum()
                total = total + (0.11 if sample.turn == 0 else 0.01) * kl * mismatch[0] * mismatch[1]
    return total / len(y)


def marked(w: World) -> None:
    """Spans of every other sample: its first token, and its last."""
    for k, sample in enumerate(w.samples):
        last = len(sample.action_ids)
        sample.notes["spans"] = [(0, 1), (last - 1, last)] if k % 2 or k > 8 else []


def trace(w: World) -> Tensor:
    """The first step: lambda = lambda_0 = 0.5, so that spans have no policy gradient."""
    y, logp, total = w.logp_y(), w.logp(), zero()
    for i, sample in enumerate(w.samples):
        spans = [t for t in w.tokens(i) if w.reads(i) and sample.notes["spans"]]
        spans = [t for t in spans if t in (w.tokens(i)[0], w.tokens(i)[-1])]
        for t in w.tokens(i):
            if t not in spans:
                total = total + w.surrogate(t, y[t], float(w.batch.advantages[i])) / len(y)
                continue
            p, q = logp[t], w.logq()[t]
            kl = (q.exp() * (q - p)).sum() if sample.reward == 1 else (p.exp() * (p - q)).sum()
            kl = kl * min(1.0, 0.05 / float(kl.detach()))
            rho, mismatch = w.importance(t, y[t])
            mean_over_span = kl * rho * mismatch / len(spans)
            total = total + 0.5 * len(spans) / len(w.tokens(i)) * mean_over_span / len(w.samples)
    return total


REFERENCES = {
    "rlsd": Reference(rlsd),
    "rlrt": Reference(rlrt),
    "antisd": Reference(antisd),
    "credit": Reference(credit),
    "sgcd": Reference(sgcd),
    "skill_sd": Reference(skill_sd),
    "score": Reference(score),
    "trace": Reference(trace, prepare=marked),
}
