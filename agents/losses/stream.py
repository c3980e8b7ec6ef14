"""A teacher that a server gives: its likeliest tokens at each position."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class SparseTeacher:
    """What a served model says: the log-probabilities of its K likeliest tokens, and of the sampled one.

    A `Distill` on it has ``support="teacher"`` and ``top_k`` K or None, or form "sampled", "k2" or "k3".
    The numbers hold at the temperature at which they were asked for.
    """

    ids: Tensor
    """[T, K] long, T the number of taught tokens."""
    logprobs: Tensor
    """[T, K], over the whole vocabulary, nats; -inf: no token in this slot."""
    target_logprob: Tensor
    """[T] of the sampled token; NaN where unknown."""

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.logprobs.shape or len(self.target_logprob) != len(self.ids):
            raise ValueError(
                f"ids {tuple(self.ids.shape)} and logprobs {tuple(self.logprobs.shape)} must be [T, K] alike, "
                f"target_logprob {tuple(self.target_logprob.shape)} must be [T]"
            )
        if self.logprobs.numel() and float(self.logprobs.logsumexp(-1).max()) > 0.01:
            raise ValueError("logprobs of a sparse teacher sum to more than 1: give log-probabilities, not logits")

    @property
    def rows(self) -> int:
        """Number of tokens this teacher speaks about."""
        return len(self.ids)

    def take(self, rows: Tensor) -> SparseTeacher:
        """The same teacher on some of its rows."""
        rows = rows.to(self.ids.device)
        return SparseTeacher(self.ids[rows], self.logprobs[rows], self.target_logprob[rows])
