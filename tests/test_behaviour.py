"""Which distribution a token came from travels with it: under its own prompt, another prompt, or another model."""

from __future__ import annotations

import math

import coin
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_learner import HEADER, make_batch

from agents import recipes
from agents.batch import Batch, Sample, View
from agents.engines.base import Sampling
from agents.losses.surrogate import importance_weights
from agents.losses.terms import PolicyGradient
from agents.recipes.tools import StepTools
from agents.rollout import Drive, Environments, rollout
from agents.teachers.teacher import Teacher, TeacherSettings
from agents.training.alarms import alarms, repetitive
from agents.training.learner import Learner, OptimSettings
from agents.training.records import trajectory_rows
from agents.trajectory import Group, Trajectory, Turn

SAID = [{"role": "user", "content": "even?"}]
OTHER = View([{"role": "user", "content": "odd?"}], [*HEADER, 60, 61, 62])


def sample(**fields: object) -> Sample:
    return Sample([1], [2, 3], fields.pop("logprobs", None), [], "x", 0.0, [], 0, 0, 0, **fields)  # type: ignore[arg-type]


@pytest.fixture
def tools(engine) -> StepTools:
    return StepTools(
        engine.chat, limit=200, seed="0", sampling=Sampling(max_tokens=5), engine=engine,
        teachers={"teacher": Teacher(engine, TeacherSettings(kind="frozen"))},
    )  # fmt: skip


# ---- the rule


def test_a_sequence_has_one_account_of_where_it_came_from():
    with pytest.raises(ValueError, match="logprobs and behaviour"):
        sample(logprobs=[-1.0, -1.0], behaviour=[-1.0, -1.0])
    with pytest.raises(ValueError, match="1 behaviour for 2 tokens"):
        sample(behaviour=[-1.0])
    changed = sample(logprobs=[-1.0, -1.0])
    changed.action_ids = [2]
    with pytest.raises(ValueError, match="2 logprobs for 1 tokens"):
        Batch([changed])


def test_behaviour_is_nan_where_the_policy_spoke_to_its_own_prompt():
    batch = Batch([sample(logprobs=[-1.0, -2.0]), sample(behaviour=[-3.0, -4.0]), sample()])
    assert torch.equal(batch.behaviour.isnan(), torch.tensor([True, True, False, False, True, True]))
    assert batch.behaviour[2:4].tolist() == [-3.0, -4.0]
    assert torch.equal(batch.sampler_logprobs.isnan(), torch.tensor([False, False, True, True, True, True]))
    assert Batch([sample()]).behaviour is None


def test_a_reply_under_its_own_prompt_has_sampler_logprobs_and_else_behaviour(tools):
    (reply,) = tools.ask([SAID])
    own = reply.sample(0, 0, "correction")
    assert own.logprobs == reply.completion.logprobs
    assert own.behaviour is None
    assert own.prompt_ids == reply.prompt_ids
    moved = reply.sample(0, 0, "guided", under=OTHER)
    assert moved.logprobs is None
    assert moved.behaviour == reply.completion.logprobs
    assert moved.prompt_ids == OTHER.ids


@pytest.mark.parametrize(("who", "temperature"), [("teacher", None), ("policy", 0.7)])
def test_what_another_distribution_said_is_never_taken_for_the_sampler_s(tools, who, temperature):
    (reply,) = tools.ask([SAID], who, temperature=temperature)
    assert reply.sample(0, 0, "teacher").logprobs is None
    assert reply.sample(0, 0, "teacher").behaviour == reply.completion.logprobs


@pytest.mark.parametrize("known", [True, False])
def test_the_ratio_of_a_sequence_from_elsewhere(engine, known):
    """Against what made it where that is known, by value and gradient; else it starts at 1."""
    batch = make_batch()
    guided = batch.samples[3]
    written = [-4.0] * len(guided.action_ids)
    guided.logprobs, guided.behaviour = None, written if known else None
    batch = Batch(batch.samples)
    batch.advantages = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    term = PolicyGradient(
        torch.ones(len(batch.targets)), batch.per_token(batch.advantages), 1e9, 1e9, behaviour=batch.behaviour
    )
    result = Learner(engine, OptimSettings(), 1.0).step(batch, [term])
    logits = engine_logits(guided)
    expected = sum(math.exp(p - (q if known else p)) for p, q in zip(logits, written, strict=True))
    assert result.loss == pytest.approx(-expected, rel=1e-4)


