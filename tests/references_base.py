"""The first recipes, as loops."""

from __future__ import annotations

import torch
from oracle import Reference, World
from torch import Tensor

from agents.losses.divergence import divergence
from agents.losses.support import top_k_support


def grpo(w: World) -> Tensor:
    """Mean over all tokens of the clipped surrogate."""
    logp, total = w.logp_y(), torch.zeros((), dtype=torch.float64)
    for i in range(len(w.samples)):
        for t in w.tokens(i):
            total = total + w.surrogate(t, logp[t], float(w.batch.advantages[i]))
    return total / len(logp)


def sdpo(w: World) -> Tensor:
    """Mean over samples of the mean over tokens of the JSD on the student's 3 likeliest tokens and a tail."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    total = torch.zeros((), dtype=torch.float64)
    for i, sample in enumerate(w.samples):
        if w.reads(i):
            for t in w.tokens(i):
                rho, mismatch = w.importance(t, y[t])
                p, q = top_k_support(logp[t : t + 1], logq[t : t + 1], 3, tail=True)
                total = total + divergence(p, q, 0.5)[0] * rho * mismatch / len(sample.action_ids)
    return total / len(w.samples)


def srpo(w: World) -> Tensor:
    """Failures with a teacher to it, weighted by its entropy; everything else to GRPO; one denominator."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    routed = [i for i, s in enumerate(w.samples) if w.reads(i) and s.reward < 1]
    trust = {t: torch.exp((logq[t].exp() * logq[t]).sum()) for i in routed for t in w.tokens(i)}
    mean = sum(trust.values()) / max(len(trust), 1)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(w.samples)):
        for t in w.tokens(i):
            if i in routed:
                rho, mismatch = w.importance(t, y[t])
                jsd = divergence(logp[t : t + 1], logq[t : t + 1], 0.5)[0]
                total = total + trust[t] / mean * jsd * rho * mismatch
            else:
                total = total + w.surrogate(t, y[t], float(w.batch.advantages[i]), dual=3.0)
    return total / len(y)


def blend(w: World) -> Tensor:
    """0.9 GRPO + 0.1 SDPO as a mean over taught tokens."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    total, taught = torch.zeros((), dtype=torch.float64), 0
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            rho, mismatch = w.importance(t, y[t])
            total = total + divergence(logp[t : t + 1], logq[t : t + 1], 0.5)[0] * rho * mismatch
            taught += 1
    return 0.9 * grpo(w) + 0.1 * total / max(taught, 1)


def opd(w: World) -> Tensor:
    """Mean over taught tokens of the reverse KL."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    total, taught = torch.zeros((), dtype=torch.float64), 0
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            rho, mismatch = w.importance(t, y[t])
            total = total + (logp[t].exp() * (logp[t] - logq[t])).sum() * rho * mismatch
            taught += 1
    return total / max(taught, 1)


def sdpo_rich(w: World) -> Tensor:
    """As `sdpo`, with the reverse KL."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    total = torch.zeros((), dtype=torch.float64)
    for i, sample in enumerate(w.samples):
        for t in w.tokens(i) if w.reads(i) else ():
            rho, mismatch = w.importance(t, y[t])
            p, q = top_k_support(logp[t : t + 1], logq[t : t + 1], 3, tail=True)
            total = total + divergence(p, q, 1.0)[0] * rho * mismatch / len(sample.action_ids)
    return total / len(w.samples)


def reverse_kl(w: World, t: int) -> Tensor:
    """That of token t, with its importance weights."""
    logp, logq = w.logp()[t], w.logq()[t]
    rho, mismatch = w.importance(t, w.logp_y()[t])
    return (logp.exp() * (logp - logq)).sum() * rho * mismatch


def tcod(w: World) -> Tensor:
    """Mean over turns of the mean over their tokens of the reverse KL."""
    total = torch.zeros((), dtype=torch.float64)
    for i, sample in enumerate(w.samples):
        for t in w.tokens(i) if w.reads(i) else ():
            total = total + reverse_kl(w, t) / len(sample.action_ids)
    return total / len(w.samples)


def sage_opd(w: World) -> Tensor:
    """No turn is judged, so all are strong: a turn weighs its teacher's mean top-1 probability, scaled to mean 1."""
    top = w.logq().exp().amax(-1)
    sure = {i: float(top[list(w.tokens(i))].mean()) for i in range(len(w.samples)) if w.reads(i)}
    n = sum(len(w.tokens(i)) for i in sure)
    scale = n / sum(c * len(w.tokens(i)) for i, c in sure.items())
    total = torch.zeros((), dtype=torch.float64)
    for i, c in sure.items():
        for t in w.tokens(i):
            total = total + scale * c * reverse_kl(w, t)
    return total / n


def sod(w: World) -> Tensor:
    """Turns weigh min((d_1 + eps) / (d_k + eps), 1.2), over the sum of weights; plus GRPO."""
    y, start = w.logq().gather(-1, w.batch.targets[:, None])[:, 0], w.batch.logprobs
    first: dict[tuple[int, int], float] = {}
    total, mass = torch.zeros((), dtype=torch.float64), 0.0
    for i, sample in enumerate(w.samples):
        if w.reads(i):
            d = sum(abs(float(start[t]) - float(y[t])) for t in w.tokens(i)) / len(w.tokens(i))
            weight = min((first.setdefault((sample.group, sample.attempt), d) + 1e-6) / (d + 1e-6), 1.2)
            for t in w.tokens(i):
                total = total + weight * reverse_kl(w, t)
                mass += weight
    return total / mass + grpo(w)


def likelihood(w: World) -> Tensor:
    """Mean over tokens of -log p."""
    return -w.logp_y().mean()


REFERENCES = {
    "grpo": Reference(grpo),
    "sdpo": Reference(sdpo, {"top_k": 3}),
    "srpo": Reference(srpo, {"top_k": 0}),
    "sdpo_grpo": Reference(blend, {"top_k": 0}),
    "opd": Reference(opd),
    "sdpo_rich": Reference(sdpo_rich, {"top_k": 3}),
    "tcod": Reference(tcod),
    "sage_opd": Reference(sage_opd),
    "sod": Reference(sod),
    "gigpo": Reference(grpo),
    "imitation": Reference(likelihood),
    "dagger": Reference(likelihood),
}
