"""What a loss is made of: a list of terms, each with its own coefficient per token.

    loss = sum over terms, sum over tokens t:  coefficients[t] * per_token_loss[t]

A coefficient is mask x weight / denominator with the denominator of the whole optimiser step
(`agents.losses.reduction`), so the loss and its gradient do not depend on how tokens are split into
micro-batches. Where a coefficient is exactly 0 nothing is computed, so nothing there can spoil the sum. A
negative one turns descent into ascent.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor

from agents.losses.divergence import check_alpha
from agents.losses.support import Renormalise, Whose

Form = Literal["full", "sampled", "k2", "k3", "baseline"]
Surrogate = Literal["clip", "cispo", "plain"]


@dataclass(frozen=True)
class Distill:
    """Divergence from a teacher (`agents.losses.divergence`), times the importance weights rho and w.

    What is reported (`agents.losses.head.TokenStats`) is the divergence without ``clip`` and ``ratio_clip``.
    """

    coefficients: Tensor
    """[N]; must be 0 where the teacher has nothing to say."""
    alpha: float = 0.5
    """0: forward KL, KL(q || p); 1: reverse KL; between: Jensen-Shannon. The sampled forms need 1."""
    top_k: int | None = None
    """Compare on k likeliest tokens only; None: on the whole vocabulary, or on all that a sparse teacher gave."""
    tail: bool = True
    """On k tokens: one more bucket for all others, instead of renormalising. Not for form "baseline"."""
    form: Form = "full"
    """- "full": the divergence itself, over the vocabulary or the k tokens.
    - "sampled": one-sample estimate of the reverse KL's gradient, from the sampled token.
    - "k2": half the squared log-ratio of the sampled token; the same gradient.
    - "k3": ``e^d - d - 1``, ``d = log q - log p``; estimates the reverse KL, but its expected gradient is the
      forward KL's (the weight rho is a constant here).
    - "baseline": "sampled" minus the control variate KL(p || q) (vOPD), over the vocabulary, or with ``top_k``
      over the student's k likeliest tokens, both sides renormalised.
    """
    is_clip: float | None = 2.0
    """Cap of each importance weight; None: no cap."""
    teacher: str = "teacher"
    """The stream of teacher logits that this term compares with."""
    support: Whose = "student"
    """Whose k likeliest tokens."""
    renormalise: Renormalise = "both"
    """On k tokens without a tail: which side is made to sum to 1."""
    clip: float | None = None
    """Cap, nats, above 0; None: no cap."""
    clip_at: Literal["position", "entry"] = "position"
    """- "position": the position weighs ``min(1, clip / stopgrad(D))``, so that its gradient keeps its direction.
    - "entry": each vocabulary entry of the sum is cut at ``clip``, as OPSD, PW-OPSD and TRACE do at 0.05; for
      replication only, as it reverses the gradient of the entries that it cuts.
    """
    ratio_clip: float | None = None
    """q / p is clipped to [1 / c, c] inside the divergence (RESD), c above 1; needs a ``top_k``."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        for name, options in (("form", Form), ("support", Whose), ("renormalise", Renormalise)):
            if getattr(self, name) not in get_args(options):
                raise ValueError(f"{name}={getattr(self, name)!r} is none of {', '.join(get_args(options))}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: keep at least one token, or None for the whole vocabulary")
        if self.form != "full":
            self._check_sampled()
        if self.support in ("union", "intersection") and self.top_k is None:
            raise ValueError(f"support={self.support!r} needs a top_k: the k of each side")
        few = self.top_k is not None or self.support == "teacher"
        if self.renormalise != "both" and (self.tail or not few):
            raise ValueError(f"renormalise={self.renormalise!r} needs a top_k and tail=False")
        if self.ratio_clip is not None and (self.ratio_clip <= 1 or not few):
            raise ValueError(f"ratio_clip={self.ratio_clip} must be above 1, and needs a top_k")
        if self.clip_at not in ("position", "entry"):
            raise ValueError(f"clip_at={self.clip_at!r} is neither 'position' nor 'entry'")
        if self.clip is None:
            return
        if self.clip <= 0:
            raise ValueError(f"clip={self.clip} must be above 0 nats, or None")
        if self.clip_at == "entry":
            warnings.warn(
                "clip_at='entry' reverses gradients: a token that the teacher wants more of, and whose entry is "
                "capped, is pushed down; use it for replication, and clip_at='position' otherwise",
                stacklevel=3,
            )

    def _check_sampled(self) -> None:
        if self.alpha != 1.0 or (self.top_k is not None and self.form != "baseline"):
            raise ValueError(
                f"form={self.form!r} estimates the reverse KL: it needs alpha=1 and top_k=None, "
                f"not alpha={self.alpha}, top_k={self.top_k}"
            )
        if self.support != "student":
            raise ValueError(f"form={self.form!r} has no support={self.support!r}: it sees the sampled token")
        if self.clip is not None or self.ratio_clip is not None:
            raise ValueError(f"form={self.form!r} takes neither clip nor ratio_clip: they cap form 'full'")


