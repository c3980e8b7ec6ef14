"""Uni-OPD: the teacher's word, put right by the outcome (arXiv 2605.03677).

A token's word is worth trusting as far as the teacher ranks whole attempts as outcomes do:

    d_t = log q(y_t) - log p(y_t),   a_i = mean of d_t over attempt i
    gap = stat of a over right attempts - stat of a over wrong ones         stat: mean, or min over max
    where gap < delta:   right attempts + shift up, wrong ones - shift down, delta - gap in all
    L = - 1/N sum_t min(rho_t A_t, clip(rho_t) A_t),   A_t = d_t + shift_i

``repair="mask"`` leaves attempts out instead, the worst marked right one or the best marked wrong one first, until
the gap is wide enough; at least a quarter of them stays. Groups that are all right or all wrong have no gap: nothing
changes there. ``ratio`` leaves out surplus attempts until correct : incorrect is near it.

Status: full for calibration, mask and balance, from the released code. Which of two attempts the mask drops first is
our reading (the one that widens the gap more), as are the clips of the surrogate. Over several turns an attempt is
all that the policy wrote in an episode. Upsampling prompts of medium difficulty is a matter of data and is not here.
With several optimiser steps a rollout batch, "batch" and groups are those of the one step.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.credit.calibrate import Direction, Mode, margin_mask, margin_shift
from agents.credit.routes import balanced
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import require_attempts
from agents.recipes.opd import OPD
from agents.recipes.tools import StepTools
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


class UniOPD(OPD):
    """Sampled-token `OPD` whose advantages keep the order of outcomes."""

    name: ClassVar[str] = "uni_opd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "batch": {"tasks": 16, "attempts": 4}}
    reads_teacher: ClassVar[bool] = True

    form: Literal["full", "sampled", "baseline"] = Field("sampled", description="the sampled token's log-ratio alone")
    repair: Literal["shift", "mask"] = Field("shift", description="how the order is restored")
    scope: Literal["group", "batch"] = Field("group", description="attempts that are compared")
    mode: Mode = Field("mean", description="mean: of right and of wrong attempts; minmax: worst right, best wrong")
    direction: Direction = Field("both", description="who is shifted: right attempts up, wrong ones down, or both")
    delta: float = Field(0.4, description="wanted gap between right and wrong attempts, nats a token")
    least: float = Field(0.25, gt=0, le=1, description="with mask: share of the attempts that stays")
    ratio: float | None = Field(None, gt=0, description="wanted correct : incorrect attempts; null: as they come")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.2, ge=0, description="upper clip of the ratio")

    _seed: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _sampled(self) -> UniOPD:
        if self.form != "sampled":
            raise ValueError(f"recipe.form={self.form!r} with recipe=uni_opd: its advantages are the sampled token's")
        if self.intervention is not None:
            raise ValueError("recipe.intervention with recipe=uni_opd: judges weigh divergences, and here is none")
        return self

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Only the sampled tokens' scores."""
        return {"logprob": f"recipe={self.name}"}

    def check_run(self, run: TrainConfig) -> None:
        """Right and wrong attempts of a group are compared."""
        if self.scope == "group":
            require_attempts(run, "recipe.scope='group'", "recipe.scope=batch")

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """As for every taught recipe; remembers what this step's draws are seeded by."""
        self._seed = tools.seed
        return super().views(samples, groups, tools)

    def terms(self, batch: Batch) -> list[Term]:
        """The policy gradient with calibrated advantages, mean over the taught tokens that stay."""
        shift, kept = self.calibrated(batch)
        counted = batch.per_token(batch.scored & kept)
        advantages = torch.where(counted, batch.log_ratio() + batch.per_token(shift), 0.0)
        return [
            PolicyGradient(
                token_mean(counted.float()), advantages, self.clip_low, self.clip_high, is_clip=self.is_clip
            ),
        ]

    def calibrated(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of each sample, its attempt's shift and whether it stays, [samples] each."""
        shift, kept = torch.zeros(len(batch)), torch.ones(len(batch), dtype=torch.bool)
        if batch.reading is None:
            return shift, kept
        taught, words = batch.scored, batch.log_ratio()
        attempts = [rows for turns in batch.trajectories if len(rows := turns[taught[turns]])]
        marks = [float(words[torch.isin(batch.sequence, rows)].mean()) for rows in attempts]
        correct = [bool(batch.correct[rows[0]]) for rows in attempts]
        sets: dict[int, list[int]] = {}
        for i, rows in enumerate(attempts):
            sets.setdefault(batch.samples[int(rows[0])].group if self.scope == "group" else 0, []).append(i)
        for members in sets.values():
            here, right = [marks[i] for i in members], [correct[i] for i in members]
            if self.repair == "shift":
                shifts = margin_shift(here, right, self.delta, self.mode, self.direction)
                stays = [True] * len(members)
            else:
                shifts = [0.0] * len(members)
                stays = margin_mask(here, right, self.delta, self.mode, self.least)
            for i, by, stay in zip(members, shifts, stays, strict=True):
                shift[attempts[i]], kept[attempts[i]] = by, stay
        batch.log["order_repaired"] = float(((shift != 0) | ~kept).float().mean())
        if self.ratio is not None:
            left = [i for i, rows in enumerate(attempts) if kept[rows[0]]]
            random.Random(f"{self._seed}:balance").shuffle(order := list(range(len(left))))
            for i, stay in zip(left, balanced([correct[i] for i in left], self.ratio, order), strict=True):
                kept[attempts[i]] &= stay
        return shift, kept
