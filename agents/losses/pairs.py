"""Preference loss on pairs of sequences: prefer one to the other, each against a reference of its own.

    m = beta [ (log pi(y+) - ref+) - (log pi(y-) - ref-) ]
    L = -( l log sigmoid(m) + (1 - l) log sigmoid(-m) )

with sums over the tokens of a sequence, l = 1 or a soft label. Direct preference optimisation (DPO eq. 7) has
one reference model; preference-based self-distillation (PBSD) takes the teacher under its own prompt for both
sides. A margin needs whole sequences, a micro-batch may hold half of one: so the sums are read once, at the
current weights (a pass without gradient over the whole batch), and give a `Pointwise` term that is linear in
each token's log-probability. At those weights its value and its gradient are exactly the loss's, however tokens
are cut into micro-batches; after an optimiser step, read and build anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.losses.terms import Pointwise


@dataclass(frozen=True)
class Pairs:
    """P pairs of sequences out of S. A sequence may be in several."""

    chosen: Tensor
    """[P] index of the sequence to prefer."""
    rejected: Tensor
    """[P] index of the other."""
    chosen_reference: Tensor
    """[P] sum of the chosen sequence's log-probabilities under its reference, nats; see `sequence_sums`."""
    rejected_reference: Tensor
    """[P] the same of the rejected one, under its own."""
    labels: Tensor | None = None
    """[P] probability that "chosen" is the better one, in [0, 1]; None: 1 everywhere. Bradley-Terry labels are
    ``sigmoid(r(chosen) - r(rejected))``."""
    weights: Tensor | None = None
    """[P] that already hold the global denominator; None: the mean over pairs."""

    def __post_init__(self) -> None:
        for name in ("rejected", "chosen_reference", "rejected_reference", "labels", "weights"):
            column = getattr(self, name)
            if column is not None and column.shape != self.chosen.shape:
                raise ValueError(f"{name} has shape {tuple(column.shape)} for {tuple(self.chosen.shape)} pairs")
        for name in ("chosen_reference", "rejected_reference"):
            if bool(getattr(self, name).isnan().any()):
                raise ValueError(f"{name} is NaN somewhere: its reference did not read every token of that sequence")
        if self.labels is not None and bool(((self.labels < 0) | (self.labels > 1)).any()):
            raise ValueError("labels must be probabilities, in [0, 1]")


@dataclass(frozen=True)
class Preference:
    """A preference loss at the current weights."""

    term: Pointwise
    """To hand to the loss; multiply its ``coefficients`` to weigh it."""
    margins: Tensor
    """[P] m; above 0 where "chosen" is preferred."""
    losses: Tensor
    """[P] nats, without weights."""


def preference_loss(margins: Tensor, labels: Tensor | None = None) -> Tensor:
    """``-(l log sigmoid(m) + (1 - l) log sigmoid(-m))``, ``[P] -> [P]``; labels default to 1."""
    if labels is None:
        return -F.logsigmoid(margins)
    return -(labels * F.logsigmoid(margins) + (1 - labels) * F.logsigmoid(-margins))


def sequence_sums(logprobs: Tensor, sequence: Tensor, n_sequences: int, mask: Tensor | None = None) -> Tensor:
    """Sum of the tokens' log-probabilities by sequence, ``[N] x [N] -> [n_sequences]``; those under ``mask`` [N]."""
    if mask is not None:
        logprobs = logprobs.masked_fill(~mask, 0.0)
    return logprobs.new_zeros(n_sequences).index_add(0, sequence, logprobs)


def preference(
    pairs: Pairs,
    logprobs: Tensor,
    sequence: Tensor,
    n_sequences: int,
    *,
    beta: float,
    length_normalised: bool = False,
    mask: Tensor | None = None,
) -> Preference:
    """The loss of ``pairs`` as a term on tokens.

    Args:
        pairs: which sequences to compare, and their references.
        logprobs: ``[N]`` of the policy at its current weights, without gradient.
        sequence: ``[N]`` index of the sequence that each token belongs to.
        n_sequences: S.
        beta: scale of the margin, above 0.
        length_normalised: divide a sequence's log-ratio by its number of tokens.
        mask: ``[N]`` bool, the tokens that count (in the reference sums as well); None: all.

    Raises:
        ValueError: beta is not above 0, or a pair has a sequence without tokens.
    """
    if beta <= 0:
        raise ValueError(f"beta={beta} must be above 0")
    logprobs = logprobs.detach()
    counted = torch.ones_like(sequence, dtype=torch.bool) if mask is None else mask
    lengths = sequence_sums(torch.ones_like(logprobs), sequence, n_sequences, counted)
    if bool((lengths[pairs.chosen] == 0).any() or (lengths[pairs.rejected] == 0).any()):
        raise ValueError("a pair has a sequence without tokens: leave such pairs out")
    sums = sequence_sums(logprobs, sequence, n_sequences, counted)
    scale = beta / lengths if length_normalised else torch.full_like(lengths, beta)

    def side(index: Tensor, reference: Tensor) -> Tensor:
        return (sums[index] - reference.to(sums.dtype)) * scale[index]

    margins = side(pairs.chosen, pairs.chosen_reference) - side(pairs.rejected, pairs.rejected_reference)
    labels = None if pairs.labels is None else pairs.labels.to(sums.dtype)
    losses = preference_loss(margins, labels)
    if pairs.weights is None:
        weights = torch.full_like(margins, 1.0 / max(len(margins), 1))
    else:
        weights = pairs.weights.to(sums.dtype)

    slope = weights * (margins.sigmoid() - (1.0 if labels is None else labels))  # to the margin
    share = weights * losses / (lengths[pairs.chosen] + lengths[pairs.rejected])  # of each token, in the value
    slopes, shares = torch.zeros_like(lengths), torch.zeros_like(lengths)
    for index, sign in ((pairs.chosen, 1.0), (pairs.rejected, -1.0)):
        slopes.index_add_(0, index, sign * slope * scale[index])
        shares.index_add_(0, index, share)
    paired = torch.zeros(n_sequences, dtype=torch.bool, device=sequence.device)
    paired[pairs.chosen] = paired[pairs.rejected] = True
    constants = {"slope": slopes[sequence], "value": shares[sequence]}
    coefficients = (paired[sequence] & counted).to(sums.dtype)
    return Preference(Pointwise(coefficients, _linear, constants), margins, losses)


def _linear(logp: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
    return constants["value"] + constants["slope"] * (logp - logp.detach())
