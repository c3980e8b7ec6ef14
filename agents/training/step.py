"""One training step after its rollout: groups to samples to a batch to new weights.

    samples = recipe.samples(groups, tools)          # what is trained on
    recipe.views(samples, groups, tools)             # what teachers see
    recipe.annotate(samples, groups, tools)          # what judges say
    for batch of samples, ``optim.epochs`` times:
        teachers read, the recipe makes loss terms, the learner steps
    teachers follow

The trainer and test-time training share it; neither knows of the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from agents.batch import MAIN, Batch, Sample
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.recipes.base import Recipe, TaughtRecipe
from agents.recipes.tools import StepTools
from agents.teachers.teacher import Teacher, read_teacher
from agents.training.learner import Learner, StepResult
from agents.trajectory import Group

Results = list[tuple[Batch, StepResult]]


@dataclass
class Outcome:
    """What a step did."""

    samples: list[Sample]
    results: Results
    """One batch for each optimiser step, and what the learner says of it."""
    overlong: int
    """Views that did not fit a teacher's context."""
    failed: int = 0
    """Views that a teacher behind a server could not score: they are not learnt from."""


class Update:
    """Turns groups into new weights; owns nothing but the way."""

    def __init__(
        self,
        recipe: Recipe,
        engine: HFEngine,
        learner: Learner,
        teachers: Mapping[str, Teacher],
        sampling: Sampling,
        record_tokens: int = 0,
    ) -> None:
        self.recipe, self.engine, self.learner, self.teachers = recipe, engine, learner, teachers
        self.sampling, self.record_tokens = sampling, record_tokens
        self._failed = 0

    def learn(self, groups: Sequence[Group], tools: StepTools) -> Outcome:
        """Train on the groups of one rollout."""
        recipe, overlong, self._failed = self.recipe, 0, 0
        samples = recipe.samples(groups, tools)
        if isinstance(recipe, TaughtRecipe) and self.teachers and recipe.teaching():
            overlong = recipe.views(samples, groups, tools)
            recipe.annotate(samples, groups, self.teachers[MAIN], self.engine.chat)
        results = self._optimise(samples, groups) if samples else []
        if any(result.stepped for _, result in results):
            for teacher in {id(t): t for t in self.teachers.values()}.values():
                teacher.update()
        return Outcome(samples, results, overlong, self._failed)

    def _optimise(self, samples: list[Sample], groups: Sequence[Group]) -> Results:
        recipe, epochs = self.recipe, self.learner.settings.epochs
        parts = min(self.learner.settings.steps_per_batch, len(samples))
        advantages = recipe.advantages(groups)
        batches = [Batch(part) for part in recipe.batches(samples, parts)]
        outcomes = {g: [t.reward for t in group.scored()] for g, group in enumerate(groups)}
        for batch in batches:
            batch.outcomes = outcomes
            batch.advantages = torch.tensor([_advantage(s, advantages) for s in batch.samples])
            if len(batches) * epochs > 1:
                batch.old_logprobs = self.learner.logprobs(batch, recipe.idle(batch))
        results = []
        for epoch in range(epochs):
            last = epoch == epochs - 1
            for batch in batches:
                if isinstance(recipe, TaughtRecipe):
                    self._read(recipe, batch)
                result = self.learner.step(batch, recipe.loss(batch), self.record_tokens, recipe.name)
                results.append((batch if last else replace(batch, log=dict(batch.log), teachers={}), result))
                if last:
                    batch.teachers.clear()
        return results

    def _read(self, recipe: TaughtRecipe, batch: Batch) -> None:
        """Let every stream's teacher read, and the policy itself where the recipe looks at it."""
        if not batch.teachers:
            batch.passed_over = recipe.passed_over(batch)
        for stream, name in recipe.streams().items():
            teacher, before = self.teachers.get(name), batch.teachers.get(stream)
            if teacher is None or (before is not None and teacher.stays):
                continue  # what it said in an earlier epoch
            chosen = [s for s, read in zip(batch.samples, batch.read_by(stream).tolist(), strict=True) if read]
            items = [(view.ids, s.action_ids) for s in chosen if (view := s.view(stream))]
            if not items:
                continue
            scores = teacher.score(items, self.sampling.temperature, before)
            self._failed += len(scores.failed)
            for i in scores.failed:
                chosen[i].show(stream, None)
            if scores.logits is not None:
                batch.teachers[stream] = scores.logits
                if recipe.needs_reading:
                    batch.readings[stream] = read_teacher(batch, stream)
        if recipe.reads_student:
            batch.student = self.learner.student(batch, recipe.measure(len(batch.targets)))


def _advantage(sample: Sample, advantages: Mapping[tuple[int, int, int], float]) -> float:
    if sample.advantage is not None:
        return sample.advantage
    return advantages[sample.group, sample.attempt, sample.turn] if sample.source == "policy" else 0.0
