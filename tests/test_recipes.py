"""Recipes annotate tokens as their papers say."""

from __future__ import annotations

import pytest
import torch
from test_learner import make_batch

from agents import recipes
from agents.advantages import group_advantages
from agents.errors import SetupError
from agents.losses.terms import Distill, PolicyGradient
from agents.recipes.tools import StepTools
from agents.trajectory import Group, Trajectory, Turn


def trajectory(reward: float, scored: bool = True) -> Trajectory:
    return Trajectory([Turn([1], [2], [-1.0], "x", [], reward)], scored=scored)


def test_advantages_are_golden():
    group = Group({}, [trajectory(r) for r in (1, 0, 0, 1)])
    assert group_advantages([group], normalise=False) == {
        (0, 0): 0.5,
        (0, 1): -0.5,
        (0, 2): -0.5,
        (0, 3): 0.5,
    }
    scaled = group_advantages([group], normalise=True)
    assert scaled[0, 0] == pytest.approx(0.5 / (0.5773503 + 1e-4), abs=1e-6)


def test_an_unscored_attempt_is_no_zero():
    group = Group({}, [trajectory(1), trajectory(0, scored=False), trajectory(1)])
    assert group_advantages([group], normalise=True) == {(0, 0): 0.0, (0, 2): 0.0}


def test_grpo_is_a_mean_over_all_tokens():
    batch = make_batch()
    (term,) = recipes.get("grpo")().terms(batch)
    assert isinstance(term, PolicyGradient)
    assert torch.allclose(term.coefficients, torch.full((len(batch.targets),), 1 / len(batch.targets)))
    assert (term.clip_low, term.clip_high) == (0.2, 0.28)


def test_sdpo_is_a_mean_over_sequences_that_counts_the_untaught():
    batch = make_batch()
    (term,) = recipes.get("sdpo")().terms(batch)
    assert isinstance(term, Distill)
    per_sequence = torch.zeros(7).index_add_(0, batch.sequence, term.coefficients)
    assert torch.allclose(per_sequence, batch.taught.float() / 7)
    assert (term.alpha, term.top_k, term.tail, term.is_clip) == (0.5, 100, True, 2.0)


def test_sdpo_rich_has_the_published_constants():
    recipe = recipes.get("sdpo_rich")()
    assert (recipe.alpha, recipe.top_k, recipe.teacher.rate, recipe.teacher.kind) == (1.0, 20, 0.01, "ema")
    assert recipe.run_defaults["optim"] == {"lr": 1e-6, "warmup_steps": 0, "steps_per_batch": 32}


def test_srpo_routes_every_token_once_under_one_denominator(engine):
    from agents.teachers.teacher import Teacher, TeacherSettings

    batch = make_batch(Teacher(engine, TeacherSettings(kind="live")))
    distil, policy = recipes.get("srpo")(beta=2.0).terms(batch)
    n = len(batch.targets)
    routed = batch.per_token(batch.taught & ~batch.correct)
    assert routed.any()
    assert not routed.all()
    assert torch.equal(policy.coefficients > 0, ~routed)
    assert torch.equal(distil.coefficients > 0, routed)
    assert torch.allclose(policy.coefficients[~routed], torch.tensor(1 / n))
    # weights have mean 1 over the routed tokens, and fall with the teacher's entropy
    assert float(distil.coefficients.sum()) == pytest.approx(float(routed.sum()) / n, rel=1e-5)
    entropy, weight = batch.reading.entropy[routed], distil.coefficients[routed] * n
    assert torch.allclose(
        weight.log() + 2.0 * entropy, (weight.log() + 2.0 * entropy)[0].expand(len(weight)), atol=1e-4
    )


def test_blend_weights_the_two_losses():
    batch = make_batch()
    distil, policy = recipes.get("sdpo_grpo")(policy_weight=0.9, distil_weight=0.1).terms(batch)
    assert float(policy.coefficients.sum()) == pytest.approx(0.9)
    assert float(distil.coefficients.sum()) == pytest.approx(0.1)
    assert torch.equal(distil.coefficients > 0, batch.per_token(batch.taught))


def test_imitation_learns_the_stated_answer_once_a_task(engine):
    def attempt(reward: float, expected: str | None) -> Trajectory:
        t = trajectory(reward)
        if expected:
            t.turns[0].feedback = [{"reveals_reference": True, "data": {"expected": expected}, "text": "Expected"}]
        return t

    groups = [
        Group({}, [attempt(0, 'call(name="Bob")'), attempt(0, 'call(name="Bob")'), attempt(1, None)]),
        Group({}, [attempt(1, None), attempt(1, None)]),
        Group({}, [attempt(0, None)]),
    ]
    samples = recipes.get("imitation")().samples(groups, StepTools(engine.chat))
    assert [(s.group, s.text) for s in samples] == [(0, 'call(name="Bob")'), (1, "x")]
    assert engine.chat.decode(samples[0].action_ids) == 'call(name="Bob")'
    assert samples[0].action_ids[-1] in engine.stop_ids


def test_an_unknown_recipe_names_the_near_miss():
    with pytest.raises(SetupError, match="did you mean 'srpo'"):
        recipes.get("srop")
