"""SCoRe: self-correction by reinforcement learning (arXiv 2409.12917). Two attempts, the second pays for the gain.

Status: near full; stages and shaping are confirmed, all constants are from memory and unverified.

    stage I    max E[ R(y_2) ] - beta_2 KL( p(y_1 | x) || p_0 ) - beta_1 KL( both )
    stage II   max E[ R(y_1) + R(y_2) + bonus ( R(y_2) - R(y_1) ) ] - beta_1 KL( both )

p_0 are the first weights. The first stage teaches to correct without touching the first attempt, the second both; its
bonus goes to the second attempt alone. REINFORCE with the group's mean at the same attempt as the baseline, one
optimiser step a rollout batch, temperature 1.

Where the second attempt comes from (``second``):

    environment   the first two turns of an episode, with what the environment says between them. Where a right first
                  answer ends the episode, R(y_1) is 0 whenever there is a second attempt, and the bonus is only a
                  factor: the method then cannot learn to leave right answers alone
    policy        the paper's: the episode has one turn, and the policy is asked to look at its answer again, whatever
                  it was worth, without being told; the environment judges both

Our readings: the first attempt is credited R(y_1), not what followed; losses are means over tokens; the KL is taken
over the vocabulary in the stream "anchor", whose view is the sample's own prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from agents.batch import MAIN, Batch, Sample, View, samples_of
from agents.credit.attempts import gain, pair_advantages, pairs_of
from agents.errors import SetupError
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import TaughtRecipe, require_attempts
from agents.recipes.tools import StepTools
from agents.recipes.writers import second_attempts
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


_ONE_TURN = (
    "recipe.second='environment' takes the first two turns of an episode for the attempts, but here episodes have one "
    "turn: set env.kwargs='{max_turns: 2}', or recipe.second=policy"
)


class SCoRe(TaughtRecipe):
    """Two-attempt policy gradient in two stages, anchored to the first weights."""

    name: ClassVar[str] = "score"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "check_teacher": 0}

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    context: Context = Context(sources=["none"])
    alpha: float = Field(1.0, ge=0, le=1, description="divergence from the first weights: 1 is KL(p || p_0)")
    top_k: int = Field(0, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
    second: Literal["environment", "policy"] = Field(
        "environment", description="where the second attempt comes from: the episode's second turn, or asking again"
    )
    stage_one: int = Field(100, ge=0, description="steps of stage I")
    bonus: float = Field(10.0, ge=0, description="the paper's alpha: weight of R(y_2) - R(y_1)")
    anchor: float = Field(0.01, ge=0, description="beta_1: weight of the KL on both attempts")
    anchor_first: float = Field(0.1, ge=0, description="beta_2: weight of the KL on first attempts in stage I")

    @property
    def first_stage(self) -> bool:
        """Whether this step is of stage I."""
        return self._step < self.stage_one

    @property
    def _bonus(self) -> float | None:
        return None if self.first_stage else self.bonus

    def check_run(self, run: TrainConfig) -> None:
        """Groups, two attempts, and one step a rollout batch."""
        require_attempts(run, f"recipe={self.name}")
        turns = run.env.kwargs.get("max_turns", run.rollout.turns)
        if self.second == "environment" and 1 in (turns, run.rollout.turns):
            raise ValueError(_ONE_TURN)
        if self.second == "policy" and (turns or 1) > 1:
            raise ValueError(
                f"recipe.second='policy' asks again after an episode of one turn, but env.kwargs.max_turns is {turns}: "
                "leave it out, or set recipe.second=environment"
            )
        for name in ("steps_per_batch", "epochs"):
            if (value := getattr(run.optim, name)) > 1:
                raise ValueError(f"recipe=score is on-policy, but optim.{name} is {value}: set it to 1")

    def streams(self) -> dict[str, str]:
        """The first weights, on the policy's own prompts."""
        return {"anchor": MAIN}

    def teaching(self) -> bool:
        """Where some KL counts."""
        return self.anchor > 0 or (self.anchor_first > 0 and self.first_stage)

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Every sample's own prompt."""
        for sample in samples:
            sample.show("anchor", View(sample.messages, sample.prompt_ids))
        return 0

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The turns of the rollout; where the policy is asked again, its second answer after each first one."""
        first = [s for s in samples_of(groups) if s.turn < 2]
        if self.second == "environment":
            if tools.environments is not None and tools.environments.max_turns == 1:
                raise SetupError(_ONE_TURN)
            tools.log |= gain(pairs_of(groups))
            return first
        tried = second_attempts(first, tools)
        both = list(zip(first, tried, strict=True))
        pairs = {(s.group, s.attempt): (s.reward, t.reward if t.scored else None) for s, t in both}
        advantages = pair_advantages(pairs, self._bonus, self.normalise_advantages)
        tools.log |= gain(pairs)
        result = []
        for s, t in both:
            result.append(s)
            if t.scored:
                said, own = t.reply, advantages[s.group, s.attempt, 1]
                second = Sample(
                    said.prompt_ids, said.completion.ids, said.completion.logprobs, said.messages, said.text, t.reward,
                    t.feedback, s.group, s.attempt, 1, source="correction", advantage=own,
                )  # fmt: skip
                result.append(second)
        return result

    def advantages(self, groups: Sequence[Group]) -> dict[tuple[int, int, int], float]:
        """Of each attempt by itself: 0 for the first in stage I."""
        whole = dict.fromkeys(super().advantages(groups), 0.0)
        return whole | pair_advantages(pairs_of(groups), self._bonus, self.normalise_advantages)

    def terms(self, batch: Batch) -> list[Term]:
        """REINFORCE, and the KL to the first weights with a coefficient for each attempt."""
        mean, advantages = token_mean(torch.ones(len(batch.targets))), batch.per_token(batch.advantages)
        terms: list[Term] = [PolicyGradient(mean, advantages, is_clip=self.is_clip, surrogate="plain")]
        first = torch.tensor([s.turn == 0 for s in batch.samples])
        weight = self.anchor + self.anchor_first * self.first_stage * first
        kl = mean * batch.per_token(weight * batch.viewed("anchor"))
        if kl.any():
            terms.append(replace(self.distill(kl), teacher="anchor"))
        batch.log["stage"] = 1.0 if self.first_stage else 2.0
        return terms
