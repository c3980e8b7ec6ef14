"""StableOPD: on-policy distillation with two anchors (Demystifying OPD, arXiv 2604.08527).

Status: our reading of a published method: the weights of the two anchors and how they are averaged are not confirmed.

    A_t    = log q(y_t | s_k) - log p_old(y_t | h_k)                   the teacher's word on what the student sampled
    L_OPD  = - mean_t min(rho_t A_t, clip(rho_t, 1 - eps_low, 1 + eps_high) A_t)
    L      = L_OPD  +  lambda_gold mean_{t in gold} -log p(y*_t | x)  +  beta_KL mean_t KL(p(. | h_k) || p_0(. | h_k))

A repeated token is easy to predict, so that the teacher punishes it less than others; sampled often, loops spread in
tens of steps and never leave. One golden trajectory a prompt joins the minibatch (the larger part of the cure), and the
initial student p_0 holds the distribution at every state that the student visits.

Our readings: both weights; one mean over tokens for each part; the golden trajectory is the environment's right answer,
which tasks of several turns do not tell: there only the KL anchors. The monitors (``truncated``, ``repetitive``) are
logged for every recipe, on rollouts and evaluations, and raise alarms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from agents.batch import MAIN, Batch, Sample, View
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill, Likelihood, PolicyGradient, Term
from agents.recipes.opd import OPD
from agents.recipes.tools import StepTools, beside, golden
from agents.schedules import Schedule, Scheduled
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

ANCHOR = "anchor"


class StableOPD(OPD):
    """Sampled reverse KL through the clipped surrogate, likelihood of golden answers, KL to the initial student."""

    name: ClassVar[str] = "stable_opd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6},
        "sampling": {"temperature": 1.0},
        "batch": {"tasks": 64, "attempts": 4},
    }
    reads_teacher: ClassVar[bool] = True

    form: Literal["sampled"] = Field("sampled", description="the sampled token's log-ratio is its advantage")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.2, ge=0, description="upper clip of the ratio")
    gold_weight: Scheduled = Field(Schedule(start=0.1), description="of the golden answers' likelihood; 0: none")
    kl_weight: Scheduled = Field(Schedule(start=0.01), description="of the KL to the initial student; 0: none")

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """A number a token is enough; the anchor is the policy's own, with all of its logits."""
        return {"logits": "recipe.kl_weight"} if name == ANCHOR else {"logprob": f"recipe={self.name}"}

    def teachers(self) -> dict[str, TeacherSettings]:
        """The teacher, and the student as it began."""
        return {**super().teachers(), ANCHOR: TeacherSettings(kind="frozen")}

    def streams(self) -> dict[str, str]:
        """The anchor reads where it weighs anything."""
        anchor = {} if self.kl_weight.is_off(self._step) else {ANCHOR: ANCHOR}
        return super().streams() | anchor

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The rollout, and one golden answer a prompt where the environment tells it."""
        gold = [] if self.gold_weight.is_off(self._step) else golden(groups, tools)
        tools.log["golden"] = len(gold) / max(len(groups), 1)
        return beside(super().samples(groups, tools), gold)

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """The anchor sees what the student saw."""
        for sample in samples:
            if sample.source == "policy":
                sample.show(ANCHOR, View(sample.messages, sample.prompt_ids))
        return super().views(samples, groups, tools)

    def terms(self, batch: Batch) -> list[Term]:
        """Teacher, golden answers, initial student."""
        taught = batch.per_token(batch.taught).float()
        terms: list[Term] = [
            PolicyGradient(
                token_mean(taught), batch.log_ratio(), self.clip_low, self.clip_high, is_clip=self.is_clip
            )
        ]  # fmt: skip
        gold, anchored = batch.per_token(batch.made_by("reference")), batch.per_token(batch.viewed(ANCHOR))
        if (weight := self.gold_weight.at(self._step)) and gold.any():
            terms.append(Likelihood(weight * token_mean(gold.float())))
        if (weight := self.kl_weight.at(self._step)) and anchored.any():
            terms.append(
                Distill(weight * token_mean(anchored.float()), alpha=1.0, teacher=ANCHOR, is_clip=self.is_clip)
            )
        ratio = batch.log_ratio()[batch.per_token(batch.taught)]
        batch.log["log_ratio"] = float(ratio.mean()) if len(ratio) else 0.0
        return terms
