"""Lightning OPD: on-policy distillation offline (arXiv 2604.13010). Sampled once, scored once, learnt from again and
again.

    y   ~ p_0(. | x)                                         one rollout a prompt, of the student as it was at first
    s_t = log q(y_t | x, y_<t)                               the teacher's word on it, kept
    A_t = clip( s_t - log p(y_t | x, y_<t), -tau, tau )      p: the student now
    L   = - 1/N sum_t stopgrad(A_t) log p(y_t)               no importance weights: w = 1

At first this is the policy gradient of the reverse KL; later it differs by what the student moved, and what is left
out holds it back like a trust region. The first ``rollout_steps`` steps sample, from the student of step 0 whatever
the student is by then, and learn; later ones learn from the same sequences in a new order, and generate nothing, nor
ask the teacher. Rollouts and scores lie in ``rollouts.jsonl`` of the run's directory. ``recorded`` names such a file
of another run, and nothing is generated from the first step on.

A teacher other than the one whose answers the student was fine-tuned on leaves a bias that no training takes away
(the paper: 6.8 points at 8B): name that model in ``fine_tuned_on``, and a warning says where they differ. Scores of
one teacher are never taken for another's: a file that another one scored is refused.

Status: full but for tau, whose value could not be confirmed (5 nats is our reading), and the number of passes. The
paper samples everything before it trains; here sampling and the first pass take turns, from the same distribution.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator

from agents.batch import MAIN, Batch, Sample
from agents.engines.base import Engine
from agents.engines.hf import HFEngine
from agents.losses.reduction import token_mean
from agents.losses.terms import Likelihood, Term
from agents.recipes.opd import OPD
from agents.recipes.tools import StepTools
from agents.recorded import ROLLOUTS_FILE, SCORES, Recorded, Rollout, score
from agents.teachers.teacher import Teacher, TeacherSettings
from agents.trajectory import Group

FIRST = "first"
"""Name of the policy of step 0 among the teachers."""


class LightningOPD(OPD):
    """Sampled-token `OPD` on rollouts and scores that are kept."""

    name: ClassVar[str] = "lightning_opd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6},
        "batch": {"tasks": 64, "attempts": 1},
        "steps": 150,
    }
    reads_student: ClassVar[bool] = True

    form: Literal["full", "sampled", "baseline"] = Field("sampled", description="the sampled token's log-ratio alone")
    tau: float = Field(5.0, gt=0, description="largest advantage of a token, nats, up or down")
    rollout_steps: int = Field(50, ge=1, description="steps that sample; later ones learn from what those did")
    recorded: str = Field("", description="rollouts.jsonl of another run, to learn from and sample nothing")
    fine_tuned_on: str = Field("", description="model whose answers the policy was fine-tuned on, to be compared")

    _kept: Recorded = PrivateAttr(default_factory=Recorded)
    _replayed: Rollout | None = PrivateAttr(default=None)
    _sampling: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _consistent(self) -> LightningOPD:
        if self.form != "sampled":
            raise ValueError(f"recipe.form={self.form!r} with recipe=lightning_opd: it keeps sampled tokens' scores")
        if self.teacher.kind not in ("frozen", "external", "server"):
            raise ValueError(
                f"recipe.teacher.kind={self.teacher.kind!r} with recipe=lightning_opd: what it says is kept, so it "
                "must not move; set recipe.teacher.kind to frozen, external or server"
            )
        if self.intervention is not None:
            raise ValueError("recipe.intervention with recipe=lightning_opd: judges weigh divergences, here is none")
        if self.fine_tuned_on and self.fine_tuned_on != self.teacher.model:
            warnings.warn(
                f"recipe.fine_tuned_on={self.fine_tuned_on!r} is not recipe.teacher.model={self.teacher.model!r}: a "
                "policy that was fine-tuned on another teacher's answers keeps a bias, offline more than online",
                stacklevel=2,
            )
        return self

    def teachers(self) -> dict[str, TeacherSettings]:
        """The teacher, and the policy of step 0, which samples."""
        return {MAIN: self.teacher, FIRST: TeacherSettings(kind="frozen")}

    def streams(self) -> dict[str, str]:
        """None: the teacher is asked once, in `views`."""
        return {}

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Only the sampled tokens' scores."""
        return {"logprob": f"recipe={self.name}"} if name == MAIN else {}

    def sampler(self, engine: HFEngine, teachers: Mapping[str, Teacher]) -> Engine | None:
        """The policy of step 0."""
        return teachers[FIRST]

    def open(self, directory: Path) -> None:
        """Where rollouts are kept."""
        self._kept = Recorded(Path(self.recorded) if self.recorded else directory / ROLLOUTS_FILE)

    def begin(self, step: int) -> None:
        """Whether this step samples."""
        super().begin(step)
        self._replayed, self._sampling = None, not self.recorded and step < self.rollout_steps

    def replay(self, step: int) -> list[Group] | None:
        """A kept rollout, each of them once a pass, in another order each time."""
        if self._sampling:
            return None
        there = self._kept.steps() if self.recorded else list(range(self.rollout_steps))
        done, at = divmod(step if self.recorded else step - self.rollout_steps, max(len(there), 1))
        random.Random(f"pass:{done}").shuffle(there)
        self._replayed = self._kept.read(there[at] if there else 0, self._identity())
        return self._replayed.groups

    def _identity(self) -> dict[str, Any]:
        return self.teacher.model_dump(include={"kind", "model", "dtype", "temperature", "url"})

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Of new rollouts the teacher's word is asked, and kept; of kept ones it is remembered."""
        if self._replayed is not None:
            self._replayed.restore(samples)
            return 0
        overlong = super().views(samples, groups, tools)
        taught = [s for s in samples if s.teacher_ids is not None]
        taught = score(taught, tools.teachers[MAIN], tools.sampling.temperature)
        if self._sampling:
            self._kept.add(self._step, groups, taught, self._identity())
        return overlong

    def terms(self, batch: Batch) -> list[Term]:
        """Likelihood times the advantage: the plain surrogate without importance weights."""
        kept = torch.tensor([x for s in batch.samples for x in s.notes.get(SCORES, [math.nan] * len(s.action_ids))])
        known = ~kept.isnan()
        advantages = (kept - batch.logprobs).masked_fill(~known, 0.0)
        if known.any():
            batch.log["distil_advantage"] = float(advantages[known].mean())
            batch.log["advantages_cut"] = float((advantages[known].abs() > self.tau).float().mean())
        return [Likelihood(token_mean(known.float(), advantages.clamp(-self.tau, self.tau)))]
