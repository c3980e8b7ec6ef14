"""The last layer of a language model, a teacher made of several of them, and what is measured per token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Head:
    """``hidden -> logits``: a linear map, a scale, and an optional tanh cap."""

    weight: Tensor
    """[V, d]"""
    bias: Tensor | None = None
    """[V]"""
    scale: float = 1.0
    """Multiplies the linear map (Cohere's logit_scale, one over Granite's logits_scaling)."""
    softcap: float | None = None
    """``softcap * tanh(z / softcap)`` on the scaled map (Gemma's final_logit_softcapping)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """``[N, d] -> [N, V]``, float32 (float64 for float64 weights).

        The product is taken in the weights' dtype, as the model and its sampler take it.
        """
        z = F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.scale != 1.0:
            z = z.mul_(self.scale)
        if self.softcap is not None:
            z = z.div_(self.softcap).tanh_() * self.softcap
        return z


@dataclass
class Teacher:
    """Logits that are a weighted sum of heads, each on its own hidden states.

    One part is a live, averaged or frozen teacher. Two parts ``[(1 - u, h_ref, ref), (u, h_student, head)]``
    are the trust-region teacher, ``q ~ p_ref^(1 - u) p_student^u``. The hidden states were read under the
    teacher's context, at the positions that predict the same tokens as the student's.
    """

    parts: list[tuple[float, Tensor, Head]]
    """(coefficient, hidden [number of taught tokens, d], head)"""
    temperature: float = 1.0
    """Divides the summed logits. Pass the rollout's temperature to compare like with like."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a teacher needs at least one part")
        if self.temperature <= 0:
            raise ValueError(f"teacher temperature={self.temperature} must be above 0")

    @property
    def rows(self) -> int:
        """Number of tokens this teacher speaks about."""
        return len(self.parts[0][1])

    def take(self, rows: Tensor) -> Teacher:
        """The same teacher on some of its rows."""
        return replace(self, parts=[(c, hidden[rows.to(hidden.device)], head) for c, hidden, head in self.parts])

    @torch.no_grad()
    def logits(self, rows: Tensor | slice) -> Tensor:
        """Logits ``[len(rows), V]`` of some of the rows, without gradient, on the device of ``rows``."""
        total: Tensor | None = None
        for coefficient, hidden, head in self.parts:
            if isinstance(rows, Tensor):  # a part may be another model, on another device
                z = head.logits(hidden[rows.to(hidden.device)]).to(rows.device)
            else:
                z = head.logits(hidden[rows])
            if coefficient != 1.0:
                z.mul_(coefficient)
            total = z if total is None else total.add_(z)
        assert total is not None
        return total if self.temperature == 1.0 else total.div_(self.temperature)


@dataclass
class TokenStats:
    """Measurements at each of the N tokens, detached, float32 (float64 for float64 weights), nats.

    The teacher is the stream of the first Distill term; "teacher" if there is none. NaN where not computed: the
    teacher's fields where it says nothing, everything where stats were not asked for and the token has no part
    in the loss.
    """

    logp: Tensor
    """[N] student's log-probability of the target."""
    entropy: Tensor
    """[N] of the student."""
    teacher_logp: Tensor
    """[N] teacher's log-probability of the target."""
    teacher_entropy: Tensor
    """[N]; NaN for a sparse teacher."""
    divergence: Tensor
    """[N] of the first Distill term, on its support, without its clips; Jensen-Shannon if there is none; for the
    sampled forms, whose own value is no divergence, the reverse KL over the vocabulary. For a sparse teacher the
    last two are on its tokens and a tail: lower bounds."""
    top_ids: Tensor | None = None
    """[N, top] the teacher's likeliest tokens, -1 where untaught or unknown; None unless ``top`` > 0."""
    top_teacher: Tensor | None = None
    """[N, top] their probabilities under the teacher."""
    top_student: Tensor | None = None
    """[N, top] their probabilities under the student."""

    @classmethod
    def empty(cls, n: int, top: int, dtype: torch.dtype, device: torch.device) -> TokenStats:
        """All NaN."""

        def nan(*shape: int) -> Tensor:
            return torch.full(shape, torch.nan, dtype=dtype, device=device)

        stats = cls(nan(n), nan(n), nan(n), nan(n), nan(n))
        if top:
            stats.top_ids = torch.full((n, top), -1, dtype=torch.long, device=device)
            stats.top_teacher, stats.top_student = nan(n, top), nan(n, top)
        return stats
