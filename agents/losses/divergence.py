"""How far the teacher is from the student at one position: the formulas, as a paper writes them.

``p`` is the student, ``q`` the teacher, ``[N, S]`` log-probabilities over any support of S outcomes
(`agents.losses.support`): a whole vocabulary, or a few tokens and a bucket for the rest. Equations:
self-distillation policy optimisation (SDPO), section "divergences"; the generalised Jensen-Shannon
divergence is that of on-policy distillation (GKD, eq. 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to +-20 nats before exp."""


def check_alpha(alpha: float) -> None:
    """Raise ValueError where ``alpha`` is outside [0, 1]."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha={alpha} is outside [0, 1]: 0 is the forward KL, 1 the reverse KL")


def kl_entries(p: Tensor, q: Tensor) -> Tensor:
    """``p log(p / q)`` of each outcome, ``[N, S]``. An outcome with p = 0 contributes 0, whatever q is."""
    possible = p != -math.inf
    return p.exp() * (p.where(possible, 0.0) - q.where(possible, 0.0))


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats, ``[N]``."""
    return kl_entries(p, q).sum(-1)


def entries(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """The summands of `divergence`, one for each outcome, ``[N, S] x [N, S] -> [N, S]``. Any may be negative."""
    check_alpha(alpha)
    if alpha == 0.0:
        return kl_entries(teacher, student)
    if alpha == 1.0:
        return kl_entries(student, teacher)
    both = torch.stack([student + math.log1p(-alpha), teacher + math.log(alpha)])
    mixture = torch.logsumexp(both, dim=0)
    return (1 - alpha) * kl_entries(student, mixture) + alpha * kl_entries(teacher, mixture)


def ratio_clipped_entries(student: Tensor, teacher: Tensor, alpha: float, clip: float) -> Tensor:
    """`entries` as an f-divergence ``p f(q / p)`` with the ratio clipped to ``[1 / clip, clip]``, ``[N, S]``.

    RESD's bound on single tokens. A clipped entry still has the gradient of its weight p.
    """
    check_alpha(alpha)
    possible = student != -math.inf
    bound = math.log(clip)
    log_ratio = (teacher.where(possible, 0.0) - student.where(possible, 0.0)).clamp(-bound, bound)
    p = student.exp()
    if alpha == 0.0:
        return p * log_ratio.exp() * log_ratio
    if alpha == 1.0:
        return -p * log_ratio
    ratio = log_ratio.exp()
    mixture = torch.log(1 - alpha + alpha * ratio)  # M / p
    return p * (alpha * ratio * (log_ratio - mixture) - (1 - alpha) * mixture)


def divergence(
    student: Tensor,
    teacher: Tensor,
    alpha: float,
    *,
    entry_clip: float | None = None,
    ratio_clip: float | None = None,
) -> Tensor:
    """Divergence of the student's distribution from the teacher's, nats, ``[N, S] x [N, S] -> [N]``.

    - ``alpha = 0``: forward KL, KL(q || p): the student covers all of the teacher.
    - ``alpha = 1``: reverse KL, KL(p || q): the student seeks the teacher's mode.
    - between: ``(1 - alpha) KL(p || M) + alpha KL(q || M)`` with ``M = (1 - alpha) p + alpha q``;
      0.5 is the Jensen-Shannon divergence.

    The three are different objectives: the middle one tends to 0, not to a KL, as alpha nears either end.

    ``entry_clip`` caps each summand before the sum (OPSD, PW-OPSD, TRACE: 0.05): a token that the teacher wants
    more of by far then loses its own gradient and is pushed down. ``ratio_clip``: see `ratio_clipped_entries`.
    """
    if ratio_clip is None:
        summands = entries(student, teacher, alpha)
    else:
        summands = ratio_clipped_entries(student, teacher, alpha, ratio_clip)
    if entry_clip is not None:
        summands = summands.clamp(max=entry_clip)
    return summands.sum(-1)


def position_weight(value: Tensor, clip: float) -> Tensor:
    """``min(1, clip / stopgrad(value))``, ``[N]``: caps a position's divergence and keeps its gradient's direction."""
    return clip / value.detach().clamp(min=clip)


# Estimates from the sampled token y ~ p alone, [N] x [N] -> [N]


def sampled_token(student_logp_y: Tensor, teacher_logp_y: Tensor) -> Tensor:
    """``stopgrad(log p(y) - log q(y)) * log p(y)``.

    Its gradient is a one-sample estimate of the reverse KL's; its value is not a divergence and has any sign.
    """
    return (student_logp_y - teacher_logp_y).detach() * student_logp_y


def sampled_token_baseline(student_logp_y: Tensor, teacher_logp_y: Tensor, baseline: Tensor) -> Tensor:
    """`sampled_token` with a control variate: ``stopgrad(log p(y) - log q(y) - baseline) * log p(y)`` (vOPD).

    vOPD's baseline is KL(p || q), the expected log-ratio. None that ignores y biases the gradient. The
    variance falls where student and teacher are far apart; where they are close it may rise.
    """
    return (student_logp_y - teacher_logp_y - baseline).detach() * student_logp_y


def k2(student_logp_y: Tensor, teacher_logp_y: Tensor) -> Tensor:
    """``(log p(y) - log q(y))^2 / 2``: the gradient of `sampled_token`, with a value that is never negative."""
    return (student_logp_y - teacher_logp_y).square() / 2


def k3(student_logp_y: Tensor, teacher_logp_y: Tensor) -> Tensor:
    """``e^d - d - 1`` with ``d = log q(y) - log p(y)``: an unbiased, never negative estimate of KL(p || q).

    Its *gradient* is ``(1 - q(y) / p(y)) grad log p(y)``, which over y ~ p is the forward KL's, not the reverse
    KL's. ``d`` is clamped to +-20 inside the exponential.
    """
    d = teacher_logp_y - student_logp_y
    return d.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp() - d - 1
