"""ROPD: rubric-based on-policy distillation (arXiv 2605.07396). A teacher known by its text alone teaches by contrast.

Status: full, but for the wording of the two questions, which is ours.

    C    = rubric(x, teacher's answers, policy's answers)         one for each group: 4 to 12 criteria c of w_c points
    v_ic = verdict on attempt i by criterion c                    teacher's and policy's answers shuffled, unlabelled
    s_i  = sum_c w_c v_ic / sum_c w_c
    A_i  = s_i - mean_j s_j                                       no division by the deviation
    L    = GRPO's clipped surrogate, no KL

Good answers come from a file (``answers``), else from the teacher, or are the environment's own (``good``). The teacher
model also makes the rubric and the verdicts, as one that the policy may also be.

Not scored is not zero: an attempt that the judge could not score is left out, of the group's mean too
(``unjudged="exclude"``, our reading). The released code gives it 0 (``"zero"``), which lowers the baseline of the
others. Where more than ``most_failed`` of a step's groups fail, the run stops, as there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from agents.advantages import standardised
from agents.batch import MAIN, Batch, Sample, samples_of
from agents.credit import rubrics
from agents.errors import SetupError
from agents.losses.terms import Term
from agents.recipes.base import TaughtRecipe, require_attempts
from agents.recipes.grpo import GRPO
from agents.recipes.tools import StepTools, opening, question_of
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


class ROPD(TaughtRecipe):
    """GRPO on the points of a rubric that a teacher makes for each group."""

    name: ClassVar[str] = "ropd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6, "weight_decay": 0.01, "steps_per_batch": 4},
        "batch": {"tasks": 32, "attempts": 8},
        "sampling": {"max_tokens": 8192},
        "steps": 500,
    }

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    context: Context = Context(sources=["none"])
    good: Literal["teacher", "reference"] = Field("teacher", description="where good answers come from, without a file")
    answers: Path | None = Field(None, description="JSON file of good answers: task id to list of texts")
    good_answers: int = Field(4, ge=1, description="good answers that a rubric is made from")
    judge_tokens: int = Field(1024, ge=16, description="longest rubric, and longest list of verdicts")
    unjudged: Literal["exclude", "zero", "reward"] = Field(
        "exclude",
        description="attempts without a score: left out, 0 (the released code), or the environment's reward",
    )
    most_failed: float = Field(0.4, ge=0, le=1, description="share of groups without scores above which the run stops")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    _known: dict[str, list[str]] | None = PrivateAttr(default=None)

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Text is enough."""
        return {"generate": "recipe=ropd"}

    def streams(self) -> dict[str, str]:
        """The teacher reads nothing."""
        return {}

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Nobody is shown anything."""
        return 0

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        require_attempts(run, f"recipe={self.name}")

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The policy's turns, each with the advantage of its attempt's score."""
        scores = self._scores(groups, tools)
        failed = sum(s is None for s in scores)
        tools.log["unjudged_groups"] = failed / max(len(groups), 1)
        if self.unjudged != "reward" and failed > self.most_failed * len(groups):
            raise SetupError(
                f"recipe=ropd: the judge gave no readable rubric or verdicts for {failed} of {len(groups)} groups, "
                f"more than recipe.most_failed={self.most_failed:g}; take a model that can judge as recipe.teacher, "
                f"raise recipe.judge_tokens (now {self.judge_tokens}), or set recipe.unjudged=reward. The run can go on"
            )
        advantages: dict[tuple[int, int], float] = {}
        for g, (group, points) in enumerate(zip(groups, scores, strict=True)):
            attempts = [a for a, t in enumerate(group.trajectories) if t.scored]
            if points is None and self.unjudged == "exclude":
                continue
            if points is None:
                points = [0.0 if self.unjudged == "zero" else group.trajectories[a].reward for a in attempts]
            advantages |= zip(((g, a) for a in attempts), standardised(points, normalise=False), strict=True)
        samples = [s for s in samples_of(groups) if (s.group, s.attempt) in advantages]
        for sample in samples:
            sample.advantage = advantages[sample.group, sample.attempt]
        return samples

    def terms(self, batch: Batch) -> list[Term]:
        """GRPO's."""
        return GRPO(clip_low=self.clip_low, clip_high=self.clip_high, is_clip=self.is_clip).terms(batch)

    def _scores(self, groups: Sequence[Group], tools: StepTools) -> list[list[float] | None]:
        """For each group the scores of its scored attempts, None where the judge failed."""
        tried = [[t.turns[-1].text for t in group.scored()] for group in groups]
        questions = [question_of(group) for group in groups]
        good = self._good(groups, questions, tools)
        asked = [rubrics.ask_for_rubric(q, g, t) for q, g, t in zip(questions, good, tried, strict=True)]
        criteria = [rubrics.read_rubric(reply.text) for reply in self._ask(asked, tools)]
        order = [list(range(len(g) + len(t))) for g, t in zip(good, tried, strict=True)]
        for k, places in enumerate(order):
            random.Random(f"{tools.seed}:{k}:shuffle").shuffle(places)
        shuffled = [[(g + t)[i] for i in p] for g, t, p in zip(good, tried, order, strict=True)]
        asked = [rubrics.ask_for_verdicts(q, c or [], s) for q, c, s in zip(questions, criteria, shuffled, strict=True)]
        result: list[list[float] | None] = []
        for k, reply in enumerate(self._ask(asked, tools)):
            rows = rubrics.read_verdicts(reply.text, len(order[k]), len(criteria[k] or []))
            points = None if rows is None else [rubrics.score(criteria[k] or [], row) for row in rows]
            by_answer = None if points is None else dict(zip(order[k], points, strict=True))
            own = range(len(good[k]), len(order[k]))
            result.append(None if not criteria[k] or by_answer is None else [by_answer[i] for i in own])
        return result

    def _ask(self, conversations: list[Any], tools: StepTools) -> Any:
        return tools.ask(conversations, who="teacher", max_tokens=self.judge_tokens, temperature=0.0)

    def _good(self, groups: Sequence[Group], questions: list[str], tools: StepTools) -> list[list[str]]:
        """Answers known to be good, for each group."""
        if self.answers is not None:
            if self._known is None:
                self._known = json.loads(self.answers.read_text(encoding="utf-8"))
            return [self._known.get(str(group.task.get("id")), [])[: self.good_answers] for group in groups]
        if self.good == "reference":
            return [[gold] if (gold := tools.gold(g)) else [] for g in range(len(groups))]
        asked = [opening(group) for group in groups for _ in range(self.good_answers)]
        said = [reply.text for reply in tools.ask(asked, who="teacher")]
        return [said[k : k + self.good_answers] for k in range(0, len(said), self.good_answers)]
