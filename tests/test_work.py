"""What a step forwards, counted: nothing is read that has no part in the loss, and nothing twice."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from agents import recipes
from agents.batch import Sample
from agents.engines.base import Sampling
from agents.losses.head import Head
from agents.teachers.teacher import Teacher, TeacherSettings
from agents.training.learner import Learner, OptimSettings
from agents.training.step import Update

HEADER = [1, 50, 51, 52, 53, 54]


class Counts:
    """Nodes of every pass, and tokens through the output layer: (with gradients, without)."""

    def __init__(self, engine, monkeypatch):
        self.nodes, self.head = [0, 0], 0
        nodes, logits = engine._nodes, Head.logits

        def counted(tree, start, stop, *rest):
            self.nodes[not torch.is_grad_enabled()] += stop - start
            return nodes(tree, start, stop, *rest)

        def counted_logits(head, hidden):
            self.head += len(hidden)
            return logits(head, hidden)

        monkeypatch.setattr(engine, "_nodes", counted)
        monkeypatch.setattr(Head, "logits", counted_logits)


def make_samples() -> list[Sample]:
    """Three groups of two attempts: distinct answers of 4 tokens; the last group is flat and has no context."""
    samples = []
    for group in range(3):
        for attempt in range(2):
            reward = float(attempt) if group < 2 else 0.0
            action = [100 + 10 * group + 5 * attempt + j for j in range(4)]
            sample = Sample([*HEADER, 60 + group], action, [-5.0] * 4, [], "", reward, [], group, attempt, 0)
            if group < 2 and not reward:
                sample.teacher_ids = [*HEADER, 60 + group, 70, 71]
            samples.append(sample)
    return samples


def learn(engine, name, monkeypatch, *, kind="ema", optim=None, **settings):
    torch.manual_seed(0)
    recipe = recipes.get(name)(**settings)
    learner = Learner(engine, OptimSettings(lr=1e-3, **(optim or {})), 1.0)
    teachers = {"teacher": Teacher(engine, TeacherSettings(kind=kind, rate=0.3))} if hasattr(recipe, "teacher") else {}
    update = Update(recipe, engine, learner, teachers, Sampling())
    samples = make_samples()
    group = {(s.group, s.attempt, 0): (s.reward - 0.5 if s.group < 2 else 0.0) for s in samples}
    monkeypatch.setattr(type(recipe), "advantages", lambda *_: group)
    counts = Counts(engine, monkeypatch)
    groups = [SimpleNamespace(scored=list, trajectories=[]) for _ in range(3)]
    results = update._optimise(samples, groups)
    return counts, results


# A path of 7 prompt tokens and 3 of the answer (its last leads to nothing scored); the header of 6 is shared.
ANSWER = 3


def test_sdpo_forwards_what_has_a_context_and_nothing_else(engine, monkeypatch):
    counts, _ = learn(engine, "sdpo", monkeypatch)
    assert counts.nodes == [6 + 2 * (1 + ANSWER), 6 + 2 * (3 + ANSWER)]
    assert counts.head == 2 * 4 * 2  # student and teacher, at the answers' tokens alone


def test_grpo_passes_over_flat_groups(engine, monkeypatch):
    counts, _ = learn(engine, "grpo", monkeypatch)
    assert counts.nodes == [6 + 2 * (1 + 2 * ANSWER), 0]
    assert counts.head == 4 * 4


def test_srpo_lets_the_teacher_read_failures_only(engine, monkeypatch):
    counts, _ = learn(engine, "srpo", monkeypatch)
    assert counts.nodes == [6 + 2 * (1 + 2 * ANSWER), 6 + 2 * (3 + ANSWER)]


@pytest.mark.parametrize(("name", "read"), [("grpo", 6 + 2 * (1 + 2 * ANSWER)), ("sdpo", 6 + 2 * (1 + ANSWER))])
def test_log_probabilities_before_the_first_step_are_those_of_what_is_learnt(engine, monkeypatch, name, read):
    counts, results = learn(engine, name, monkeypatch, optim={"epochs": 2})
    teacher = 6 + 2 * (3 + ANSWER) if name == "sdpo" else 0
    assert counts.nodes == [2 * read, read + teacher]
    old = results[0][0].old_logprobs
    assert old.isnan().sum() == len(old) - (16 if name == "grpo" else 8)
    assert all(result.stepped for _, result in results)


@pytest.mark.parametrize("kind", ["ema", "frozen", "live", "trust_region"])
def test_what_a_teacher_read_is_kept_for_the_next_epoch_and_changes_nothing(tiny_dir, monkeypatch, kind):
    from agents.engines.hf import HFEngine

    outcomes, read = [], []
    for kept in (True, False):
        with monkeypatch.context() as patch:
            engine = HFEngine.load(str(tiny_dir))
            if not kept:
                logits = Teacher.logits
                patch.setattr(Teacher, "stays", False)
                patch.setattr(Teacher, "logits", lambda self, items, t, before=None: logits(self, items, t))  # noqa: B023
            counts, results = learn(engine, "sdpo", patch, kind=kind, optim={"epochs": 3})
            assert len(results) == 3
            outcomes.append([r.loss for _, r in results])
            read.append(counts.nodes[1])
    assert outcomes[0] == pytest.approx(outcomes[1], abs=1e-6)
    assert len(set(outcomes[0])) == 3
    shadow = 6 + 2 * (3 + ANSWER)
    saved = {"ema": 2 * shadow, "frozen": 2 * shadow, "live": 0, "trust_region": 2 * shadow}
    assert read[1] - read[0] == saved[kind]
