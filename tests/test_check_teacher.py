"""The check of a teacher in episodes of many turns: on plan or not, and log-probabilities over all taught turns."""

from __future__ import annotations

import math
import re

import pytest
from corridor import ID

from agents.engines.base import Completion, Sampling
from agents.recipes.sdpo import SDPO
from agents.rollout import Environments
from agents.teachers.contexts import Context
from agents.teachers.teacher import Teacher
from agents.training.check import check_teacher
from agents.training.console import Console

SAMPLING = Sampling(max_tokens=8)


@pytest.fixture
def obedient(engine, monkeypatch):
    """The tiny engine scores; what it says is the answer in brackets where it is told one, else "go left"."""

    def generate(prompts, sampling, seed, **_):
        said = []
        for prompt in prompts:
            newest = engine.chat.decode(prompt).rsplit("user\n", 1)[-1]
            told = re.search(r"\(answer: ([a-z ]+)", newest)
            ids = [*engine.chat.plain(told[1] if told else "go left"), min(engine.chat.stop_ids())]
            said.append(Completion(ids, [-1.0] * len(ids), "stop"))
        return said

    monkeypatch.setattr(engine, "generate", generate)
    return engine


def check(engine, recipe, tasks=4, **kwargs):
    environments = Environments(ID, "train", {"max_turns": 3, **kwargs})
    return check_teacher(
        engine, Teacher.live(engine), recipe, environments, tasks=tasks, attempts=2, sampling=SAMPLING, seed=0
    )


def test_a_teacher_that_knows_the_plan_is_on_it(obedient, capsys):
    recipe = SDPO(context=Context(sources=["plan"], wording="inline", allow_reference=True))
    result = check(obedient, recipe)
    assert result.episodes
    assert result.attempts == result.taught == result.asked == 4 * 2 * 3
    assert result.teacher_on_plan == 1.0
    assert 0.0 < result.student_on_plan < 1.0
    assert math.isnan(result.teacher_success), "one action of an episode has no success of its own"
    assert not any("nothing to teach" in warning for warning in result.warnings())
    assert {"asked", "student_on_plan", "teacher_on_plan"} <= set(result.to_dict())
    Console().teacher(result)
    assert "teacher 100%" in capsys.readouterr().err


def test_a_teacher_that_knows_nothing_has_nothing_to_teach(obedient):
    result = check(obedient, SDPO(context=Context(sources=["none"])))
    assert result.teacher_on_plan == result.student_on_plan
    assert result.gap_good == pytest.approx(0, abs=1e-3)
    assert result.gap_bad == pytest.approx(0, abs=1e-3)
    assert any("is on plan at" in warning and "nothing to teach" in warning for warning in result.warnings())


def test_good_turns_are_those_that_bring_the_goal_nearer(obedient):
    """Everybody says "go left": a turn is good where that is the way, whatever becomes of the episode."""
    recipe = SDPO(context=Context(sources=["plan"], wording="inline", allow_reference=True))
    result = check(obedient, recipe, tasks=8)
    assert result.student_success == 0.0
    assert math.isfinite(result.gap_good)
    assert math.isfinite(result.gap_bad)


def test_without_a_planner_the_outcome_decides_and_no_action_is_judged(obedient):
    result = check(obedient, SDPO(context=Context(sources=["rest"])), expert=False)
    assert result.episodes
    assert result.asked == 0
    assert math.isnan(result.teacher_on_plan)
    assert math.isnan(result.gap_good)
    assert math.isfinite(result.gap_bad)
    assert not any("nothing to teach" in warning for warning in result.warnings())


def test_a_real_sampling_engine_is_checked_in_every_placement(engine):
    for context in (
        Context(sources=["rest", "feedback"]),
        Context(sources=["plan"], placement="head", allow_reference=True),
    ):
        result = check(engine, SDPO(context=context), tasks=2)
        assert result.taught
        assert math.isfinite(result.student_entropy)
