"""The numbers of one training step, as metrics.jsonl holds them; docs/run-directory.md lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.batch import Batch, Sample
from agents.history import RolloutSettings
from agents.losses.fused import TokenStats
from agents.rollout import Drive
from agents.training.agreement import sampler_agreement
from agents.training.alarms import repetition, repetitive
from agents.training.learner import StepResult
from agents.trajectory import Group, Trajectory, Turn
from rfenvs.graders.thinking import visible_span


def step_metrics(
    groups: Sequence[Group], samples: Sequence[Sample], results: Sequence[tuple[Batch, StepResult]]
) -> dict[str, Any]:
    """Numbers of one step, over the attempts that could be scored; None where there was nothing to measure."""
    scored = [t for g in groups for t in g.scored()]
    turns = [turn for t in scored for turn in t.turns if turn.source == "policy"]
    attempts = sum(len(g.trajectories) for g in groups)
    gaps = [_finite(r.stats.divergence) for _, r in results if r.stats is not None]
    gap = torch.cat(gaps) if gaps else torch.zeros(0)
    steps = [r for _, r in results]
    logged = {name for batch, _ in results for name in batch.log}
    return {
        "reward": _mean([t.reward for t in scored]),
        "success": _mean([float(t.reward >= 1) for t in scored]),
        "loss": _mean([r.loss for r in steps if r.stepped]),
        "teacher_gap": float(gap.mean()) if len(gap) else None,
        # Minus the mean log-probability of what was sampled: an unbiased estimate of the entropy.
        "entropy": _mean([-x for turn in turns for x in turn.logprobs]),
        "length": _mean([float(t.tokens) for t in scored]),
        "turn_length": _mean([float(len(turn.action_ids)) for turn in turns]),
        "truncated": _mean([float(turn.finish_reason == "length") for turn in turns]),
        "repetition": _mean([repetition(turn.action_ids) for turn in turns]),
        "repetitive": _mean([float(repetitive(turn.text)) for turn in turns]),
        "zero_variance": _flat(groups),
        "taught": _mean([float(s.teacher_ids is not None) for s in samples]),
        "generations": attempts,
        "skipped": attempts - len(scored),
        "feedback": feedback_kinds(scored),
        "stop_reasons": dict(Counter(t.stop_reason for t in scored).most_common()),
        "turns": _mean([float(len(t.turns)) for t in scored]),
        "failed_turns": _mean([float(failed(turn)) for turn in turns]),
        "repeated_turns": _mean([float(r) for t in scored for r in repeated(t)]),
        "tokens": sum(len(turn.action_ids) for turn in turns),
        "grad_norm": _mean([r.grad_norm for r in steps]),
        "lr": steps[-1].lr if steps else None,
        **sampler_agreement(results),
        **teacher_monitors([r.stats for r in steps if r.stats is not None]),
        "optimizer_steps": sum(r.stepped for r in steps),
        **{name: _mean([b.log[name] for b, _ in results if name in b.log]) for name in sorted(logged)},
    }


def health(groups: Sequence[Group]) -> dict[str, Any]:
    """Signs of a collapse that held-out attempts show: those of StableOPD."""
    turns = [turn for g in groups for t in g.scored() for turn in t.turns if turn.source == "policy"]
    return {
        "truncated": _mean([float(turn.finish_reason == "length") for turn in turns]),
        "repetitive": _mean([float(repetitive(turn.text)) for turn in turns]),
    }


def teacher_monitors(found: Sequence[TokenStats]) -> dict[str, float | None]:
    """How student and teacher compare where both were read, from what the loss measured anyway; None where nothing was.

    - ``log_ratio_median``, ``log_ratio_q95``: quantiles over tokens of abs(d), d = log q(y) - log p(y), nats;
    - ``entropy_ratio``: the student's mean entropy over the teacher's: far above 1 the student spreads, near 0 it is
      sure of what the teacher is not;
    - ``teacher_top_mass``: probability that the student gives to the ``record_tokens`` likeliest tokens of the teacher.
    """

    def column(name: str) -> Tensor:
        return torch.cat([torch.zeros(0), *(getattr(stats, name).float().cpu() for stats in found)])

    ratio = _finite(column("teacher_logp") - column("logp")).abs().sort().values
    ours, theirs = column("entropy"), column("teacher_entropy")
    both = torch.isfinite(ours) & torch.isfinite(theirs)
    spread = float(theirs[both].sum())
    masses = [
        stats.top_student[(stats.top_ids >= 0).any(-1)].nansum(-1)
        for stats in found
        if stats.top_ids is not None and stats.top_student is not None
    ]
    mass = torch.cat([torch.zeros(0), *(m.float().cpu() for m in masses)])
    return {
        "log_ratio_median": float(ratio[len(ratio) // 2]) if len(ratio) else None,
        "log_ratio_q95": float(ratio[int(0.95 * (len(ratio) - 1))]) if len(ratio) else None,
        "entropy_ratio": float(ours[both].sum()) / spread if spread > 0 else None,
        "teacher_top_mass": float(mass.mean()) if len(mass) else None,
    }


def schedule(drive: Drive) -> dict[str, float]:
    """What of a drive is not the default: numbers that a recipe's schedule gave this step."""
    plain = Drive()
    return {
        name: value
        for name in ("expert_share", "student_turns", "last_turns")
        if (value := getattr(drive, name)) != getattr(plain, name)
    }


