"""On which outcomes student and teacher are compared: a few tokens of the vocabulary, and what is done with the rest.

Papers differ here, and it changes the objective. Whose k likeliest tokens: the student's (SDPO), the teacher's
(OPSD, PrincipalBench). The mass outside them: one more bucket (SDPO), or none, with both sides renormalised
(OPSD), or one of them (PrincipalBench: the student; EOPD: the teacher).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agents.losses.divergence import divergence

Whose = Literal["student", "teacher", "union", "intersection"]
Renormalise = Literal["both", "student", "teacher", "none"]

ABSENT = -1e4
"""Log-probability, on both sides, of a slot of the support that holds no token: its exp is exactly 0."""


def choose(student: Tensor, teacher: Tensor, k: int, whose: Whose) -> tuple[Tensor, Tensor]:
    """Ids of the support ``[N, S]`` and which of its slots hold a token, bool ``[N, S]``; ``[N, V] x 2``.

    S is k for one side's k likeliest tokens; 2 k for the union and the intersection of both sides', with some
    slots empty, and all of them where an intersection is.
    """
    k = min(k, student.shape[-1])
    if whose in ("student", "teacher"):
        ids = (student if whose == "student" else teacher).topk(k, dim=-1).indices
        return ids, torch.ones_like(ids, dtype=torch.bool)
    ids = torch.cat([student.topk(k, dim=-1).indices, teacher.topk(k, dim=-1).indices], dim=-1).sort(dim=-1).values
    seen = torch.zeros_like(ids, dtype=torch.bool)  # the same id as the slot before: both sides have it
    seen[:, 1:] = ids[:, 1:] == ids[:, :-1]
    return ids, seen if whose == "intersection" else ~seen


def close_support(kept: Tensor, tail: bool) -> Tensor:
    """Turn the log-probabilities of K kept tokens ``[N, K]`` into a distribution.

    ``tail=True`` appends a bucket with the mass of every other token, ``[N, K + 1]``; ``False`` renormalises.
    """
    total = kept.logsumexp(-1, keepdim=True)
    if not tail:
        return kept - total
    return torch.cat([kept, torch.log(-torch.expm1(total.clamp(max=-1e-7)))], dim=-1)


def close_both(student: Tensor, teacher: Tensor, tail: bool, renormalise: Renormalise) -> tuple[Tensor, Tensor]:
    """`close_support` of both sides, ``[N, K] x 2 -> [N, K (+ 1)] x 2``; without a tail, of those to renormalise.

    A side that is not renormalised keeps its mass below 1, and the divergence may then be negative.
    """
    if tail or renormalise in ("both", "student"):
        student = close_support(student, tail)
    if tail or renormalise in ("both", "teacher"):
        teacher = close_support(teacher, tail)
    return student, teacher


def top_k_support(
    student: Tensor,
    teacher: Tensor,
    k: int,
    tail: bool,
    whose: Whose = "student",
    renormalise: Renormalise = "both",
) -> tuple[Tensor, Tensor]:
    """Both distributions on k of the likeliest tokens, ``[N, V] x 2 -> [N, S (+ 1)] x 2``.

    With ``tail`` the divergence over the result is a lower bound of the full one (data processing
    inequality); without, it ignores the mass outside the support.
    """
    ids, kept = choose(student, teacher, k, whose)
    p, q = (side.gather(-1, ids).where(kept, ABSENT) for side in (student, teacher))
    return close_both(p, q, tail, renormalise)


def support_divergence(
    student: Tensor,
    teacher: Tensor,
    kept: Tensor,
    alpha: float,
    tail: bool,
    renormalise: Renormalise,
    entry_clip: float | None = None,
    ratio_clip: float | None = None,
) -> Tensor:
    """`divergence` on a support: log-probabilities of its slots ``[N, S] x 2``, ``kept`` ``[N, S]``; ``-> [N]``.

    0 where no slot holds a token.
    """
    p, q = close_both(student.where(kept, ABSENT), teacher.where(kept, ABSENT), tail, renormalise)
    value = divergence(p, q, alpha, entry_clip=entry_clip, ratio_clip=ratio_clip)
    return value.where(kept.any(-1), 0.0)
