"""Ask before you teach: is the teacher any better than the student, on the tasks it would teach?

A cheap screen, not a predictor: a teacher that succeeds no more often than the student has nothing to teach, and
one that is less certain than the student on good attempts teaches doubt. Passing says little.

In episodes of many turns every taught turn counts. No single action can be graded there, so that student and teacher
are compared by whether their actions are on plan: they bring the goal nearer, as the environment's planner counts. A
turn is good if it did, or, where no planner counts, if its episode succeeded (our reading).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import rfenvs
from agents.batch import Batch, Sample, samples_of
from agents.engines.base import Engine, Sampling
from agents.engines.hf import HFEngine
from agents.history import RolloutSettings
from agents.losses.fused import fused_loss
from agents.recipes.base import TaughtRecipe
from agents.recipes.tools import StepTools
from agents.rollout import Environments, rollout, task_order
from agents.teachers.contexts import add_contexts
from agents.teachers.hints import many_turns, turn_of
from agents.teachers.teacher import Teacher
from agents.trajectory import Group

ASKED = 64
"""Turns of episodes at which the teacher is asked for an action of its own, at most."""


@dataclass
class TeacherCheck:
    """Student beside teacher, on the first turns that the teacher would teach, or in episodes on all of them."""

    attempts: int
    """Attempts the student made; in episodes, turns."""
    taught: int
    """Those among them with a teacher context."""
    student_success: float
    """Mean reward of all the student's attempts."""
    teacher_success: float = math.nan
    """Mean reward of one answer by the teacher to each of its own prompts; NaN in episodes."""
    student_success_taught: float = math.nan
    """The student's, on the taught turns only."""
    gap_good: float = math.nan
    """Mean over good attempts of log q(y) - log p(y), in nats a sequence: above 0 is right."""
    gap_bad: float = math.nan
    """The same over bad attempts: below ``gap_good`` is right."""
    student_entropy: float = math.nan
    """Nats a token."""
    teacher_entropy: float = math.nan
    asked: int = 0
    """Taught turns of episodes, at most `ASKED`, at which the distance to the goal is known."""
    student_on_plan: float = math.nan
    """Share of them at which the student's action brought the goal nearer; NaN where no turn was asked."""
    teacher_on_plan: float = math.nan
    """The same for the teacher's own action there."""
    episodes: bool = False
    """Whether these are episodes of many turns."""

    def warnings(self) -> list[str]:
        """What speaks against this teacher; empty if nothing does."""
        found = []
        if not self.attempts:
            return ["no attempt could be scored, so the teacher could not be checked"]
        if not self.taught:
            return ["no attempt has a teacher context: no successes among siblings, and no usable feedback"]
        if self.asked and not self.teacher_on_plan > self.student_on_plan:
            found.append(
                f"the teacher's action is on plan at {self.teacher_on_plan:.0%} of {self.asked} turns, the student's "
                f"at {self.student_on_plan:.0%}: it has nothing to teach. Try another recipe.context.wording or sources"
            )
        if not self.episodes and not self.teacher_success > self.student_success:
            found.append(
                f"the teacher succeeds in {self.teacher_success:.0%} of its answers, the student in "
                f"{self.student_success:.0%}: it has nothing to teach. Try another recipe.context.wording or sources"
            )
        if self.gap_good <= self.gap_bad:
            found.append(
                f"the teacher raises bad {'turns' if self.episodes else 'attempts'} ({self.gap_bad:+.2f} nats) as much "
                f"as good ones ({self.gap_good:+.2f})"
            )
        if self.teacher_entropy > 1.2 * self.student_entropy:
            found.append(
                f"the teacher is less certain ({self.teacher_entropy:.2f} nats a token) than the student "
                f"({self.student_entropy:.2f}): watch for collapse, or lower recipe.teacher.temperature"
            )
        return found

    def to_dict(self) -> dict[str, float]:
        """Plain numbers; those of episodes only where there are any."""
        numbers = asdict(self)
        if not numbers.pop("episodes"):
            for name in ("asked", "student_on_plan", "teacher_on_plan"):
                del numbers[name]
        return numbers


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
    sampler: Engine | None = None,
) -> TeacherCheck:
    """Let student and teacher attempt the same tasks, and score the student's attempts with both.

    ``sampler`` makes the student's attempts; None: ``engine``.
    """
    indices = task_order(environments.num_tasks(), seed, 0, min(tasks, environments.num_tasks()))
    groups = rollout(sampler or engine, engine.chat, environments, indices, attempts, sampling, seed, settings=settings)
    everything = samples_of(groups)
    student = _mean([t.reward for g in groups for t in g.scored()])
    episodes = any(map(many_turns, groups))
    asked = everything if episodes else [s for s in everything if s.turn == 0]
    tools = StepTools(
        engine.chat, limit=teacher.context_length, seed=f"check:{seed}", sampling=sampling, engine=engine,
        teachers=dict.fromkeys(recipe.teachers(), teacher), environments=environments, tasks=indices,
    )  # fmt: skip
    memory = recipe.state_dict()
    given = recipe.given(asked, groups, tools)
    recipe.load_state_dict(memory)  # what a recipe remembers of these attempts is no part of the run
    add_contexts(recipe.context, asked, groups, engine.chat, teacher.context_length, tools.seed, given=given)
    taught = [s for s in asked if s.teacher_ids is not None]
    check = TeacherCheck(len(asked), len(taught), student, episodes=episodes)
    if not taught:
        return check

    def answers(samples: Sequence[Sample]) -> list[rfenvs.Action]:
        prompts = [s.teacher_ids or [] for s in samples]
        asked = [s.teacher_messages or [] for s in samples]
        completions = teacher.generate(prompts, sampling, seed + 1, asked) if prompts else []
        return [rfenvs.Action(engine.chat.decode(c.ids), finish_reason=c.finish_reason) for c in completions]

    if episodes:
        planned = [s for s in taught if turn_of(s, groups).before.get("plan_distance") is not None]
        planned = planned[:: max(1, math.ceil(len(planned) / ASKED))]
        nearer = _on_plan(environments, indices, groups, planned, answers(planned))
        pairs = zip(planned, nearer, strict=True)
        compared = [(_nearer(sample, groups), theirs) for sample, theirs in pairs if theirs is not None]
        check.asked = len(compared)
        check.student_on_plan = _mean([float(ours) for ours, _ in compared])
        check.teacher_on_plan = _mean([float(theirs) for _, theirs in compared])
    else:
        graded = environments.grade([indices[s.group] for s in taught], answers(taught))
        check.teacher_success = _mean([reward for reward in graded if reward is not None])

    check.student_success_taught = _mean([s.reward for s in taught])
    if "logprob" not in teacher.abilities:
        return check
    scores = teacher.score([(s.teacher_ids or [], s.action_ids) for s in taught], sampling.temperature)
    taught = [s for i, s in enumerate(taught) if i not in set(scores.failed)]
    batch = Batch(taught)
    states, head = Teacher.live(engine).read(batch.items())
    _, stats = fused_loss(
        states, head, batch.targets.to(states.device), [], teacher=scores.logits, temperature=sampling.temperature
    )
    gap = torch.zeros(len(batch)).index_add_(0, batch.sequence, (stats.teacher_logp - stats.logp).float().cpu())
    good = torch.tensor([_good(s, groups) for s in taught])
    check.gap_good, check.gap_bad = _mean(gap[good].tolist()), _mean(gap[~good].tolist())
    check.student_entropy, check.teacher_entropy = float(stats.entropy.mean()), float(stats.teacher_entropy.mean())
    return check


