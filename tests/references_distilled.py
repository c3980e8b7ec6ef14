"""Losses of OPSD and its kin, of external teachers' recipes and of MiniLLM, as loops."""

from __future__ import annotations

import math

import torch
from oracle import Reference, World
from torch import Tensor


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def taught(w: World) -> list[int]:
    return [i for i in range(len(w.samples)) if w.reads(i)]


def off_policy(w: World, t: int, logp_t: Tensor) -> float:
    rho, mismatch = w.importance(t, logp_t)
    return rho * mismatch


def likeliest(logq_t: Tensor, k: int) -> list[int]:
    return sorted(range(len(logq_t)), key=lambda v: -float(logq_t[v]))[:k]


def opsd(w: World) -> Tensor:
    """JSD, beta 0.3, over the teacher's 4 likeliest tokens, both sides renormalised; mean over taught tokens."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    beta, total, n = 0.3, zero(), 0
    for i in taught(w):
        for t in w.tokens(i):
            chosen = likeliest(logq[t], 4)
            p = logp[t, chosen].log_softmax(0).exp()
            q = logq[t, chosen].log_softmax(0).exp()
            m = beta * q + (1 - beta) * p
            jsd = beta * (q * (q / m).log()).sum() + (1 - beta) * (p * (p / m).log()).sum()
            total, n = total + jsd * off_policy(w, t, y[t]), n + 1
    return total / max(n, 1)


def pw_opsd(w: World) -> Tensor:
    """Entry-capped forward KL, sigmoid of the place, mean over a sequence's tokens, then over taught sequences."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    total = zero()
    for i in taught(w):
        length = len(w.samples[i].action_ids)
        for k, t in enumerate(w.tokens(i), 1):
            u = (k - 0.5) / length
            weight = 0.25 + 0.75 / (1 + math.exp(-(u - 0.3) / 0.1))
            d = zero()
            for v in range(logp.shape[1]):
                d = d + (logq[t, v].exp() * (logq[t, v] - logp[t, v])).clamp(max=0.05)
            total = total + weight * d * off_policy(w, t, y[t]) / length
    return total / max(len(taught(w)), 1)


def vopd(w: World) -> Tensor:
    """The sampled token's log-ratio less its mean over the student's 3 likeliest tokens; half of GRPO beside it."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    total, n = zero(), 0
    for i in taught(w):
        for t in w.tokens(i):
            token = int(w.batch.targets[t])
            chosen = likeliest(logp[t].detach(), 3)
            p, q = logp[t, chosen].detach().log_softmax(0), logq[t, chosen].log_softmax(0)
            value = -(p.exp() * (p - q)).sum()
            advantage = (logq[t, token] - logp[t, token].detach()) - value
            total, n = total - advantage * y[t] * off_policy(w, t, y[t]), n + 1
    policy = zero()
    for i in range(len(w.samples)):
        for t in w.tokens(i):
            policy = policy + w.surrogate(t, y[t], float(w.batch.advantages[i]), high=0.2)
    return total / max(n, 1) + 0.5 * policy / len(y)


def reverse_kl(w: World, t: int) -> Tensor:
    logp, logq = w.logp()[t], w.logq()[t]
    return (logp.exp() * (logp - logq)).sum()


def tip(w: World) -> Tensor:
    """Reverse KL on the half of the taught tokens with the highest soft-or of entropy and divergence."""
    logp, y = w.logp().detach(), w.logp_y()
    tokens = [t for i in taught(w) for t in w.tokens(i)]
    entropy = [float(-(logp[t].exp() * logp[t]).sum()) for t in tokens]
    gap = [float(reverse_kl(w, t).detach()) for t in tokens]

    def scaled(values: list[float], top: float) -> list[float]:
        low = min(values)
        return [min(max((v - low) / (top - low), 0.0), 1.0) for v in values]

    place = 0.98 * (len(tokens) - 1)
    ordered = sorted(entropy)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    h = scaled(entropy, below + (place - math.floor(place)) * (above - below))
    d = scaled(gap, max(gap))
    score = {t: a + b - a * b for t, a, b in zip(tokens, h, d, strict=True)}
    kept = sorted(tokens, key=lambda t: -score[t])[: math.ceil(0.5 * len(tokens))]
    total = zero()
    for t in kept:
        total = total + reverse_kl(w, t) * off_policy(w, t, y[t])
    return total / len(kept)


def mopd(w: World) -> Tensor:
    """Reverse KL, mean over the tokens beside which the teacher saw peers."""
    y, total, n = w.logp_y(), zero(), 0
    for i in taught(w):
        for t in w.tokens(i):
            total, n = total + reverse_kl(w, t) * off_policy(w, t, y[t]), n + 1
    return total / max(n, 1)


def dgrpo(w: World) -> Tensor:
    """GRPO, and 0.7 times the reverse KL."""
    y, policy = w.logp_y(), zero()
    for i in range(len(w.samples)):
        for t in w.tokens(i):
            policy = policy + w.surrogate(t, y[t], float(w.batch.advantages[i]))
    return policy / len(y) + 0.7 * mopd(w)


def minillm(w: World) -> Tensor:
    """Exact reverse KL, discounted reward-to-go without the token's own, and the likelihood of two texts."""
    logq, y, gamma = w.logq(), w.logp_y(), 0.9
    total, n, texts, m = zero(), 0, zero(), 0
    for i, sample in enumerate(w.samples):
        if sample.source == "text":
            for t in w.tokens(i):
                texts, m = texts - y[t], m + 1
            continue
        if not w.reads(i):
            continue
        tokens = list(w.tokens(i))
        reward = [float(logq[t, int(w.batch.targets[t])] - y[t].detach()) for t in tokens]
        for k, t in enumerate(tokens):
            after = range(k + 1, len(tokens))
            ahead = sum(gamma ** (u - k - 1) * reward[u] for u in after)
            ahead /= sum(gamma ** (u - k - 1) for u in after) or 1.0
            total = total + reverse_kl(w, t) * off_policy(w, t, y[t])
            total, n = total + w.surrogate(t, y[t], ahead, high=0.2), n + 1
    return total / max(n, 1) + 0.3 * texts / m