@dataclass(frozen=True)
class PolicyGradient:
    """A surrogate of the policy gradient (`agents.losses.surrogate.policy_gradient`), times the weight w."""

    coefficients: Tensor
    """[N]"""
    advantages: Tensor
    """[N], taken as constants."""
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float | None = None
    """Bound, > 1, of the ratio where the advantage is negative."""
    is_clip: float | None = 2.0
    """Cap of the trainer/sampler importance weight; None: no cap."""
    surrogate: Surrogate = "clip"
    """- "clip": PPO's, with separate bounds (DAPO's clip-higher) and an optional dual clip.
    - "cispo": ``-stopgrad(min(rho, 1 + clip_high)) A log p``: a clipped ratio still has a gradient.
    - "plain": ``-A log p``.
    """
    behaviour: Tensor | None = None
    """[N] log-probability under whoever generated the token (another context, a guide, a replay), NaN where it
    was the policy. The ratio is then to it, and w is 1."""
    ratio_power: float = 1.0
    ratio_shift: Tensor | None = None
    """[N], taken as constants: ``rho = exp(ratio_power * log r + ratio_shift)`` takes the ratio's place, as in
    TRRD and RLAD, with shift ``-(1 - power)(log q - log p)``. None: 0."""

    def __post_init__(self) -> None:
        for name in ("advantages", "behaviour", "ratio_shift"):
            column = getattr(self, name)
            if column is not None and column.shape != self.coefficients.shape:
                raise ValueError(
                    f"{name} have shape {tuple(column.shape)}, coefficients "
                    f"{tuple(self.coefficients.shape)}: give one {name.rstrip('s')} per token"
                )
        if self.surrogate not in get_args(Surrogate):
            raise ValueError(f"surrogate={self.surrogate!r} is none of {', '.join(get_args(Surrogate))}")
        if self.dual_clip is not None and (self.dual_clip <= 1.0 or self.surrogate != "clip"):
            raise ValueError(f"dual_clip={self.dual_clip} must be above 1, and needs surrogate='clip'; or None")
        hooked = self.ratio_power != 1.0 or self.ratio_shift is not None or self.behaviour is not None
        if self.surrogate == "plain" and hooked:
            raise ValueError("surrogate='plain' has no ratio: no behaviour, ratio_power or ratio_shift")


@dataclass(frozen=True)
class Likelihood:
    """Cross-entropy, ``-log p(target)``: supervised fine-tuning, or a replay regulariser."""

    coefficients: Tensor
    """[N]"""


@dataclass(frozen=True)
class Pointwise:
    """Any function of the target's log-probability, token by token."""

    coefficients: Tensor
    """[N]"""
    function: Callable[[Tensor, Mapping[str, Tensor]], Tensor]
    """``(log p(y) [C], constants [C] each) -> [C]``; the tokens are any C of the N, in one chunk. Its gradient is
    autograd's."""
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    """By name, [N] each."""

    def __post_init__(self) -> None:
        for name, column in self.constants.items():
            if len(column) != len(self.coefficients):
                raise ValueError(f"constants[{name!r}]: {len(column)} rows for {len(self.coefficients)} coefficients")

    def per_token(self, logp: Tensor) -> Tensor:
        """The function at this term's tokens, ``[N] -> [N]``; ValueError where it gives another shape."""
        value = self.function(logp, self.constants)
        if value.shape != logp.shape:
            raise ValueError(f"a Pointwise function gave shape {tuple(value.shape)} for {tuple(logp.shape)} tokens")
        return value


Term = Distill | PolicyGradient | Likelihood | Pointwise
AnyTerm = TypeVar("AnyTerm", bound=Term)


def columnwise(term: AnyTerm, change: Callable[[Tensor], Tensor]) -> AnyTerm:
    """The same term with every per-token column changed alike, those in ``constants`` included."""
    clone = copy.copy(term)  # checked already
    for each in fields(term):
        value: Any = getattr(term, each.name)
        if isinstance(value, Tensor):
            object.__setattr__(clone, each.name, change(value))
        elif isinstance(value, Mapping):
            object.__setattr__(clone, each.name, {name: change(column) for name, column in value.items()})
    return clone


def select(term: AnyTerm, rows: Tensor | slice) -> AnyTerm:
    """The same term on some of the tokens, for instance those of one micro-batch."""
    return columnwise(term, lambda column: column[rows])
