"""Recipes with sequences beside the rollout, as loops."""

from __future__ import annotations

from typing import Any

import torch
from oracle import Reference, World
from torch import Tensor

from agents.batch import View


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


def grpo_on(w: World, *sources: str, advantages: dict[int, float] | None = None) -> Tensor:
    """Mean over the tokens of some sources of the clipped surrogate; its ratio is to who wrote them, where known."""
    logp, total, tokens = w.logp_y(), zero(), 0
    for i, sample in enumerate(w.samples):
        for k, t in enumerate(w.tokens(i)):
            if sample.source not in sources:
                continue
            tokens += 1
            advantage = float(w.batch.advantages[i]) if advantages is None else advantages[i]
            if sample.behaviour is None:
                total = total + w.surrogate(t, logp[t], advantage)
            else:
                ratio = (logp[t] - sample.behaviour[k]).exp()
                total = total - torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
    return total / max(tokens, 1)


def references_with_plans(w: World) -> None:
    for group in (7, 8):
        noise = [[-2.0 * w.random.random() for _ in range(3)] for _ in range(2)]
        w.add("reference", group, 3, notes={"alone": noise[0], "with_plan": noise[1]})


def sort(w: World) -> Tensor:
    """GRPO on the rollout; likelihood of references weighted by sqrt(p_b p_s)."""
    logp, total, tokens = w.logp_y(), zero(), 0
    for i, sample in enumerate(w.samples):
        if sample.source == "reference":
            for k, t in enumerate(w.tokens(i)):
                p_b, p_s = (torch.tensor(sample.notes[n][k]).exp() for n in ("alone", "with_plan"))
                total = total - (p_b * p_s).sqrt() * logp[t]
                tokens += 1
    return grpo_on(w, "policy") + total / tokens


def corrections(w: World) -> None:
    for group, advantage in ((0, 0.8), (0, -0.8), (1, 0.3)):
        made = w.add("correction", group, 2 + group, advantage=advantage)
        made.logprobs = [-2.0 + 0.3 * w.random.gauss(0, 1) for _ in made.action_ids]


def cipo(w: World) -> Tensor:
    """Attempts and corrections, each with a mean of its own."""
    return grpo_on(w, "policy") + grpo_on(w, "correction")


def one_slot_exchanged(w: World) -> None:
    """The last attempt at the first task, all of which fail, goes to a guide that somebody else sampled."""
    w.samples = [s for s in w.samples if (s.group, s.attempt) != (0, 2)]
    for s in w.samples:
        if s.group == 0:
            s.advantage = -1 / 3
    w.add("guided", 0, 3, advantage=2 / 3, behaviour=[-1.5, -2.5, -2.0])
    w.add("replay", 1, 2, advantage=0.5)


def npo(w: World) -> Tensor:
    """The surrogate over everything; the ratio of the guide is to its own log-probabilities."""
    return grpo_on(w, "policy", "guided", "replay")


def pairs(w: World) -> None:
    """Behind every taught turn what the teacher said there; the last pair is the wrong way round by half."""
    own = [s for s in w.samples if s.view("teacher") is not None]
    for k, sample in enumerate(own):
        sample.notes |= {"pair": k, "chosen": False}
        better = w.add("teacher", sample.group, 2, notes={"pair": k, "chosen": True, "label": 1.0 - 0.1 * k})
        better.show("teacher", View([], [1]))


def pbsd(w: World) -> Tensor:
    """Logistic in the difference of log-ratios to the teacher, which reads both under its own prompt."""
    logp, logq = w.logp_y(), w.logq()
    ratio: dict[tuple[int, bool], Tensor] = {}
    label: dict[int, float] = {}
    for i, s in enumerate(w.samples):
        if "pair" in s.notes:
            at = s.notes["pair"], s.notes["chosen"]
            ratio[at] = sum((logp[t] - logq[t, w.batch.targets[t]] for t in w.tokens(i)), zero())
            if s.notes["chosen"]:
                label[s.notes["pair"]] = s.notes["label"]
    total = zero()
    for k, l in label.items():
        margin = 0.1 * (ratio[k, True] - ratio[k, False])
        total = total - l * margin.sigmoid().log() - (1 - l) * (-margin).sigmoid().log()
    return total / len(label)


def one_answer_of_the_teacher_s(w: World) -> None:
    for group in range(3):
        w.add("teacher", group, 3).show("teacher", View([], [1]))


def brts(w: World) -> Tensor:
    """Reverse KL on what the student said, 2 forward KL on what the teacher said; no ratio weighs the latter."""
    logp, y, logq = w.logp(), w.logp_y(), w.logq()
    reverse, forward, counts = zero(), zero(), [0, 0]
    for i, sample in enumerate(w.samples):
        for t in w.tokens(i) if w.reads(i) else ():
            if sample.source == "policy":
                rho, mismatch = w.importance(t, y[t])
                reverse = reverse + (logp[t].exp() * (logp[t] - logq[t])).sum() * rho * mismatch
                counts[0] += 1
            else:
                forward = forward + (logq[t].exp() * (logq[t] - logp[t])).sum()
                counts[1] += 1
    return reverse / counts[0] + 2 * forward / counts[1]


def fast_slow(w: World) -> Tensor:
    """CISPO: the ratio, at most 5, weighs a policy gradient that is never cut off."""
    logp, total, old = w.logp_y(), zero(), w.batch.old_logprobs
    for i in range(len(w.samples)):
        for t in w.tokens(i):
            ratio = 1.0 if old is None else min(float((logp[t].detach() - old[t]).exp()), 5.0)
            mismatch = w.importance(t, logp[t])[1]
            total = total - ratio * mismatch * float(w.batch.advantages[i]) * logp[t]
    return total / len(logp)


EXPECTED = {"context": {"sources": ["expected"], "allow_reference": True}}

REFERENCES = {
    "stable_opd": Reference(stable_opd, prepare=one_golden_answer_a_prompt),
    "sort": Reference(sort, prepare=references_with_plans),
    "cipo": Reference(cipo, prepare=corrections),
    "npo": Reference(npo, prepare=one_slot_exchanged),
    "pbsd": Reference(pbsd, prepare=pairs),
    "brts": Reference(brts, {"fkl_weight": 2.0}, prepare=one_answer_of_the_teacher_s),
    "fast_slow": Reference(fast_slow),
}

RUNS: dict[str, dict[str, Any]] = {
    "stable_opd": {"recipe": EXPECTED},
    "brts": {"recipe": EXPECTED},
    "pbsd": {"recipe": EXPECTED},
    "sort": {"recipe": {"buffer": 2}, "batch": {"tasks": 6, "attempts": 2}},
    "npo": {"recipe": {"gate": 0.5}, "batch": {"tasks": 6}},
    "fast_slow": {"recipe": {"population": 2, "cycle": 1, "max_tokens": 8}},
}
