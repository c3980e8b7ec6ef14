"""BRTS: best-of-N teacher rollouts beside on-policy distillation (arXiv 2605.09725).

Status: full, but for two constants of the loss (means over tokens; whose distribution a recovered rollout is compared
with), which are our reading.

    on the student's rollouts   RKL = mean_t KL(p || q)
    on one teacher rollout      FKL = mean_t KL(q || p)                                     L = RKL + 10 FKL

The teacher answers every task N = 4 times at temperature 0.7, and one answer is chosen:

    1  of the right ones, that with most tokens among the student's 16 likeliest where they stand
    2  none is right: one more, with the environment's right answer in the prompt, if the environment accepts it
    3  else the answer of step 1 with most such tokens, right or not

A rollout that is near what the student would say can be learnt from; the forward KL shows modes that it never visits.

Our readings: the teacher is compared with on its rollout under the prompt that it answered, the injected answer
included; a self-teacher answers what it sees at the first attempt that has a context. Step 2 needs
``context.allow_reference``. ``fkl_weight=0`` is `opd`. Every task needs one answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator

from agents.batch import MAIN, Batch, Sample, View
from agents.losses.reduction import token_mean
from agents.losses.support import Whose
from agents.losses.terms import Distill, Term
from agents.recipes.base import TaughtRecipe, require_answers
from agents.recipes.opd import OPD, another_model
from agents.recipes.tools import Attempt, StepTools, beside
from agents.schedules import Schedule, Scheduled
from agents.teachers.contexts import Context
from agents.teachers.hints import Hint
from agents.teachers.wording import reworded
from agents.trajectory import Group


class BRTS(OPD):
    """Reverse KL where the student went, forward KL on the best of a few answers of the teacher's."""

    name: ClassVar[str] = "brts"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "sampling": {"temperature": 1.0}}

    context: Context = Context(sources=["feedback", "rest"], wording="turn", allow_reference=True)
    candidates: int = Field(4, ge=1, description="N: answers of the teacher to each task")
    fkl_weight: Scheduled = Field(Schedule(start=10.0), description="of the forward KL on the chosen one; 0: none")
    overlap_k: int = Field(16, ge=1, description="tokens of the student that count as near")
    answer_temperature: float = Field(0.7, gt=0, description="at which the teacher answers")

    _overlong: int = PrivateAttr(default=0)
    _shown: bool = PrivateAttr(default=False)

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """It speaks, and its distribution is compared with."""
        compared = {**super().needs(name), **TaughtRecipe.needs(self, name)}
        return {"generate": f"recipe.candidates={self.candidates}", **compared}

    @model_validator(mode="before")
    @classmethod
    def _references_for_external(cls, given: Any) -> Any:
        """An external teacher sees the student's prompt; the right answer only where step 2 has to inject it."""
        if isinstance(given, dict) and "context" not in given and another_model(given.get("teacher")):
            return {**given, "context": Context(sources=["none"], allow_reference=True)}
        return given

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The student's rollouts, and of each task one of the teacher's."""
        own, self._shown = super().samples(groups, tools), False
        if self.fkl_weight.is_off(self._step) or MAIN not in tools.teachers:
            return own
        require_answers(groups, f"recipe={self.name}", "has the teacher's answers judged")
        self._overlong, self._shown = super().views(own, groups, tools), True
        first: dict[int, Sample] = {}
        for sample in own:
            if sample.view(MAIN) is not None:
                first.setdefault(sample.group, sample)
        chosen = self._chosen(list(first.values()), tools)
        fitting = [s for s in chosen if len(s.prompt_ids) + len(s.action_ids) <= tools.limit]
        tools.log["teacher_right"] = sum(s.reward >= 1 for s in fitting) / max(len(groups), 1)
        return beside(own, fitting)

    def _chosen(self, asked: Sequence[Sample], tools: StepTools) -> list[Sample]:
        """The waterfall: one sequence a task, where the teacher said anything."""
        views = [view for s in asked if (view := s.view(MAIN)) is not None for _ in range(self.candidates)]
        whose = [k for k in range(len(asked)) for _ in range(self.candidates)]
        said = tools.answer(views, MAIN, temperature=self.answer_temperature)
        tried = tools.judge([(asked[k].group, reply) for k, reply in zip(whose, said, strict=True)])
        spoken = [(k, a) for k, a in zip(whose, tried, strict=True) if a.reply.completion.ids]
        near = tools.among_likeliest(
            [(asked[k].prompt_ids, a.reply.completion.ids) for k, a in spoken], self.overlap_k
        )  # fmt: skip
        best: dict[int, tuple[tuple[bool, float], Attempt]] = {}
        for (k, attempt), tokens in zip(spoken, near, strict=True):
            rank = _right(attempt), sum(tokens) / len(tokens)
            if k not in best or rank > best[k][0]:
                best[k] = rank, attempt
        chosen = {k: attempt for k, (_, attempt) in best.items()}
        chosen |= self._recovered({k: s for k, s in enumerate(asked) if k not in best or not best[k][0][0]}, tools)
        return [_sequence(asked[k], attempt) for k, attempt in sorted(chosen.items())]

    def _recovered(self, lost: Mapping[int, Sample], tools: StepTools) -> dict[int, Attempt]:
        """Step 2: answers given with the right one in sight, those that are accepted."""
        if not self.context.allow_reference:
            return {}
        golds = {k: gold for k, s in lost.items() if (gold := tools.gold(s.group)) is not None}
        requests = [
            (lost[k].group, reworded("paper", lost[k].messages, Hint(answer=gold))) for k, gold in golds.items()
        ]
        tried = tools.attempt(requests, MAIN, temperature=self.answer_temperature)
        return {k: attempt for k, attempt in zip(golds, tried, strict=True) if _right(attempt)}

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """As in `opd`; shown already where the teacher spoke."""
        return self._overlong if self._shown else super().views(samples, groups, tools)

    def terms(self, batch: Batch) -> list[Term]:
        """Both divergences, a mean over tokens of each."""
        taught, made = batch.per_token(batch.taught), batch.per_token(batch.made_by("teacher"))
        reverse, forward = token_mean((taught & ~made).float()), token_mean((taught & made).float())
        terms: list[Term] = [self.distill(reverse)]
        if (weight := self.fkl_weight.at(self._step)) and forward.any():
            side: Whose = "teacher" if self.top_k or self.few else "student"
            terms.append(Distill(weight * forward, 0.0, self.top_k or None, self.tail, support=side))
        return terms


def _right(attempt: Attempt) -> bool:
    return attempt.scored and attempt.reward >= 1


def _sequence(sample: Sample, attempt: Attempt) -> Sample:
    """The teacher's answer under the student's prompt, scored by the teacher under the one that it answered."""
    reply = attempt.reply
    made = reply.sample(
        sample.group, 0, "teacher", under=View(sample.messages, sample.prompt_ids), reward=attempt.reward
    )  # fmt: skip
    made.show(MAIN, View(reply.messages, reply.prompt_ids))
    return made