def test_no_weight_of_the_policy_s_own_corrects_what_it_did_not_sample():
    """rho and w of a divergence on a teacher's answer, in the second of several optimiser steps."""
    now, old = torch.tensor([-1.0, -1.0]), torch.tensor([-1.5, -1.5])
    rho, w = importance_weights(now, old, torch.tensor([-1.6, math.nan]), 2.0)
    assert rho.tolist() == pytest.approx([math.exp(0.5), 1.0])
    assert w.tolist() == pytest.approx([math.exp(0.1), 1.0])


def engine_logits(sample: Sample) -> list[float]:
    """Log-probabilities under the tiny model as it was made, each sequence alone."""
    from models import tiny_model, tiny_tokenizer

    model = tiny_model(len(tiny_tokenizer()))
    with torch.no_grad():
        logits = model(torch.tensor([sample.prompt_ids + sample.action_ids])).logits[0, len(sample.prompt_ids) - 1 : -1]
    return logits.log_softmax(-1)[range(len(sample.action_ids)), sample.action_ids].tolist()


# ---- what else recipes share


@pytest.mark.parametrize("k", [1, 3, 50])
def test_among_likeliest(engine, tools, k):
    items = [(HEADER, [70, 71, 72]), ([*HEADER, 5], [80])]
    expected = []
    for prompt, action in items:
        with torch.no_grad():
            logits = engine.model(torch.tensor([prompt + action])).logits[0, len(prompt) - 1 : -1]
        expected.append([y in row.topk(k).indices.tolist() for row, y in zip(logits, action, strict=True)])
    assert tools.among_likeliest(items, k) == expected


def test_an_opening_is_what_the_policy_sees_and_the_environment_does_not(engine):
    environments = Environments(coin.ID, "train")
    told: list[tuple[object, int]] = []

    def opening(messages, task, attempt):
        told.append((task["index"], attempt))
        return [{"role": "system", "content": f"Attempt {attempt}."}, *messages]

    groups = rollout(
        engine, engine.chat, environments, [3, 4], 2, Sampling(max_tokens=4), 0, drive=Drive(opening=opening)
    )
    assert told == [(3, 0), (3, 1), (4, 0), (4, 1)]
    for group in groups:
        for a, trajectory in enumerate(group.trajectories):
            turn = trajectory.turns[0]
            assert turn.messages[0] == {"role": "system", "content": f"Attempt {a}."}
            assert turn.messages[1]["content"].startswith(f"Number {group.task['index']}")
            assert turn.prompt_ids == engine.chat.encode(turn.messages)
            assert len(turn.logprobs) == len(turn.action_ids)


def test_a_sequence_beside_an_attempt_does_not_take_its_place_in_the_records(engine):
    own, extra = sample(logprobs=[-1.0, -1.0]), sample(source="reference")
    own.teacher_messages, own.teacher_ids = SAID, [1]
    batch = Batch([own, extra])
    result = Learner(engine, OptimSettings(), 1.0).step(batch, recipes.get("grpo")().terms(_advantaged(batch)))
    group = Group({"id": "a"}, [Trajectory([Turn([1], [2, 3], [-1.0, -1.0], "x", [])])])
    (row,) = trajectory_rows(0, [group], [(batch, result)], None)
    assert row["turns"][0]["teacher_messages"] == SAID


def _advantaged(batch: Batch) -> Batch:
    batch.advantages = torch.ones(len(batch))
    return batch


# ---- the monitors of StableOPD


def test_loops_are_repetitive_and_prose_and_short_answers_are_not():
    assert repetitive("Wait, let me check that again. " * 200)
    assert not repetitive("no no no no no no no no")
    assert not repetitive(" ".join(str(k * k) for k in range(2000)))
    assert repetitive(" ".join(str(k * k) for k in range(2000)) + "so, " * 5000), "only the end counts"


@given(st.text(max_size=80))
def test_no_short_text_is_repetitive(text):
    assert not repetitive(text)


def test_a_loop_alarms_once_it_takes_hold():
    steady = [{"repetitive": 0.0}] * 5
    assert [a.name for a in alarms([*steady, {"repetitive": 0.3}])] == ["repetitive"]
    assert alarms([*steady, {"repetitive": 0.05}]) == []
