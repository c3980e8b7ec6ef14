"""MiniLLM: reverse KL on the student's own sequences, by policy gradient (arXiv 2306.08543).

    r_t = log q(y_t) - log p(y_t)                                    the sequence's reverse KL is - E sum_t r_t
    p~  = a q + (1 - a) p                                            what sequences are sampled from, token by token
    w_t = p(y_t) / p~(y_t)
    R_t = mean of r_u over u > t                                     reward-to-go, y_t's own left out, by its length
    L   = 1/N sum_t w_t [ KL(p_t || q_t) - stopgrad(R_t) log p(y_t) ]  +  lm_weight L_LM

The first part is exact (the "single-step" term), the second is PPO's clipped surrogate; L_LM is the likelihood of
plain texts, from the file ``texts``. Mixing keeps samples where the teacher has something to say, which a policy that
found a way to please it by repetition leaves; the weights are those of every token sampled elsewhere (``is_clip``),
at most 1 / (1 - a). The teacher is another model (``teacher.kind=external``), with which a is 0.2. A self-teacher
(`agents.recipes.opd`) knows what is only known after the rollout, and cannot take part in it: a is then 0.

Status: partial. a, the surrogate's clip and lm_weight are from memory of the paper. It starts from a fine-tuned
student, which is left to you. Our readings: a turn is a sequence; L is a mean over tokens; R_t divides by the number
of tokens behind t; the weight of a token is its own, as in the paper, which drops the product over those before it.

On the port in TRL, whose ``gamma=0`` keeps r_t itself: its sampled term then has the gradient of the exact one in
expectation, so that both together double it and bring its variance back; its advantage is not detached; its mask
counts padding. Here R_t never holds r_t, and is a constant.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator

from agents.batch import MAIN, Batch, Sample, samples_of
from agents.credit.tokens import reward_to_go
from agents.engines.base import Engine
from agents.engines.hf import HFEngine
from agents.engines.mixed import MixedEngine
from agents.losses.reduction import token_mean
from agents.losses.terms import Likelihood, PolicyGradient, Term
from agents.recipes.opd import OPD
from agents.recipes.tools import StepTools
from agents.teachers.teacher import Teacher
from agents.texts import read_texts
from agents.trajectory import Group

TEXT = "text"
"""`Sample.source` of a plain text."""


class MiniLLM(OPD):
    """`OPD` that looks ahead, on sequences that the teacher helped to sample."""

    name: ClassVar[str] = "minillm"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 5e-6}, "batch": {"tasks": 64, "attempts": 1}}
    reads_teacher: ClassVar[bool] = True
    reads_student: ClassVar[bool] = True

    mix: float | None = Field(
        None, ge=0, lt=1, description="a, the teacher's share in sampling; null: 0.2 with another model as teacher"
    )
    long_weight: float = Field(1.0, ge=0, description="weight of the reward-to-go; 0: opd")
    gamma: float = Field(1.0, ge=0, le=1, description="discount of rewards to come")
    normalise_length: bool = Field(True, description="divide the reward-to-go by the (discounted) number of its tokens")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio, in the reward-to-go's term")
    clip_high: float = Field(0.2, ge=0, description="upper clip of the ratio, in the reward-to-go's term")
    texts: str = Field("", description="file of plain texts to keep the language by: paragraphs, or .jsonl with 'text'")
    lm_weight: float = Field(1.0, ge=0, description="weight of their likelihood")
    texts_per_step: int = Field(8, ge=1, description="texts a step")
    texts_tokens: int = Field(256, ge=2, description="longest text; more is cut")

    _read: list[str] = PrivateAttr(default_factory=list)

    @property
    def share(self) -> float:
        """a."""
        return self.mix if self.mix is not None else 0.2 if self.teacher.kind == "external" else 0.0

    @model_validator(mode="after")
    def _mixes(self) -> MiniLLM:
        if self.share and (self.teacher.kind != "external" or set(self.context.sources) != {"none"}):
            raise ValueError(
                f"recipe.mix={self.share:g} samples from the teacher, too, which must read the student's own prompt: "
                f"it needs recipe.teacher.kind=external and recipe.context.sources=[none], not {self.teacher.kind!r} "
                f"and {self.context.sources}; or set recipe.mix=0"
            )
        if 1 / (1 - self.share) > self.is_clip:
            raise ValueError(
                f"recipe.is_clip={self.is_clip:g} cuts the importance weights of recipe.mix={self.share:g}, which "
                f"reach {1 / (1 - self.share):.3g}: raise the one or lower the other"
            )
        return self

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Full logits: to sample from the mixture, and for the exact divergence."""
        return {"logits": f"recipe={self.name}"}

    def sampler(self, engine: HFEngine, teachers: Mapping[str, Teacher]) -> Engine | None:
        """The mixture of policy and teacher."""
        return MixedEngine(engine, teachers[MAIN], self.share) if self.share else None

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The turns of the rollout, and texts of the file."""
        return [*samples_of(groups), *self._texts(tools)]

    def _texts(self, tools: StepTools) -> list[Sample]:
        if not self.texts or not self.lm_weight:
            return []
        self._read = self._read or read_texts(self.texts, "recipe.texts")
        chosen = random.Random(f"{tools.seed}:texts").choices(self._read, k=self.texts_per_step)
        rows = [(text, tools.chat.plain(text)[: min(self.texts_tokens, tools.limit)]) for text in chosen]
        return [
            Sample(ids[:1], ids[1:], None, [], text, 0.0, [], group=-1, attempt=k, turn=0, source=TEXT)
            for k, (text, ids) in enumerate(rows)
            if len(ids) > 1
        ]

    def terms(self, batch: Batch) -> list[Term]:
        """The exact divergence, the reward-to-go, and the texts."""
        taught = batch.per_token(batch.taught)
        ahead = reward_to_go(batch.log_ratio(), taught, batch.sequence, self.gamma, self.normalise_length)
        mean = token_mean(taught.float())
        texts = token_mean(batch.per_token(batch.made_by(TEXT)).float())
        return [
            self.distill(mean),
            PolicyGradient(self.long_weight * mean, ahead, self.clip_low, self.clip_high, is_clip=self.is_clip),
            Likelihood(self.lm_weight * texts),
        ]
