"""From a mask over tokens to the coefficient of each: mask x weight / denominator.

Call these once per optimiser step, on the tokens of all micro-batches (and, with ``denominator`` or
``n_sequences`` summed over workers, of all workers): the slices that a micro-batch takes then add up to the
same loss however they are cut.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _numerator(mask: Tensor, weights: Tensor | None) -> Tensor:
    """``mask * weights`` as floats, ``[N]``; a weight under a zero mask may be anything."""
    numbers = mask.to(torch.get_default_dtype() if not mask.is_floating_point() else mask.dtype)
    return numbers if weights is None else torch.where(mask != 0, numbers * weights, 0.0)


def token_mean(mask: Tensor, weights: Tensor | None = None, denominator: float | None = None) -> Tensor:
    """Every counted token weighs the same, ``[N] -> [N]``: a long answer counts more than a short one.

    ``denominator`` defaults to the number of counted tokens (at least 1).
    """
    numerator = _numerator(mask, weights)
    total = float(mask.sum()) if denominator is None else float(denominator)
    if total < 0:
        raise ValueError(f"denominator={denominator} is negative")
    return numerator / (total if total > 0 else 1.0)


def sequence_mean(mask: Tensor, sequence_ids: Tensor, n_sequences: int, weights: Tensor | None = None) -> Tensor:
    """Every sequence weighs the same: the mean over ``n_sequences`` of each one's mean over counted tokens.

    ``sequence_ids``: ``[N]``, integers in [0, n_sequences). A sequence without counted tokens contributes 0
    and still counts in ``n_sequences``: SDPO's token-mean at its released micro-batch size of 1.
    """
    if n_sequences < 1:
        raise ValueError(f"n_sequences={n_sequences}: there must be at least one sequence")
    numerator = _numerator(mask, weights)
    counted = _numerator(mask, None)
    lengths = torch.zeros(n_sequences, dtype=counted.dtype, device=mask.device)
    lengths.index_add_(0, sequence_ids, counted)
    return numerator / (n_sequences * lengths.clamp(min=1)[sequence_ids])


def sequence_sum_norm(mask: Tensor, n_sequences: int, max_length: int, weights: Tensor | None = None) -> Tensor:
    """Sum over tokens over the constant ``n_sequences * max_length`` (Dr. GRPO): no bias by length."""
    if n_sequences < 1 or max_length < 1:
        raise ValueError(f"n_sequences={n_sequences} and max_length={max_length} must both be at least 1")
    return _numerator(mask, weights) / (n_sequences * max_length)
