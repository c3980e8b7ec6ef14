"""How far the teacher is from the student at one position: the formulas, as a paper writes them.

``p`` is the student, ``q`` the teacher, ``[N, S]`` log-probabilities over any support of S outcomes: a whole
vocabulary, or a few tokens and a bucket for the rest. Equations: self-distillation policy optimisation
(SDPO), section "divergences"; the generalised Jensen-Shannon divergence is that of on-policy distillation
(GKD, eq. 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_alpha(alpha: float) -> None:
    """Raise ValueError where ``alpha`` is outside [0, 1]."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha={alpha} is outside [0, 1]: 0 is the forward KL, 1 the reverse KL")


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats, ``[N]``. An outcome with p = 0 contributes 0, whatever q is."""
    possible = p != -math.inf
    log_ratio = p.where(possible, 0.0) - q.where(possible, 0.0)
    return (p.exp() * log_ratio).sum(-1)


def divergence(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """Divergence of the student's distribution from the teacher's, nats, ``[N, S] x [N, S] -> [N]``.

    - ``alpha = 0``: forward KL, KL(q || p): the student covers all of the teacher.
    - ``alpha = 1``: reverse KL, KL(p || q): the student seeks the teacher's mode.
    - between: ``(1 - alpha) KL(p || M) + alpha KL(q || M)`` with ``M = (1 - alpha) p + alpha q``;
      0.5 is the Jensen-Shannon divergence.

    The three are different objectives: the middle one tends to 0, not to a KL, as alpha nears either end.
    """
    check_alpha(alpha)
    if alpha == 0.0:
        return kl(teacher, student)
    if alpha == 1.0:
        return kl(student, teacher)
    both = torch.stack([student + math.log1p(-alpha), teacher + math.log(alpha)])
    mixture = torch.logsumexp(both, dim=0)
    return (1 - alpha) * kl(student, mixture) + alpha * kl(teacher, mixture)


def close_support(kept: Tensor, tail: bool) -> Tensor:
    """Turn the log-probabilities of K kept tokens ``[N, K]`` into a distribution.

    ``tail=True`` appends a bucket with the mass of every other token, ``[N, K + 1]``; ``False`` renormalises.
    """
    total = kept.logsumexp(-1, keepdim=True)
    if not tail:
        return kept - total
    return torch.cat([kept, torch.log(-torch.expm1(total.clamp(max=-1e-7)))], dim=-1)


def top_k_support(student: Tensor, teacher: Tensor, k: int, tail: bool) -> tuple[Tensor, Tensor]:
    """Both distributions on the student's k likeliest tokens, ``[N, V] x 2 -> [N, k (+ 1)] x 2``.

    With ``tail`` the divergence over the result is a lower bound of the full one (data processing
    inequality); without, it ignores the mass outside the k tokens.
    """
    kept, ids = student.topk(min(k, student.shape[-1]), dim=-1)
    return close_support(kept, tail), close_support(teacher.gather(-1, ids), tail)


def sampled_token(student_logp_y: Tensor, teacher_logp_y: Tensor) -> Tensor:
    """``stopgrad(log p(y) - log q(y)) * log p(y)``, ``[N] x [N] -> [N]``, y the sampled token.

    Its gradient is a one-sample estimate of the reverse KL's; its value is not a divergence and has any sign.
    """
    return (student_logp_y - teacher_logp_y).detach() * student_logp_y
