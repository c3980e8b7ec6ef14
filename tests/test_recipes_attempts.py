"""Recipes that learn from finished attempts: skills that are kept, and second attempts at the same question."""

from __future__ import annotations

import itertools
import math

import coin
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_learner import make_batch
from test_recipes_advantages import played, read, scripted_by

from agents import recipes
from agents.batch import Batch
from agents.config import build
from agents.credit.attempts import pair_advantages
from agents.errors import SetupError
from agents.losses.estimators import weighted_k3
from agents.memory import Memory, pick, upper_bound
from agents.recipes.writers import AGAIN

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
"""Of property tests on a busy machine."""


# ---- skill_sd: a memory of skills


def skilled(engine, answer, recipe=None):
    groups, tools = played(engine)
    tools = scripted_by(tools, answer)
    recipe = recipe or recipes.get("skill_sd")()
    samples = recipe.samples(groups, tools)
    recipe.views(samples, groups, tools)
    return recipe, samples, tools


def test_a_skill_is_written_a_group_kept_and_read_by_the_teacher_alone(engine):
    number = itertools.count()
    recipe, samples, tools = skilled(engine, lambda who, asked: f"Skill number {next(number)}.")
    assert len(tools.asked) == 3 == len(recipe.memory) == tools.log["skills"]
    for s in samples:
        told = s.view("teacher").messages[-1]["content"]
        assert f"Skill number {s.group}." in told, "an untried skill of its own comes first"
        assert "Skill number" not in "".join(m["content"] for m in s.messages)


def test_without_a_skill_it_is_grpo(engine):
    recipe, samples, _ = skilled(engine, lambda who, asked: "<think>nothing</think>")
    assert not any(s.view("teacher") for s in samples)
    batch = Batch(samples)
    batch.advantages = torch.ones(len(batch))
    (policy,) = recipe.terms(batch)
    assert torch.equal(policy.advantages, batch.per_token(batch.advantages))


def test_a_skill_that_tells_good_from_bad_attempts_is_shown_again(engine):
    """Trials count from the next step on; the bandit then prefers what helped, and a resumed run does the same."""
    recipe = recipes.get("skill_sd")(exploration=0.0)
    for key, text in (("good", "Add the codes."), ("bad", "Guess.")):
        recipe.memory.add(text, 0, key=key)
    batch = make_batch()
    knows = torch.where(batch.per_token(batch.correct), 0.5, -0.5)
    for key, d in (("good", knows), ("bad", -knows)):
        for s in batch.samples:
            s.notes["skill"] = key
        recipe.terms(read(batch, d))
        assert not any(e.helpful + e.harmful for e in recipe.memory if e.key == key), "not within the step"
        recipe.observe({})
    counts = {e.key: (e.helpful, e.harmful) for e in recipe.memory}
    taught = int(batch.taught.sum())
    assert counts == {"good": (taught, 0), "bad": (0, taught)}
    resumed = recipes.get("skill_sd")(exploration=0.0)
    resumed.load_state_dict(recipe.state_dict())
    for one in (recipe, resumed):
        _, samples, _ = skilled(engine, lambda who, asked: "", one)
        assert {s.notes["skill"] for s in samples} == {"good"}


def test_a_second_pass_over_a_batch_is_no_second_trial():
    recipe = recipes.get("skill_sd")()
    recipe.memory.add("Add the codes.", 0, key="k")
    batch = read(make_batch(), torch.ones(len(make_batch().targets)))
    for s in batch.samples:
        s.notes["skill"] = "k"
    recipe.terms(batch)
    recipe.terms(batch)
    recipe.observe({})
    (entry,) = recipe.memory
    assert entry.helpful + entry.harmful == int(batch.taught.sum())


@patient
@given(st.integers(0, 20), st.integers(1, 20), st.integers(1, 400), st.floats(0, 3))
def test_an_upper_bound_rises_with_help_and_falls_with_trials(helpful, tried, total, exploration):
    bound = upper_bound(min(helpful, tried), tried, total + tried, exploration)
    assert bound >= min(helpful, tried) / tried
    assert upper_bound(min(helpful, tried), tried + 1, total + tried, exploration) <= bound
    assert upper_bound(0, 0, total, exploration) == math.inf > bound


@patient
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5), st.integers(1, 8), st.floats(0, 2),
)  # fmt: skip
def test_everybody_is_given_an_entry_and_untried_ones_go_round_first(counts, askers, exploration):
    memory = Memory(10)
    for k, (helpful, harmful) in enumerate(counts):
        memory.add(f"text {k}", 0, key=str(k))
        for n, good in ((helpful, True), (harmful, False)):
            for _ in range(n):
                memory.tag(str(k), 0, helpful=good)
    own = {0: "1"}
    picked = pick(memory, range(askers), own, exploration)
    assert set(picked) == (set(range(askers)) if counts else set())
    untried = [str(k) for k, pair in enumerate(counts) if sum(pair) == 0]
    assert set(untried[:askers]) <= set(picked.values()) or len(untried) > askers
    if "1" in untried:
        assert picked[0] == "1"
    assert picked == pick(memory, range(askers), own, exploration)