def with_texts(w: World) -> None:
    for k in range(2):
        w.add("text", -1, 3 + k)


def lightning_opd(w: World) -> Tensor:
    """The kept score less the student's own log-probability, cut at 0.5, times the token's; no weights."""
    y, total, n = w.logp_y(), zero(), 0
    for i, sample in enumerate(w.samples):
        for t, score in zip(w.tokens(i), sample.notes.get("teacher_logprobs", ()), strict=False):
            advantage = min(max(score - float(y[t].detach()), -0.5), 0.5)
            total, n = total - advantage * y[t], n + 1
    return total / max(n, 1)


def with_scores(w: World) -> None:
    for sample in w.samples:
        if w.random.random() < 0.8:
            sample.notes["teacher_logprobs"] = [-2.0 + w.random.gauss(0, 1) for _ in sample.action_ids]


def uni_opd(w: World) -> Tensor:
    """Log-ratios, shifted by half of what right attempts of a group lack above wrong ones."""
    logq, y = w.logq(), w.logp_y()
    before = y.detach() if w.batch.old_logprobs is None else w.batch.old_logprobs
    sampler = w.batch.sampler_logprobs
    word = {}
    for i in taught(w):
        for t in w.tokens(i):
            own = float(sampler[t]) if w.batch.old_logprobs is None else float(before[t])
            word[t] = float(logq[t, int(w.batch.targets[t])]) - own
    attempts: dict[tuple[int, int], list[int]] = {}
    for i in taught(w):
        attempts.setdefault((w.samples[i].group, w.samples[i].attempt), []).extend(w.tokens(i))
    marks = {key: sum(word[t] for t in tokens) / len(tokens) for key, tokens in attempts.items()}
    total, n = zero(), 0
    for i in taught(w):
        group = w.samples[i].group
        right, wrong = [], []
        for (g, a), mark in marks.items():
            if g == group:
                (right if w.groups[g].trajectories[a].reward >= 1 else wrong).append(mark)
        lacking = 0.0
        if right and wrong:
            lacking = max(0.0, 0.4 - (sum(right) / len(right) - sum(wrong) / len(wrong)))
        shift = lacking / 2 if w.samples[i].reward >= 1 else -lacking / 2
        for t in w.tokens(i):
            total, n = total + w.surrogate(t, y[t], word[t] + shift, high=0.2), n + 1
    return total / max(n, 1)


REFERENCES = {
    "opsd": Reference(opsd, {"alpha": 0.3, "top_k": 4}),
    "pw_opsd": Reference(pw_opsd),
    "vopd": Reference(vopd, {"top_k": 3, "policy_weight": 0.5}),
    "tip": Reference(tip),
    "mopd": Reference(mopd),
    "dgrpo": Reference(dgrpo, {"beta": 0.7}),
    "minillm": Reference(minillm, {"gamma": 0.9, "lm_weight": 0.3}, with_texts),
    "lightning_opd": Reference(lightning_opd, {"tau": 0.5}, with_scores),
    "uni_opd": Reference(uni_opd),
}

_FULL = {"model": {"lora_rank": 0}}
"""A run of all weights, whose change the test looks for."""

RUNS = {
    "opsd": _FULL,
    "pw_opsd": _FULL,
    "vopd": _FULL,
    "lightning_opd": {"recipe": {"rollout_steps": 2}},
}
