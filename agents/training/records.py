"""A step's trajectories as lines of trajectories.jsonl: what was said, what was taught, token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from agents.batch import Batch
from agents.losses.fused import TokenStats
from agents.traces import attempt_row
from agents.training.learner import StepResult
from agents.trajectory import Group

Decode = Callable[[list[int]], str]


def trajectory_rows(
    step: int, groups: Sequence[Group], results: Sequence[tuple[Batch, StepResult]], decode: Decode | None
) -> list[dict[str, Any]]:
    """One row an attempt; docs/run-directory.md has the layout. Without ``decode``, tokens are left out."""
    taught: dict[tuple[int, int, int], dict[str, Any]] = {}
    for batch, result in results:
        for i, sample in enumerate(batch.samples):
            if sample.source != "policy":
                continue  # its numbers are not those of the attempt that it stands beside
            extra: dict[str, Any] = {"teacher_messages": sample.teacher_messages}
            if sample.label is not None:
                extra |= {"label": sample.label, "label_reason": sample.label_reason}
            if decode is not None and result.stats is not None and sample.logprobs is not None:
                span = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
                extra["tokens"] = _tokens(decode, sample.action_ids, result.stats, span)
            taught[sample.group, sample.attempt, sample.turn] = extra
    rows = []
    for g, group in enumerate(groups):
        for a, trajectory in enumerate(group.trajectories):
            row = attempt_row(g, a, group.task, trajectory)
            for t, turn in enumerate(row["turns"]):
                turn |= {"teacher_messages": None, **taught.get((g, a, t), {})}
            rows.append({"step": step, **row})
    return rows


def _tokens(decode: Decode, ids: list[int], stats: TokenStats, span: slice) -> list[dict[str, Any]]:
    rows = []
    texts = [decode([i]) for i in ids]
    for k, text in zip(range(span.start, span.stop), texts, strict=True):
        row: dict[str, Any] = {"text": text}
        for name, values in (("logp", stats.logp), ("teacher_logp", stats.teacher_logp), ("gap", stats.divergence)):
            number = float(values[k])
            row[name] = round(number, 4) if math.isfinite(number) else None
        if stats.top_ids is not None and stats.top_teacher is not None and stats.top_student is not None:
            triples = zip(
                stats.top_ids[k].tolist(), stats.top_teacher[k].tolist(), stats.top_student[k].tolist(), strict=True
            )
            row["top"] = [[decode([i]), round(q, 4), round(p, 4)] for i, q, p in triples if i >= 0]
        rows.append(row)
    return rows
