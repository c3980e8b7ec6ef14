"""How much a token counts: factors that multiply, each a pure function of measurements, [N] to [N], without gradient.

Statistics over tokens (quantiles, ranges, means) are taken over a declared scope, the whole optimiser batch or each
sequence, before anything is split: no number depends on micro-batches. The order, where a log-ratio becomes an
advantage: clip, centre, weigh, add the group's advantage, surrogate.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Scope = Literal["batch", "sequence"]


def _sums(values: Tensor, counted: Tensor, sequence: Tensor, n: int) -> tuple[Tensor, Tensor]:
    total = torch.zeros(n, dtype=values.dtype).index_add_(0, sequence, torch.where(counted, values, 0.0))
    count = torch.zeros(n, dtype=values.dtype).index_add_(0, sequence, counted.to(values.dtype))
    return total, count


def sequence_mean_of(values: Tensor, counted: Tensor, sequence: Tensor, n: int) -> Tensor:
    """[n] mean over each sequence's counted tokens; NaN where it has none."""
    total, count = _sums(values, counted, sequence, n)
    return total / count


def mean_one(weights: Tensor, counted: Tensor, sequence: Tensor, n: int, scope: Scope) -> Tensor:
    """Weights scaled so that their mean over the counted tokens of the scope is 1; 0 elsewhere.

    A scope whose weights add up to 0 keeps zeros.
    """
    weights = torch.where(counted, weights, 0.0)
    if scope == "batch":
        total = weights.sum()
        return weights * (counted.sum() / total) if total > 0 else torch.zeros_like(weights)
    sums, count = _sums(weights, counted, sequence, n)
    scale = torch.where(sums > 0, count / sums, 0.0)
    return weights * scale[sequence]


def unit_range(values: Tensor, counted: Tensor, upper_quantile: float = 1.0) -> Tensor:
    """Min-max over the counted tokens of the batch, to [0, 1], cut off at a quantile from above; 0 elsewhere (TIP).

    Equal values become 0.
    """
    if not counted.any():
        return torch.zeros_like(values)
    known = values[counted]
    low, high = known.min(), known.quantile(upper_quantile)
    if not high > low:
        return torch.zeros_like(values)
    return torch.where(counted, ((values - low) / (high - low)).clamp(0, 1), 0.0)


def soft_or(a: Tensor, b: Tensor) -> Tensor:
    """``a + b - ab`` of scores in [0, 1] (TIP, arXiv 2604.14084).

    >>> soft_or(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.0, 0.5, 0.5])).tolist()
    [0.0, 1.0, 0.75]
    """
    return a + b - a * b


def top_share(scores: Tensor, counted: Tensor, share: float) -> Tensor:
    """[N] bool: the ``ceil(share * counted)`` counted tokens with the highest scores; earlier ones win ties."""
    places = counted.nonzero()[:, 0]
    keep = math.ceil(share * len(places))
    kept = torch.zeros_like(counted)
    order = scores[places].argsort(descending=True, stable=True)
    kept[places[order[:keep]]] = True
    return kept


def ratio_weight(log_ratio: Tensor, sign: Tensor, clip: float) -> Tensor:
    """``clip(exp(sign d), 1 - clip, 1 + clip)``: RLSD (arXiv 2604.03128); with -sign RLRT (arXiv 2605.10781)."""
    return (sign * log_ratio).clamp(-20, 20).exp().clamp(1 - clip, 1 + clip)


def centred(values: Tensor, counted: Tensor, sequence: Tensor, n: int, scope: Scope, scale: bool = False) -> Tensor:
    """Counted values less their scope's mean, with ``scale`` over its deviation (biased, plus 1e-6); 0 elsewhere."""
    if scope == "batch":
        sequence, n = torch.zeros_like(sequence), 1
    mean = sequence_mean_of(values, counted, sequence, n)[sequence]
    off = torch.where(counted, values - mean, 0.0)
    if not scale:
        return off
    variance = sequence_mean_of(off.square(), counted, sequence, n)[sequence]
    return torch.where(counted, off / (variance.sqrt() + 1e-6), 0.0)


def position(sequence: Tensor, lengths: Tensor) -> Tensor:
    """[N] place of each token in its sequence, (t - 0.5) / T with t from 1: in (0, 1).

    >>> position(torch.tensor([0, 0, 1]), torch.tensor([2, 1])).tolist()
    [0.25, 0.75, 0.5]
    """
    starts = lengths.cumsum(0) - lengths
    index = torch.arange(len(sequence)) - starts[sequence]
    return (index + 0.5) / lengths[sequence]


def late(places: Tensor, floor: float, centre: float, width: float) -> Tensor:
    """``floor + (1 - floor) sigmoid((place - centre) / width)``, in (floor, 1): late tokens count more (PW-OPSD).

    ``places`` are those of `position`; 0.25, 0.3, 0.1 is the published moderate setting (arXiv 2605.21606).
    """
    return floor + (1 - floor) * torch.sigmoid((places - centre) / width)


def drawn(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Scores whose k highest are k draws without replacement, each in proportion to its weight (Gumbel top-k).

    A weight of 0 is drawn last. `top_share` takes what it keeps.
    """
    uniform = torch.rand(weights.shape, generator=generator, dtype=torch.float64).clamp(min=1e-300)
    return weights.double().log() - (-uniform.log()).log()


def reward_to_go(
    rewards: Tensor, counted: Tensor, sequence: Tensor, discount: float = 1.0, normalised: bool = True
) -> Tensor:
    """[N] what the counted tokens behind each one in its sequence earn, its own reward left out (MiniLLM, eq. 5).

        R_t = sum_{k >= 1} discount^(k - 1) r_{t + k}      normalised: over the sum of its discounts

    Tokens that are not counted earn 0 and have no weight in the sum of discounts. 0 where nothing comes after.

    >>> reward_to_go(torch.tensor([5.0, 1.0, 3.0]), torch.ones(3, dtype=torch.bool), torch.zeros(3)).tolist()
    [2.0, 3.0, 0.0]
    """
    earned, tokens, place = rewards.masked_fill(~counted, 0.0).tolist(), counted.tolist(), sequence.tolist()
    result = [0.0] * len(earned)
    total = weight = 0.0
    for t in range(len(earned) - 2, -1, -1):
        if place[t + 1] != place[t]:
            total = weight = 0.0
            continue
        total, weight = earned[t + 1] + discount * total, tokens[t + 1] + discount * weight
        result[t] = total / weight if normalised and weight > 0 else total
    return torch.tensor(result, dtype=rewards.dtype)
