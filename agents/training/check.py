"""Ask before you teach: is the teacher any better than the student, on the tasks it would teach?

A cheap screen, not a predictor: a teacher that succeeds no more often than the student has nothing to teach, and
one that is less certain than the student on good attempts teaches doubt. Passing says little.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch

import rfenvs
from agents.batch import Batch, samples_of
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.history import RolloutSettings
from agents.losses.fused import fused_loss
from agents.recipes.base import TaughtRecipe
from agents.rollout import Environments, rollout, task_order
from agents.teachers.contexts import add_contexts
from agents.teachers.teacher import Teacher


@dataclass
class TeacherCheck:
    """Student beside teacher, on the first turns that the teacher would teach."""

    attempts: int
    """Attempts the student made."""
    taught: int
    """First turns among them with a teacher context."""
    student_success: float
    """Mean reward of all the student's attempts."""
    teacher_success: float
    """Mean reward of one answer by the teacher to each of its own prompts."""
    student_success_taught: float
    """The student's, on the taught turns only."""
    gap_good: float
    """Mean over good attempts of log q(y) - log p(y), in nats a sequence: above 0 is right."""
    gap_bad: float
    """The same over bad attempts: below ``gap_good`` is right."""
    student_entropy: float
    """Nats a token."""
    teacher_entropy: float

    def warnings(self) -> list[str]:
        """What speaks against this teacher; empty if nothing does."""
        found = []
        if not self.attempts:
            return ["no attempt could be scored, so the teacher could not be checked"]
        if not self.taught:
            return ["no attempt has a teacher context: no successes among siblings, and no usable feedback"]
        if not self.teacher_success > self.student_success:
            found.append(
                f"the teacher succeeds in {self.teacher_success:.0%} of its answers, the student in "
                f"{self.student_success:.0%}: it has nothing to teach. Try another recipe.context.wording or sources"
            )
        if self.gap_good <= self.gap_bad:
            found.append(
                f"the teacher raises bad attempts ({self.gap_bad:+.2f} nats) as much as good ones "
                f"({self.gap_good:+.2f})"
            )
        if self.teacher_entropy > 1.2 * self.student_entropy:
            found.append(
                f"the teacher is less certain ({self.teacher_entropy:.2f} nats a token) than the student "
                f"({self.student_entropy:.2f}): watch for collapse, or lower recipe.teacher.temperature"
            )
        return found

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


@torch.no_grad()
def check_teacher(
    engine: HFEngine,
    teacher: Teacher,
    recipe: TaughtRecipe,
    environments: Environments,
    *,
    tasks: int,
    attempts: int,
    sampling: Sampling,
    seed: int,
    settings: RolloutSettings | None = None,
) -> TeacherCheck:
    """Let student and teacher attempt the same tasks, and score the student's attempts with both."""
    indices = task_order(environments.num_tasks(), seed, 0, min(tasks, environments.num_tasks()))
    groups = rollout(engine, engine.chat, environments, indices, attempts, sampling, seed, settings=settings)
    everything = samples_of(groups)
    student = _mean([t.reward for g in groups for t in g.scored()])
    first = [s for s in everything if s.turn == 0]
    add_contexts(recipe.context, first, groups, engine.chat, engine.context_length, f"check:{seed}")
    taught = [s for s in first if s.teacher_ids is not None]
    if not taught:
        return TeacherCheck(len(first), 0, student, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)

    prompts = [s.teacher_ids for s in taught if s.teacher_ids is not None]
    with teacher.weights():
        answers = engine.generate(prompts, sampling, seed + 1)
    actions = [rfenvs.Action(engine.chat.decode(a.ids), finish_reason=a.finish_reason) for a in answers]
    graded = environments.grade([indices[s.group] for s in taught], actions)
    rewards = [reward for reward in graded if reward is not None]

    batch = Batch(taught)
    logits = teacher.logits([(s.teacher_ids or [], s.action_ids) for s in taught], sampling.temperature)
    states, head = Teacher.live(engine).read(batch.items())
    _, stats = fused_loss(
        states, head, batch.targets.to(states.device), [], teacher=logits, temperature=sampling.temperature
    )
    gap = torch.zeros(len(batch)).index_add_(0, batch.sequence, (stats.teacher_logp - stats.logp).float().cpu())
    return TeacherCheck(
        attempts=len(first),
        taught=len(taught),
        student_success=student,
        teacher_success=_mean(rewards),
        student_success_taught=_mean([s.reward for s in taught]),
        gap_good=_mean(gap[batch.correct].tolist()),
        gap_bad=_mean(gap[~batch.correct].tolist()),
        student_entropy=float(stats.entropy.mean()),
        teacher_entropy=float(stats.teacher_entropy.mean()),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