def test_the_weighted_estimate_has_the_gradient_of_the_reverse_kl():
    """Exactly, over a vocabulary of six under the old policy; with the weight as a constant it is the forward's."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    start = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(-1)
    q = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(-1)
    p = logits.log_softmax(-1)
    estimate = (start.exp() * weighted_k3(math.inf)(p, {"teacher": q, "start": start})).sum()
    reverse = (p.exp() * (p - q)).sum()
    assert torch.allclose(estimate, reverse)
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (estimate, reverse))
    assert torch.allclose(ours, theirs)
    constant = (p.detach().exp() * (torch.exp(q - p) - (q - p) - 1)).sum()
    forward = (q.exp() * (q - p)).sum()
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (constant, forward))
    assert torch.allclose(ours, theirs)
    assert not torch.allclose(ours, torch.autograd.grad(reverse, logits)[0])


# ---- score: two attempts

REWARDS = st.sampled_from([0.0, 0.5, 1.0])


def test_the_bonus_is_golden_and_for_the_second_attempt_alone():
    pairs = {(0, 0): (0.0, 1.0), (0, 1): (1.0, 1.0), (0, 2): (1.0, 0.0), (0, 3): (0.0, None)}
    two = pair_advantages(pairs, 10.0)  # second ones are credited 11, 1 and -10, their mean 2/3
    assert [two[0, a, 0] for a in range(4)] == pytest.approx([-0.5, 0.5, 0.5, -0.5])
    assert [two[0, a, 1] for a in range(3)] == pytest.approx([11 - 2 / 3, 1 - 2 / 3, -10 - 2 / 3])
    assert (0, 3, 1) not in two
    one = pair_advantages(pairs, None)
    assert [one[0, a, 0] for a in range(4)] == [0.0] * 4, "stage I does not reward first attempts"
    assert [one[0, a, 1] for a in range(3)] == pytest.approx([1 / 3, 1 / 3, -2 / 3])


@patient
@given(st.lists(st.tuples(REWARDS, st.none() | REWARDS), min_size=1, max_size=6), st.none() | st.floats(0, 10))
def test_advantages_of_each_attempt_are_centred(rewards, bonus):
    found = pair_advantages({(0, a): pair for a, pair in enumerate(rewards)}, bonus)
    for k in (0, 1):
        assert sum(x for (_, _, turn), x in found.items() if turn == k) == pytest.approx(0, abs=1e-6)


def test_the_anchor_is_the_policys_own_prompt_and_weighs_first_attempts_in_stage_one(engine):
    groups, tools = played(engine, max_turns=2)
    recipe = recipes.get("score")(stage_one=1)
    samples = recipe.samples(groups, tools)
    recipe.views(samples, groups, tools)
    assert {s.turn for s in samples} == {0, 1}
    assert all(s.view("anchor").ids == s.prompt_ids for s in samples)
    assert not any(s.view("teacher") for s in samples)
    assert math.isfinite(tools.log["gain"])
    batch = Batch(samples)
    batch.advantages = torch.ones(len(batch))
    first = batch.per_token(torch.tensor([s.turn == 0 for s in samples]))
    for step, weight in ((0, 0.11), (1, 0.01)):
        recipe.begin(step)
        policy, kl = recipe.terms(batch)
        n = len(batch.targets)
        assert (policy.surrogate, kl.teacher, kl.alpha, kl.top_k) == ("plain", "anchor", 1.0, None)
        assert torch.allclose(kl.coefficients[first] * n, torch.tensor(weight))
        assert torch.allclose(kl.coefficients[~first] * n, torch.tensor(0.01))
        mine = recipe.advantages(groups)
        assert any(mine[s.group, s.attempt, 0] for s in samples) == (step == 1)


def test_an_environment_of_one_turn_has_no_second_attempt(engine):
    groups, tools = played(engine)
    with pytest.raises(SetupError, match=r"recipe.second='environment'.*max_turns: 2"):
        recipes.get("score")().samples(groups, tools)


def test_asked_again_the_policy_sees_its_answer_but_not_what_it_was_worth(engine):
    groups, tools = played(engine)
    recipe = recipes.get("score")(second="policy", stage_one=0)
    samples = recipe.samples(groups, tools)
    firsts = [s for s in samples if s.source == "policy"]
    seconds = [s for s in samples if s.source == "correction"]
    assert seconds
    by = {(s.group, s.attempt): s for s in firsts}
    for s in seconds:
        first = by[s.group, s.attempt]
        assert s.messages == [
            *first.messages, {"role": "assistant", "content": first.text}, {"role": "user", "content": AGAIN}
        ]  # fmt: skip
        assert s.prompt_ids == engine.chat.encode(s.messages)
        assert s.reward == tools.grade([s.group], [s.text])[0], "the environment judges it as an answer to the task"
    pairs = {(s.group, s.attempt): (by[s.group, s.attempt].reward, s.reward) for s in seconds}
    expected = pair_advantages(pairs, 10.0)
    assert [s.advantage for s in seconds] == pytest.approx([expected[s.group, s.attempt, 1] for s in seconds])


@pytest.mark.parametrize(
    ("recipe", "kwargs", "optim", "message"),
    [
        ({}, {"max_turns": 1}, {}, r"recipe.second='environment'.*max_turns: 2"),
        ({"second": "policy"}, {"max_turns": 2}, {}, r"recipe.second='policy'.*max_turns is 2"),
        ({}, {"max_turns": 2}, {"steps_per_batch": 2}, r"recipe=score.*optim.steps_per_batch is 2"),
        ({}, {"max_turns": 2}, {"epochs": 2}, r"recipe=score.*optim.epochs is 2"),
    ],
)
def test_runs_that_have_no_two_attempts_are_refused(recipe, kwargs, optim, message):
    settings = {"recipe": {"name": "score", **recipe}, "env": {"id": coin.ID, "kwargs": kwargs}, "optim": optim}
    with pytest.raises(Exception, match=message):
        build(settings | {"batch": {"attempts": 4}})
