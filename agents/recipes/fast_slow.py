"""FST: fast-slow training (arXiv 2605.12484). Instructions evolve fast, weights follow slowly, for the same reward.

Status: partial. The published context optimiser is GEPA with rollouts of its own; here a smaller one of its kind works
with the rewards that training pays for anyway. The cap of the ratio is not confirmed.

    y ~ p(. | x, phi),   phi from the population Phi, G / K attempts of a group each
    A = r - mean r over the whole group, whatever the instruction                 one shared baseline
    L = - mean_t stopgrad(min(rho_t, tau)) A log p(y_t | x, phi)                  CISPO

Every T steps, instructions that win some task of the cycle (the Pareto front) are shown to a reflector, with attempts
that failed under them and what the policy was told about these; what it writes takes the places of the weakest. An
attempt is sampled and trained under its own instruction, in a system message. Only what the policy itself may see is
reflected on: no reference gets into a prompt.

Our readings: the reflector is the policy as it began (published: frozen; which model is not said), or another model;
new instructions are measured in the next cycle's rollouts. At most K, from ``instructions`` on, by default none at all:
the first cycle is then CISPO. Held-out evaluation is with the best instruction of the last cycle, as the method keeps
it at test time; ``evaluate=plain`` measures the weights alone. ``summary.json`` holds the population in ``found``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr

import rfenvs
from agents.batch import Batch, Sample
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.population import Instruction, Population, instructed
from agents.recipes.base import Recipe, require_attempts
from agents.recipes.tools import StepTools
from agents.rollout import Drive, Opening
from agents.teachers.hints import without_thinking
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group, Trajectory

if TYPE_CHECKING:
    from agents.config import TrainConfig

_ASK = (
    "You improve the instruction that an assistant is given before its tasks. Find out from the failures below what "
    "the assistant has to know or do, and write a better instruction: general rules, nothing about single tasks. Reply "
    "with the instruction only."
)


class FastSlow(Recipe):
    """CISPO under a population of instructions that a reflector rewrites."""

    name: ClassVar[str] = "fast_slow"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "batch": {"attempts": 8}}

    population: int = Field(4, ge=2, description="K: instructions at a time")
    cycle: int = Field(6, ge=1, description="T: steps between rewritings")
    instructions: list[str] = Field([""], min_length=1, description="those of the first cycle; '' is none")
    rewritten: int = Field(2, ge=1, description="new instructions a cycle, at most")
    examples: int = Field(3, ge=1, description="failed attempts that the reflector sees")
    reflector: TeacherSettings = TeacherSettings(kind="frozen")
    max_tokens: int = Field(256, ge=1, description="longest instruction, in tokens")
    ratio_cap: float = Field(5.0, ge=1, description="tau: largest weight of a token's gradient")
    is_clip: float = Field(2.0, gt=0, description="cap of the sampler/trainer importance weight")
    evaluate: Literal["best", "plain"] = Field("best", description="instruction of held-out evaluations: best, or none")

    _phi: Population = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """The population of the first cycle."""
        self._phi = Population(self.instructions, self.population)

    def check_run(self, run: TrainConfig) -> None:
        """A group has as many attempts under each instruction."""
        require_attempts(run, f"recipe={self.name}")
        if run.batch.attempts % self.population:
            raise ValueError(
                f"batch.attempts={run.batch.attempts} is no multiple of recipe.population={self.population}: every "
                "instruction has an equal share of a group"
            )

    def teachers(self) -> dict[str, TeacherSettings]:
        """The reflector."""
        return {"reflector": self.reflector}

    def drive(self, step: int) -> Drive:
        """Every attempt begins with its instruction."""
        return Drive(opening=lambda messages, _, attempt: instructed(messages, self._phi.of(attempt).text))

    def evaluated_with(self) -> Opening | None:
        """The best instruction."""
        text = self._phi.best if self.evaluate == "best" else ""
        return (lambda messages, *_: instructed(messages, text)) if text else None

    def found(self) -> dict[str, Any]:
        """The instructions."""
        return {"best": self._phi.best, "instructions": [member.text for member in self._phi.members]}

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The rollout; at the end of a cycle the instructions change."""
        for group in groups:
            rewards = [t.reward if t.scored else None for t in group.trajectories]
            self._phi.record(str(group.task.get("id")), rewards)
        tools.log["instructions"] = float(len(self._phi.members))
        if (self._step + 1) % self.cycle == 0:
            self._phi.renew(self._rewritten(groups, tools))
        return super().samples(groups, tools)

    def _rewritten(self, groups: Sequence[Group], tools: StepTools) -> list[str]:
        """What the reflector makes of parents that failed at something in this step."""
        draw = random.Random(f"{tools.seed}:parents")
        asked = []
        for parent in self._phi.parents(self.rewritten, draw):
            failures = [
                _failure(t, parent) for group in groups for a, t in enumerate(group.trajectories)
                if t.scored and t.turns and t.reward < 1 and self._phi.of(a) is parent
            ]  # fmt: skip
            if failures:
                shown = draw.sample(failures, min(self.examples, len(failures)))
                content = "\n\n".join([_ASK, f"Present instruction: {parent.text or '(none)'}", *shown])
                asked.append([{"role": "user", "content": content}])
        replies = tools.ask(asked, "reflector", max_tokens=self.max_tokens)
        return [text for reply in replies if (text := without_thinking(reply.text))]

    def terms(self, batch: Batch) -> list[Term]:
        """CISPO over every token."""
        return [
            PolicyGradient(
                token_mean(torch.ones(len(batch.targets))), batch.per_token(batch.advantages),
                clip_high=self.ratio_cap - 1, surrogate="cispo", is_clip=self.is_clip,
            )
        ]  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The population, and what it earned in this cycle."""
        return self._phi.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self._phi.load_state_dict(state)


def _failure(trajectory: Trajectory, parent: Instruction) -> str:
    """A failed attempt in words: the task, the last answer, and what the policy was told about it."""
    task, last = trajectory.turns[0].messages[-1]["content"], trajectory.turns[-1]
    said = rfenvs.feedback_text({"feedback": last.feedback}, "policy", reference=False) or "It was wrong."
    return f"Task: {task}\nLast answer: {without_thinking(last.text)}\nFeedback: {said}"