def feedback_kinds(attempts: Sequence[Trajectory]) -> dict[str, int]:
    """Attempts by the kind of the first complaint about their last turn; ``none`` where there was none.

    What the environment adds (the answer was cut off, the turns are used up) counts where nothing else was said.
    """
    kinds = []
    for attempt in attempts:
        said = [e for e in attempt.turns[-1].feedback if e["severity"] != "info"]
        said.sort(key=lambda entry: entry["source"] == "env")
        kinds.append(said[0]["kind"] if said else "none")
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def failed(turn: Turn) -> bool:
    """Whether the environment said of this very turn that it was an error."""
    return any(e["severity"] in ("error", "fatal") and e.get("scope") != "episode" for e in turn.feedback)


def repeated(trajectory: Trajectory) -> list[bool]:
    """For each of the policy's turns: did an earlier turn do the same in the same state, or with the same reply?

    An action is compared without its reasoning and spacing; states only where the environment tells ``state_key``.
    """
    seen: set[tuple[str, str, str]] = set()
    result = []
    for turn in trajectory.turns:
        start, end = visible_span(turn.text)
        action = " ".join(turn.text[start:end].split())
        state = turn.before.get("state_key")
        marks = {("reply", action, turn.reply)} if turn.reply else set()
        if state is not None:
            marks.add(("state", action, repr(state)))
        if turn.source == "policy":
            result.append(not seen.isdisjoint(marks))
        seen |= marks
    return result


def cut_warning(stops: Mapping[str, int], context_length: int, settings: RolloutSettings) -> str:
    """What to say of episodes that this run ended before the environment did; empty if there are none."""
    total, said = sum(stops.values()), []
    if full := stops.get("context_overflow"):
        said.append(
            f"{full} of {total} episodes ended because their history fills the context of {context_length} tokens "
            f"(context_overflow); show less of it with rollout.history (now {settings.history})"
        )
    if spent := stops.get("rollout_turns"):
        said.append(f"{spent} of {total} episodes ended at rollout.turns={settings.turns} (rollout_turns)")
    return "; ".join(said)


def _flat(groups: Sequence[Group]) -> float | None:
    """Share of equal rewards among the groups that hold several: one attempt has nothing to differ from."""
    rewards = [[t.reward for t in g.scored()] for g in groups]
    return _mean([float(len(set(group)) == 1) for group in rewards if len(group) > 1])


def _finite(values: Tensor) -> Tensor:
    return values[torch.isfinite(values)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
