"""PW-OPSD: position-weighted OPSD (arXiv 2605.21606). The teacher errs at early branches and is right late.

    u_t = (t - 1/2) / T_i                                       place of token t of T_i
    w_t = w_min + (1 - w_min) sigmoid((u_t - tau) / s)
    d_t = sum_v min( q_t(v) [log q_t(v) - log p_t(v)], c )      forward KL, each vocabulary entry cut at c = 0.05
    L   = 1/n sum_i ( sum_t w_t d_t / T_i )

The weights are not scaled to a mean of 1: the schedule also shortens the step. ``mean="token"`` takes one mean over
all tokens instead, the other half of the paper's comparison. Everything else is `agents.recipes.opsd`.

Status: full, from the released code. n counts the sequences that have a teacher; over several turns a sequence is a
turn (our readings).

Caution: the published cut does not do what it is for. A cut entry has no gradient of its own, so that the gradient to
the logits is p_v Q - q_v 1[v not cut], Q the teacher's mass on the entries that are not cut: a cut token, one that
the teacher wants more of by far, is pushed down. On toys of 50 outcomes a small step raised the true KL in 71% to
100% of the states with a cut entry, and training with it ended far from the teacher (0.50 nats instead of 0.0006).
Published runs are short, and share weights between states, so this does not refute their numbers. The published value
is the default here, with a warning at start; ``clip_at="position"`` bounds what a position adds and keeps its
direction, ``clip=null`` cuts nothing. The ``teacher_gap`` of the metrics is never cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from agents.batch import Batch
from agents.credit.tokens import late, position
from agents.losses.reduction import sequence_mean, token_mean
from agents.losses.terms import Term
from agents.recipes.opsd import OPSD


class PWOPSD(OPSD):
    """`OPSD` that trusts late tokens."""

    name: ClassVar[str] = "pw_opsd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        **OPSD.run_defaults,
        "optim": {"lr": 5e-6, "clip_norm": 0.1},
        "steps": 150,
    }

    alpha: float = Field(0.0, ge=0, le=1, description="divergence: 0 forward KL, 1 reverse KL, between: JSD")
    clip: float | None = Field(0.05, gt=0, description="cap of the divergence, nats; null: none")
    clip_at: Literal["position", "entry"] = Field(
        "entry",
        description="what is capped: entry: each summand, as published (it reverses gradients); position: a position's "
        "sum, its gradient scaled down",
    )
    w_min: float = Field(0.25, ge=0, le=1, description="weight that the first tokens tend to")
    tau: float = Field(0.3, description="place in the sequence, in (0, 1), where the weight is halfway")
    s: float = Field(0.1, gt=0, description="width of the rise, in shares of the sequence")
    mean: Literal["sequence", "token"] = Field(
        "sequence", description="what weighs the same in the loss: every sequence, or every token"
    )

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on every token that the teacher scored, late ones more."""
        taught = batch.per_token(batch.taught).float()
        weights = late(position(batch.sequence, batch.lengths), self.w_min, self.tau, self.s)
        if self.mean == "token":
            return [self.distill(token_mean(taught, weights))]
        n = len(batch)
        coefficients = sequence_mean(taught, batch.sequence, n, weights)
        return [self.distill(coefficients * n / max(int(batch.taught.sum()), 1))]