def _good(sample: Sample, groups: Sequence[Group]) -> bool:
    """Whether a turn was a good one: by the planner where it counts, else by the outcome."""
    counted = turn_of(sample, groups).before.get("plan_distance") is not None
    return _nearer(sample, groups) if counted else sample.reward >= 1.0


def _nearer(sample: Sample, groups: Sequence[Group]) -> bool:
    turn = turn_of(sample, groups)
    return _brings_nearer(turn.before, turn.after)


def _brings_nearer(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    left = after.get("plan_distance")
    return bool(after.get("won")) or (left is not None and left < before["plan_distance"])


def _on_plan(
    environments: Environments,
    indices: Sequence[int],
    groups: Sequence[Group],
    samples: Sequence[Sample],
    moves: Sequence[rfenvs.Action],
) -> list[bool | None]:
    """Whether each move brings the goal nearer in its sample's state, which is reached by playing up to it again.

    None where the environment does not come to the same state again.
    """

    def one(env: Any, sample: Sample, move: rfenvs.Action) -> bool | None:
        _, info = environments.start(env, indices[sample.group])
        turns = groups[sample.group].trajectories[sample.attempt].turns
        for turn in turns[: sample.turn]:
            *_, info = env.step(rfenvs.Action(turn.text, finish_reason=turn.finish_reason))
        before = turns[sample.turn].before
        if any(info.get(key) != before.get(key) for key in ("state_key", "plan_distance")):
            return None
        *_, info = env.step(move)
        return _brings_nearer(before, info)

    return environments.map(one, environments.take(len(samples)), samples, moves)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
