"""Skill-SD: skill-conditioned self-distillation (arXiv 2604.10674). The student learns what the teacher reads.

Status: partial. The objective is confirmed; lambda, the period of the copies, the summariser's wording and the bandit's
reward are ours.

Finished attempts are summarised into short skills, kept over the run. The policy acts on the plain prompt; its teacher,
a copy of it of a while ago, has a skill in front of it:

    L     = L_GRPO + lambda L_SDL
    L_SDL = mean over taught tokens of rho_t ( e^{Delta_t} - Delta_t - 1 )
    Delta = log q(y_t | x, skill, y_<t) - log p(y_t | x, y_<t),     rho_t = p(y_t) / p_old(y_t), with its gradient

The k3 estimate alone has the forward KL's gradient (`agents.losses.estimators`); it is rho, differentiated, that makes
it the reverse KL's, for old samples, too.

Our readings. Of each group one attempt is summarised a step, a success if there is one. A group is shown one skill, the
one with the largest upper confidence bound, untried ones and its own first:

    helpful / (helpful + harmful)  +  exploration sqrt( log(all trials) / (helpful + harmful) )

A trial is an attempt that the teacher read with the skill: helpful if it made a success likelier or a failure less
likely than the policy finds it, token by token on average; else harmful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.losses.estimators import weighted_k3
from agents.losses.reduction import token_mean
from agents.losses.terms import Pointwise, Term
from agents.memory import Memory, pick
from agents.recipes.advantage import AdvantageRecipe
from agents.recipes.base import Texts
from agents.recipes.tools import StepTools
from agents.recipes.writers import skills
from agents.schedules import Schedule, Scheduled
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group


class SkillSD(AdvantageRecipe):
    """Policy gradient, and the reverse KL to a copy that reads a skill."""

    name: ClassVar[str] = "skill_sd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "check_teacher": 0}
    gives: ClassVar[tuple[str, ...]] = ("skill",)

    teacher: TeacherSettings = TeacherSettings(kind="periodic", every=10)
    context: Context = Context(sources=["skill"], wording="paper")
    weight: Scheduled = Field(Schedule(start=0.1), description="lambda: weight of the distillation")
    exploration: float = Field(1.0, ge=0, description="of the bandit that picks skills; 0: always the best so far")
    entries: int = Field(200, ge=1, description="skills that are kept, at most; the stalest go first")
    author: Literal["policy", "teacher"] = Field("policy", description="who writes skills")
    author_tokens: int = Field(96, ge=8, description="longest skill")
    quoted: int = Field(2000, ge=1, description="characters of each turn of an attempt that the author sees")

    _memory: Memory | None = PrivateAttr(default=None)
    _trials: dict[tuple[int, int, str], bool] = PrivateAttr(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """The skills."""
        self._memory = self._memory or Memory(self.entries)
        return self._memory

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Words, where it is the author."""
        return super().needs(name) | ({"generate": "recipe.author='teacher'"} if self.author == "teacher" else {})

    def teaching(self) -> bool:
        """Not where lambda is 0; then no skills are written either."""
        return not self.weight.is_off(self._step)

    def given(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> Texts:
        """Write skills, then pick one for each group."""
        mine = sorted({s.group for s in samples})
        told = [max(groups[g].scored(), key=lambda t: t.reward) for g in mine]
        attempts = [(groups[g], attempt) for g, attempt in zip(mine, told, strict=True)]
        written = skills(attempts, tools, self.author, self.author_tokens, self.quoted)
        added = [self.memory.add(text, self._step) if text else None for text in written]
        own = {g: entry.key for g, entry in zip(mine, added, strict=True) if entry}
        shown = pick(self.memory, mine, own, self.exploration)
        tools.log["skills"] = float(len(self.memory))
        for sample in samples:
            sample.notes["skill"] = shown.get(sample.group)
        texts = [self.memory.get(s.notes["skill"]) if s.notes["skill"] else None for s in samples]
        return {**super().given(samples, groups, tools), "skill": texts}

    def terms(self, batch: Batch) -> list[Term]:
        """GRPO, and the weighted estimate on taught tokens."""
        terms = super().terms(batch)
        if batch.reading is not None:
            self._count_trials(batch)
            share = self.weight.at(self._step) * token_mean(batch.per_token(batch.taught))
            constants = {"teacher": batch.reading.logprob.nan_to_num(), "start": batch.logprobs.nan_to_num()}
            terms.append(Pointwise(share, weighted_k3(self.is_clip), constants))
        return terms

    def reshaped(self, batch: Batch, advantages: Tensor, log_ratio: Tensor) -> Tensor:
        """As they are: the teacher has a term of its own."""
        return advantages

    def _count_trials(self, batch: Batch) -> None:
        """Whether each attempt's skill told what it was worth; a later pass over the batch replaces an earlier one."""
        gap = batch.log_ratio()
        for turns in batch.trajectories:
            rows = [int(i) for i in turns if batch.samples[int(i)].teacher_ids is not None]
            key = batch.samples[rows[0]].notes.get("skill") if rows else None
            spans = [gap[int(batch.offsets[i]) : int(batch.offsets[i + 1])] for i in rows]
            tokens = sum(len(span) for span in spans)
            if key and tokens:
                mean = float(sum(span.sum() for span in spans)) / tokens
                one = batch.samples[rows[0]]
                self._trials[one.group, one.attempt, key] = mean > 0 if one.reward >= 1.0 else mean < 0

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """The step's trials count from the next one on."""
        for (_, _, key), helpful in self._trials.items():
            self.memory.tag(key, self._step, helpful=helpful)
        self._trials.clear()

    def state_dict(self) -> dict[str, Any]:
        """The skills."""
        return {"skills": self.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.memory.load_state_dict(state["skills"])
