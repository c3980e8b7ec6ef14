"""PBSD: preference-based self-distillation (arXiv 2605.05040). Prefer what the teacher would say to what was said.

Status: our reading of a published objective: beta, pairs a prompt, length normalisation, whether pairs are filtered and
the teacher's refresh are not confirmed. (Not Privileged Bayesian Self-Distillation, arXiv 2606.09348.)

    y+ ~ q(. | x, c)                     the teacher's, sampled anew each step         y- ~ p(. | x)
    m  = beta [ log p(y+ | x) / q(y+ | x, c)  -  log p(y- | x) / q(y- | x, c) ]        sums over tokens
    L  = mean over pairs of - l log sigmoid(m) - (1 - l) log sigmoid(-m)

The reference of both sides is the teacher, under a prompt that the student does not see. What the loop converges to
depends on the label:

    teacher_wins    l = 1                             p = q, the teacher itself, and not the reward-tilted teacher
                                                      that the objective promises: no reward enters
    hard_filter     l = 1, pairs with r(y+) > r(y-)   none: the pairs are separable, so that p goes past the tilt until
                                                      the sigmoid saturates
    bradley_terry   l = sigmoid(r(y+) - r(y-))        p ~ q exp(r / beta), the tilted teacher

With teacher_wins, solving each step's problem to the end gives q^(1 + 1/beta) p_old^(-1/beta): it overshoots for
beta < 1, where small steps between fresh samples converge. So: one optimiser step a rollout.

Our readings: beta 0.1; one pair for every turn that the policy took; labels that need r ask for tasks of one answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator

from agents.batch import MAIN, Batch, Sample, View
from agents.losses.pairs import Pairs, preference, sequence_sums
from agents.losses.terms import Term
from agents.recipes.base import TaughtRecipe, require_answers
from agents.recipes.tools import StepTools
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group


class PBSD(TaughtRecipe):
    """A logistic loss on pairs: the teacher's answer, the policy's."""

    name: ClassVar[str] = "pbsd"
    reads_teacher: ClassVar[bool] = True
    reads_student: ClassVar[bool] = True

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    beta: float = Field(0.1, gt=0, description="scale of the margin; the tilt's temperature with bradley_terry")
    labeller: Literal["teacher_wins", "hard_filter", "bradley_terry"] = Field(
        "teacher_wins",
        description="teacher_wins: always; hard_filter: pairs where it earned more; bradley_terry: soft, by rewards",
    )
    length_normalised: bool = Field(False, description="divide a sequence's log-ratio by its number of tokens")

    _overlong: int = PrivateAttr(default=0)

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """It speaks, and its word on both sides is weighed."""
        return {"generate": f"recipe={self.name}", "logprob": f"recipe={self.name}"}

    @model_validator(mode="after")
    def _whole(self) -> PBSD:
        if self.intervention is not None:
            raise ValueError(
                "recipe.intervention with recipe=pbsd: a pair is of whole turns, there is nothing to weigh"
            )
        return self

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """Pairs: every taught turn, and behind it what the teacher says there; turns without a pair are left out."""
        own = super().samples(groups, tools)
        if MAIN not in tools.teachers:
            return own
        self._overlong = super().views(own, groups, tools)
        seen = [(sample, view) for sample in own if (view := sample.view(MAIN)) is not None]
        replies = tools.answer([view for _, view in seen], MAIN)
        rewards = [0.0] * len(seen)
        if self.labeller != "teacher_wins":
            require_answers(groups, f"recipe.labeller={self.labeller!r}", "has the teacher's answer judged")
            judged = tools.judge([(s.group, reply) for (s, _), reply in zip(seen, replies, strict=True)])
            rewards = [attempt.reward if attempt.scored else math.nan for attempt in judged]
        pairs: list[Sample] = []
        for k, ((sample, view), reply, reward) in enumerate(zip(seen, replies, rewards, strict=True)):
            label = self.label(reward - sample.reward)
            fits = len(sample.prompt_ids) + len(reply.completion.ids) <= tools.limit
            if label is None or not fits or not reply.completion.ids or not sample.action_ids:
                continue
            sample.notes |= {"pair": k, "chosen": False}
            better = reply.sample(
                sample.group, sample.attempt, "teacher", under=View(sample.messages, sample.prompt_ids),
                turn=sample.turn, reward=reward, notes={"pair": k, "chosen": True, "label": label},
            )  # fmt: skip
            better.show(MAIN, view)
            pairs += [sample, better]
        tools.log["pairs"] = len(pairs) / 2
        return pairs

    def label(self, gain: float) -> float | None:
        """Probability that y+ is the better one, where it earned ``gain`` more; None: no pair."""
        if self.labeller == "teacher_wins":
            return 1.0
        if math.isnan(gain) or (self.labeller == "hard_filter" and gain <= 0):
            return None
        return 1.0 if self.labeller == "hard_filter" else 1 / (1 + math.exp(-gain))

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Shown already: the teacher spoke from there."""
        return self._overlong

    def terms(self, batch: Batch) -> list[Term]:
        """The preference loss over the pairs of the batch."""
        sides: dict[int, dict[bool, int]] = {}
        for i, sample in enumerate(batch.samples):
            if "pair" in sample.notes and bool(batch.scored[i]):
                sides.setdefault(sample.notes["pair"], {})[sample.notes["chosen"]] = i
        found = [side for side in sides.values() if len(side) == 2]
        if not found or batch.reading is None or batch.student is None:
            return []
        chosen, rejected = (torch.tensor([side[which] for side in found]) for which in (True, False))
        labels = torch.tensor([batch.samples[int(i)].notes.get("label", 1.0) for i in chosen])
        read = batch.per_token(batch.scored)
        reference = sequence_sums(batch.reading.logprob, batch.sequence, len(batch), read)
        result = preference(
            Pairs(chosen, rejected, reference[chosen], reference[rejected], labels),
            batch.student.logprob, batch.sequence, len(batch),
            beta=self.beta, length_normalised=self.length_normalised,
        )  # fmt: skip
        batch.log["margin"] = float(result.margins.mean())
        batch.log["preferred"] = float((result.margins > 0).float().mean())
        return [result.term]
