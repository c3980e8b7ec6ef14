"""From labels and confidence to one weight a token (SAGE-OPD, arXiv 2606.19659, to its equation 12).

    m_k  = 0, alpha or 1                  for a turn that is skip, weak or strong
    c_k  = mean over the turn's tokens of max_v q(v)        or per token, or 1
    w_t  = m_k c_k                        for every response token t of turn k
    Z    = N / sum_t w_t                  over the whole optimiser batch
    L    = 1/N sum_t Z w_t l_t

The tokens of a skipped turn stay in N. Where all w are 0, so is L. N / sum w is the case of equal coefficients 1/N of
what holds for any: with coefficients a_t, Z = sum |a_t| / sum |a_t| w_t keeps their total, so that the same parts
serve a loss that is a mean over sequences (our extension).

All of it is made in float64 and rounded once: with equal weights the coefficients come back bit for bit. Nothing here
carries a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agents.credit.labels import Label

Scope = Literal["turn", "token", "off"]


@dataclass(frozen=True)
class Totals:
    """The two sums that the normaliser is made of; those of several ranks or micro-batches add up."""

    mass: float
    """sum |a_t|; N / N = 1 for a mean over N tokens."""
    weighted: float
    """sum |a_t| w_t."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.mass + other.mass, self.weighted + other.weighted)


def turn_weights(labels: Sequence[Label], weak: float) -> Tensor:
    """m, [samples] float64, from one label a sample; ``weak`` is the paper's alpha, 0 < alpha < 1.

    >>> turn_weights(["skip", "weak", "strong"], 0.5).tolist()
    [0.0, 0.5, 1.0]
    """
    table = {"skip": 0.0, "weak": weak, "strong": 1.0}
    return torch.tensor([table[label] for label in labels], dtype=torch.float64)


def confidence(top1: Tensor, sequence: Tensor, n: int, scope: Scope) -> Tensor:
    """c, [N] float64, from the teacher's top-1 probability of each token.

    ``top1``: [N] in [0, 1], anything where the teacher read nothing; ``sequence``: [N], the sample of each token, in
    [0, n). "turn": the mean over the sample's tokens; "token": as it is; "off": 1.
    """
    values = top1.detach().double()
    if scope == "off":
        return torch.ones_like(values)
    if scope == "token":
        return values
    total = torch.zeros(n, dtype=torch.float64).index_add_(0, sequence, values)
    length = torch.zeros(n, dtype=torch.float64).index_add_(0, sequence, torch.ones_like(values))
    return (total / length.clamp(min=1))[sequence]


def totals(coefficients: Tensor, weights: Tensor) -> Totals:
    """The sums over these tokens, [N] each; a weight where the coefficient is 0 may be anything, NaN included."""
    mass = coefficients.detach().double().abs()
    weighted = torch.where(mass > 0, mass * weights.detach().double(), 0.0)
    return Totals(float(mass.sum()), float(weighted.sum()))


def normaliser(whole: Totals, max_scale: float | None = None) -> float:
    """Z of the whole optimiser batch, at most ``max_scale``; 0 where every weight is 0.

    Few taught tokens make Z large: with one in twenty, 20.
    """
    if whole.weighted <= 0:
        return 0.0
    z = whole.mass / whole.weighted
    return z if max_scale is None else min(z, max_scale)


def scaled(coefficients: Tensor, weights: Tensor, z: float) -> Tensor:
    """Z w_t a_t, [N], in the coefficients' dtype; 0 stays 0."""
    a = coefficients.detach().double()
    return torch.where(a != 0, a * (weights.detach().double() * z), 0.0).to(coefficients.dtype)
