"""Recipes whose signal is made of words: rubrics, debates, continuations, playbooks, several contexts."""

from __future__ import annotations

import torch
from oracle import Reference, World
from torch import Tensor

from agents.losses.divergence import divergence


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def score_attempts(w: World) -> None:
    """What ROPD's `samples` leaves behind: an advantage of its own on each sample, one attempt left out."""
    for sample in w.samples:
        sample.advantage = 0.5 * ((sample.group + 2 * sample.attempt) % 3) - 0.4


def ropd(w: World) -> Tensor:
    """Mean over tokens of the clipped surrogate with the rubric's advantages."""
    logp, total = w.logp_y(), zero()
    for i, sample in enumerate(w.samples):
        for t in w.tokens(i):
            total = total + w.surrogate(t, logp[t], float(sample.advantage or 0))
    return total / len(logp)


def debate(w: World) -> None:
    for i, sample in enumerate(w.samples):
        sample.notes["debate_weights"] = [0.3 + 0.1 * (i % 3), 0.7 - 0.1 * (i % 3)]


def mad_opd(w: World) -> Tensor:
    """sum_k w_k JSD(p, q_k); a teacher that did not read leaves its weight to the others."""
    logp, y, names = w.logp(), w.logp_y(), ("teacher", "teacher2")
    total, taught = zero(), 0
    for i, sample in enumerate(w.samples):
        present = [k for k, name in enumerate(names) if w.reads(i, name)]
        mass = sum(sample.notes["debate_weights"][k] for k in present)
        for t in w.tokens(i) if present else ():
            rho, mismatch = w.importance(t, y[t])
            for k in present:
                jsd = divergence(logp[t : t + 1], w.logq(names[k])[t : t + 1], 0.5)[0]
                total = total + sample.notes["debate_weights"][k] / mass * jsd * rho * mismatch
            taught += 1
    return total / max(taught, 1)


def audit(w: World) -> None:
    for i, sample in enumerate(w.samples):
        if len(sample.action_ids) >= 2 and i % 2:
            sample.notes["audited"] = [(1, 2, 0.25 + 0.1 * i)]


def omniopd(w: World) -> Tensor:
    """-pi log p on audited tokens, beta KL(p_base || p) on the others that the anchor read, over all tokens."""
    logp, base, total = w.logp(), w.logq("anchor"), zero()
    y = w.logp_y()
    for i, sample in enumerate(w.samples):
        for place, t in enumerate(w.tokens(i)):
            pi = next((p for start, stop, p in sample.notes.get("audited", ()) if start <= place < stop), None)
            if pi is not None:
                total = total - pi * y[t]
            elif w.reads(i, "anchor"):
                rho, mismatch = w.importance(t, y[t])
                total = total + 0.1 * (base[t].exp() * (base[t] - logp[t])).sum() * rho * mismatch
    return total / len(y)


def unisd(w: World) -> Tensor:
    """Agreement of three contexts, a capped JSD, and the hinge on the corrupted context."""
    logp, y, names = w.logp(), w.logp_y(), ("teacher", "agreement2", "agreement3")
    at = {name: w.logq(name).gather(-1, w.batch.targets[:, None])[:, 0] for name in (*names, "corrupted")}
    weight = {}
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            values = [float(at[name][t]) for name in names if w.reads(i, name)]
            mean = sum(values) / len(values)
            weight[t] = torch.tensor(-((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5)).double().exp()
    scale = len(weight) / sum(weight.values())
    total = zero()
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            rho, mismatch = w.importance(t, y[t])
            jsd = divergence(logp[t : t + 1], w.logq()[t : t + 1], 0.5)[0]
            cap = min(1.0, 0.05 / float(jsd.detach()))
            total = total + scale * weight[t] * cap * jsd * rho * mismatch
            if w.reads(i, "corrupted"):
                hinge = 0.5 + (y[t] - at["teacher"][t]).abs() - (y[t] - at["corrupted"][t]).abs()
                total = total + 0.1 * hinge.clamp(min=0)
    return total / len(weight)


def resd(w: World) -> Tensor:
    """Reverse KL on the student's four likeliest tokens with q / p clipped to [1/2, 2], weighted by success."""
    logp, logq, y = w.logp(), w.logq(), w.logp_y()
    share = sum(s.reward >= 1 for s in w.samples) / len(w.samples)
    weight = {
        t: (1 - share) if s.reward >= 1 else share**0.5
        for i, s in enumerate(w.samples)
        if w.reads(i)
        for t in w.tokens(i)
    }
    scale, total = len(weight) / sum(weight.values()), zero()
    for t, u in weight.items():
        rho, mismatch = w.importance(t, y[t])
        for v in logp[t].topk(4).indices.tolist():
            ratio = (logq[t, v] - logp[t, v]).exp().clamp(0.5, 2.0)
            total = total + scale * u * logp[t, v].exp() * -ratio.log() * rho * mismatch
    return total / len(weight)


REFERENCES = {
    "ropd": Reference(ropd, prepare=score_attempts),
    "mad_opd": Reference(mad_opd, prepare=debate),
    "omniopd": Reference(omniopd, prepare=audit),
    "unisd": Reference(unisd, {"kappa": 0.05}),
    "resd": Reference(resd, {"top_k": 4, "ratio_clip": 2.0, "success_power": 1.0, "failure_power": 0.5}),
}

RUNS = {
    "ropd": {"recipe": {"unjudged": "reward", "judge_tokens": 16}},
    "mad_opd": {"recipe": {"debate_tokens": 8, "rounds": 1}},
    "omniopd": {"recipe": {"chunk": 2, "chunks": 2, "continuations": 2}},
    "resd": {"recipe": {"author_tokens": 16}},
}
