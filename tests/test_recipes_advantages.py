"""Recipes that reshape advantages: by a teacher's log-ratio, a contrast of contexts, a note on siblings."""

from __future__ import annotations

import math
from dataclasses import fields

import coin
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import World
from references_advantages import zero
from test_learner import make_batch
from test_recipes_text import Scripted

from agents import recipes
from agents.batch import Batch, Reading, Sample
from agents.config import build
from agents.credit.shaping import FLOOR, credit_weight, soft_gain
from agents.engines.base import Sampling
from agents.errors import SetupError
from agents.recipes.tools import StepTools
from agents.rollout import Environments, rollout
from agents.teachers.contexts import without_thinking
from agents.teachers.contrasts import partners

LOG_RATIOS = st.lists(st.floats(-30, 30), min_size=1, max_size=12)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
"""Of property tests on a busy machine."""


def read(batch: Batch, log_ratio: torch.Tensor, entropy: float = 1.0) -> Batch:
    """The batch with a teacher whose log-ratio at the sampled tokens is this, where it has a view."""
    taught = batch.per_token(batch.taught)
    at = (batch.sampler_logprobs + log_ratio).masked_fill(~taught, math.nan)
    same = torch.full_like(at, entropy).masked_fill(~taught, math.nan)
    batch.reading = Reading(at, same, same, taught)
    return batch


def played(engine, **kwargs):
    """Groups of the coin environment, and the tools of a step."""
    environments = Environments(coin.ID, "train", kwargs)
    sampling = Sampling(max_tokens=6, temperature=1.0)
    tasks = [0, 1, 2]
    groups = rollout(engine, engine.chat, environments, tasks, 4, sampling, 5)
    tools = StepTools(
        engine.chat, limit=engine.context_length, seed="s", sampling=sampling, engine=engine, environments=environments,
        tasks=tasks,
    )  # fmt: skip
    return groups, tools


def scripted_by(tools, answer):
    """The same tools, whose models answer from a script."""
    return Scripted(**{f.name: getattr(tools, f.name) for f in fields(tools)}).answering(answer)


def advantages(recipe, batch: Batch) -> torch.Tensor:
    (term,) = recipe.terms(batch)
    return term.advantages


# ---- advantages that a teacher reshapes


def test_rlsd_scales_by_the_evidence_and_never_turns_the_sign():
    batch = make_batch()
    d = torch.full((len(batch.targets),), math.log(1.1))
    a = batch.per_token(batch.advantages)
    ours = advantages(recipes.get("rlsd")(mix=1.0), read(batch, d))
    taught = batch.per_token(batch.taught)
    assert torch.allclose(ours[taught & (a > 0)], a[taught & (a > 0)] * 1.1)
    assert torch.allclose(ours[taught & (a < 0)], a[taught & (a < 0)] / 1.1)
    assert torch.equal(ours[~taught], a[~taught])
    half = advantages(recipes.get("rlsd")(mix=0.5), batch)
    assert torch.allclose(half[taught & (a > 0)], a[taught & (a > 0)] * 1.05)
    wild = advantages(recipes.get("rlsd")(mix=1.0), read(batch, torch.linspace(-9, 9, len(a))))
    assert torch.equal(wild.sign(), a.sign())
    assert bool(((wild / a)[a != 0] <= 1.2001).all())
    assert bool(((wild / a)[a != 0] >= 0.7999).all())


@pytest.mark.parametrize("name", ["rlsd", "rlrt"])
def test_without_the_mix_it_is_grpo_and_no_teacher_reads(name):
    batch = read(make_batch(), torch.linspace(-1, 1, len(make_batch().targets)))
    recipe = recipes.get(name)(mix=0)
    (ours,), (grpo,) = recipe.terms(batch), recipes.get("grpo")().terms(batch)
    assert torch.equal(ours.advantages, grpo.advantages)
    assert torch.equal(ours.coefficients, grpo.coefficients)
    assert (ours.clip_low, ours.clip_high, ours.is_clip) == (grpo.clip_low, grpo.clip_high, grpo.is_clip)
    assert not recipe.teaching()


def test_rlsd_lets_go_of_the_teacher_in_fifty_steps():
    recipe = recipes.get("rlsd")()
    mixes = []
    for step in (0, 25, 49, 50, 400):
        recipe.begin(step)
        mixes.append(recipe.mix.at(step))
        assert recipe.teaching() == (step < 50)
    assert mixes == pytest.approx([0.5, 0.25, 0.01, 0.0, 0.0])


def test_rlrt_is_the_other_way_round_and_only_where_the_reward_is_full():
    batch = make_batch()
    d = torch.linspace(-0.3, 0.3, len(batch.targets))
    a = batch.per_token(batch.advantages)
    ours = advantages(recipes.get("rlrt")(mix=1.0), read(batch, d))
    correct = batch.per_token(batch.correct) & batch.per_token(batch.taught)
    assert torch.equal(ours[~correct], a[~correct])
    assert torch.allclose(ours[correct], (a * torch.exp(-a.sign() * d))[correct])


@pytest.mark.parametrize(("kind", "bounds"), [("base", (0, 2)), ("instruct", (0.5, 1.5)), ("thinking", (0.8, 1.2))])
def test_rlrt_is_tighter_for_mature_models(kind, bounds):
    batch = make_batch()
    batch.advantages = torch.ones(len(batch))
    d = torch.tensor([20.0, -20.0]).repeat(len(batch.targets))[: len(batch.targets)]
    ours = advantages(recipes.get("rlrt")(mix=1.0, model_kind=kind), read(batch, d))
    assert (float(ours.min()), float(ours.max())) == pytest.approx(bounds, abs=1e-6)
    assert recipes.get("rlrt")(epsilon=0.1, model_kind=kind).epsilon == 0.1


def test_antisd_adds_after_centring_and_learns_where_all_rewards_are_equal():
    batch = make_batch()
    batch.advantages = torch.zeros(len(batch))
    d = torch.linspace(-20, 20, len(batch.targets))
    ours = advantages(recipes.get("antisd")(), read(batch, d))
    taught = batch.per_token(batch.taught)
    cut = d.clamp(-5, 5)
    assert torch.allclose(ours[taught], -0.25 * (torch.log1p(cut.exp()) - math.log(2))[taught], atol=1e-6)
    assert not ours[~taught].any()
    assert bool((ours <= 0.5 * -FLOOR + 1e-6).all()), "what it pays for a token is bounded"


def test_antisd_gate_closes_on_certainty_and_opens_again(engine):
    recipe = recipes.get("antisd")()
    open_at = []
    for entropy in (2.0, 1.9, 2.1, 2.0, 2.0, 1.87, 1.85, 1.99, 2.0):
        batch = read(make_batch(), torch.ones(len(make_batch().targets)), entropy)
        term = recipe.terms(batch)[0]
        open_at.append(bool((term.advantages != batch.per_token(batch.advantages)).any()))
        assert batch.log["gate"] == float(open_at[-1])
        recipe.observe(batch.log)
    batch = read(make_batch(), torch.ones(len(make_batch().targets)))
    assert open_at == [True] * 7 + [False] * 2
    assert advantages(recipe, batch).ne(batch.per_token(batch.advantages)).any(), "open again from H_0"


def test_antisd_gate_survives_a_resume():
    whole, first = recipes.get("antisd")(), recipes.get("antisd")()
    numbers = [2.0, 1.9, 2.1, 2.0, 2.0, 1.5, 1.7, 2.0, 1.8]
    for entropy in numbers[:6]:
        whole.observe({"teacher_entropy": entropy})
        first.observe({"teacher_entropy": entropy})
    second = recipes.get("antisd")()
    second.load_state_dict(first.state_dict())
    for entropy in numbers[6:]:
        assert whole.state_dict() == second.state_dict()
        whole.observe({"teacher_entropy": entropy})
        second.observe({"teacher_entropy": entropy})
    assert whole.state_dict() == second.state_dict()
    assert recipes.get("antisd")().state_dict() != first.state_dict()


def test_antisd_without_a_context_is_refused():
    with pytest.raises(ValueError, match=r"recipe.context.sources.*recipe.teacher.kind"):
        recipes.get("antisd")(context={"sources": ["none"]})


@pytest.mark.parametrize("name", ["rlsd", "rlrt", "antisd", "credit", "sgcd", "skill_sd"])
def test_settings_of_a_divergence_are_refused(name):
    with pytest.raises(ValueError, match=f"recipe.top_k=7 with recipe={name}"):
        recipes.get(name)(top_k=7)


@pytest.mark.parametrize("name", ["rlsd", "rlrt", "antisd", "trace", "sgcd", "skill_sd", "score"])
def test_a_group_of_one_is_refused(name):
    with pytest.raises(Exception, match=r"batch.attempts is 1"):
        build({"recipe": {"name": name}, "env": {"id": coin.ID, "kwargs": {"max_turns": 2}}, "batch": {"attempts": 1}})


@pytest.mark.parametrize("name", ["rlsd", "rlrt", "antisd"])
def test_the_teacher_sees_more_and_the_student_the_same(engine, name):
    groups, tools = played(engine)
    recipe = recipes.get(name)()
    samples = recipe.samples(groups, tools)
    before = [(s.prompt_ids, s.messages) for s in samples]
    recipe.views(samples, groups, tools)
    assert [(s.prompt_ids, s.messages) for s in samples] == before
    taught = [s for s in samples if s.view("teacher")]
    assert taught
    for s in taught:
        text = s.view("teacher").messages[-1]["content"]
        others = [t for a, t in enumerate(groups[s.group].trajectories) if a != s.attempt and t.reward]
        siblings = [without_thinking(t.turns[0].text) for t in others]
        gold = tools.gold(s.group)
        assert gold in text if name == "rlsd" else any(x in text for x in [*siblings, gold])


# ---- credit: contrasts


def test_a_contrast_holds_the_other_question_and_this_samples_context(engine):
    groups, tools = played(engine)
    recipe = recipes.get("credit")(contrasts=2)
    samples = recipe.samples(groups, tools)
    recipe.views(samples, groups, tools)
    question = [g.trajectories[0].turns[0].messages[-1]["content"] for g in groups]
    seen = 0
    for s in samples:
        main, names = s.view("teacher"), ["contrast1", "contrast2"]
        assert all((s.view(name) is None) == (main is None) for name in names)
        if main is None:
            continue
        context = main.messages[-1]["content"].removeprefix(question[s.group])
        swapped = [s.view(name).messages[-1]["content"] for name in names]
        others = {q + context for g, q in enumerate(question) if g != s.group}
        assert context
        assert set(swapped) == others, "two different other tasks, the same context"
        assert all(s.view(n).ids == engine.chat.encode(s.view(n).messages) for n in names)
        seen += 1
    assert seen


@pytest.mark.parametrize("placement", ["turn", "head"])
@pytest.mark.parametrize("wording", ["paper", "turn", "inline"])
def test_a_hint_about_an_episode_fits_the_question_of_a_task_that_was_solved_at_once(engine, placement, wording):
    groups, tools = played(engine, max_turns=2)
    episode = next(g for g in groups if any(len(t.turns) == 2 for t in g.trajectories))
    episode.trajectories[0].turns[-1].reward = 1.0
    at_once = next(g for g in groups if g is not episode and any(len(t.turns) == 1 for t in g.trajectories))
    at_once.trajectories = [t for t in at_once.trajectories if len(t.turns) == 1]
    groups = [episode, at_once]
    own, other = (g.trajectories[0].turns[0].messages[-1]["content"] for g in groups)
    recipe = recipes.get("credit")(context={"sources": ["sibling"], "placement": placement, "wording": wording})
    samples = recipe.samples(groups, tools)
    recipe.views(samples, groups, tools)
    titles = ("The following attempt at this task succeeded", "An attempt at this task that succeeded")
    for s in samples:
        for stream in ("teacher", "contrast1") if s.group == 0 and s.view("teacher") else ():
            told = "".join(m["content"] for m in s.view(stream).messages)
            assert any(title in told for title in titles)
            assert (own in told, other in told) == (stream == "teacher", stream == "contrast1")


def test_a_single_task_has_no_contrast(engine):
    groups, tools = played(engine)
    recipe = recipes.get("credit")()
    samples = recipe.samples(groups[:1], tools)
    recipe.views(samples, groups[:1], tools)
    assert any(s.view("teacher") for s in samples)
    assert not any(s.others for s in samples)


@patient
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=8), st.integers(1, 5))
def test_partners_are_of_other_tasks_and_differ(pairs, count):
    samples = [Sample([1], [2], None, [], "", 0.0, [], g, 0, t) for g, t in pairs]
    columns = partners(samples, count, "s")
    tasks = len({g for g, _ in pairs})
    assert columns == partners(samples, count, "s"), "the same again"
    for i, sample in enumerate(samples):
        found = [c[i].group for c in columns if c[i] is not None]
        assert len(found) == min(count, tasks - 1) == len(set(found))
        assert sample.group not in found


@pytest.mark.parametrize("seed", [0, 1])
def test_credit_without_contrast_is_the_token_level_advantage_of_sdpo(seed):
    """A_t = log q - log p at the sampled token: `opd` with form=sampled, term by term and in the gradient."""
    w = World(recipes.get("credit")(contrast=0), seed)
    opd = World(recipes.get("opd")(form="sampled"), seed)
    assert set(w.recipe.streams()) == {"teacher"}
    (ours,), (theirs,) = w.recipe.terms(w.batch), opd.recipe.terms(opd.batch)
    assert torch.equal(ours.coefficients, theirs.coefficients)
    for a, b in zip(w.fused()[1], opd.fused()[1], strict=True):
        assert torch.allclose(a, b)
    (_, gradient), advantage = w.fused(), zero()
    y, logq = w.logp_y(), w.logq()
    for i in range(len(w.samples)):
        for t in w.tokens(i) if w.reads(i) else ():
            rho, mismatch = w.importance(t, y[t])
            gap = float(logq[t, w.batch.targets[t]] - y[t].detach())
            advantage = advantage + gap * y[t] * rho * mismatch
    w.hidden.grad = w.weight.grad = None
    (-advantage / w.batch.per_token(w.batch.taught).sum()).backward()
    assert torch.allclose(gradient[0], w.hidden.grad)
    assert torch.allclose(gradient[1], w.weight.grad)


@pytest.mark.parametrize("centre", ["sequence", "batch"])
def test_a_centred_contrast_favours_no_token_on_average(centre):
    w = World(recipes.get("credit")(centre=centre, contrast=0.7), 2)
    contrast = w.recipe.terms(w.batch)[1].advantages
    assert contrast.abs().sum() > 0
    both = w.batch.taught & w.batch.viewed("contrast1")
    assert float(contrast[w.batch.per_token(both)].mean()) == pytest.approx(0, abs=1e-6)
    assert not contrast[~w.batch.per_token(both)].any()


# ---- sgcd: notes on siblings


def test_a_note_is_written_for_mixed_groups_and_read_by_the_teacher_alone(engine):
    groups, tools = played(engine)
    tools = scripted_by(tools, lambda who, asked: "<think>hm</think>Add the codes up first.")
    recipe = recipes.get("sgcd")()
    samples = recipe.samples(groups, tools)
    before = [(s.prompt_ids, s.messages) for s in samples]
    recipe.views(samples, groups, tools)
    mixed = {g for g, group in enumerate(groups) if len({t.reward for t in group.trajectories}) == 2}
    assert mixed
    assert len(tools.asked) == len(mixed) == tools.log["notes"], "one note a group"
    assert {s.group for s in samples if s.view("teacher")} == mixed
    assert [(s.prompt_ids, s.messages) for s in samples] == before
    for s in samples:
        if s.group in mixed:
            told = s.view("teacher").messages[-1]["content"]
            assert "Add the codes up first." in told
            assert "<think>" not in told
    good, bad = tools.asked[0][1].split("Attempts at this that failed:")
    first = groups[min(mixed)]
    assert all(without_thinking(t.turns[0].text) in (good if t.reward else bad) for t in first.trajectories[:2])


def test_an_author_that_says_nothing_leaves_grpo(engine):
    groups, tools = played(engine)
    recipe, silent = recipes.get("sgcd")(), scripted_by(tools, lambda who, asked: " ")
    samples = recipe.samples(groups, silent)
    recipe.views(samples, groups, silent)
    assert not any(s.view("teacher") for s in samples)
    batch = Batch(samples)
    batch.advantages = torch.tensor([s.reward - 0.5 for s in samples])
    assert torch.equal(advantages(recipe, batch), batch.per_token(batch.advantages))


def test_sgcd_moves_credit_within_a_trajectory_and_adds_none():
    batch = make_batch()
    d = torch.randn(len(batch.targets), generator=torch.Generator().manual_seed(0))
    ours, a = advantages(recipes.get("sgcd")(), read(batch, d)), batch.per_token(batch.advantages)
    assert not torch.allclose(ours, a)
    assert torch.equal(ours.sign(), a.sign())
    for k in range(len(batch)):
        own = batch.sequence == k
        assert float(ours[own].mean()) == pytest.approx(float(batch.advantages[k]), abs=1e-6)
    equal = advantages(recipes.get("sgcd")(), read(batch, torch.full_like(d, 0.7)))
    assert torch.allclose(equal, a, atol=1e-5), "agreement about all tokens alike is GRPO"


def test_credit_weights_are_golden():
    """d = (1, -1): s = (1, -1) on a success, turned over on a failure; w = 1 +- tanh(1) / 2, whose mean is 1."""
    d, one = torch.tensor([1.0, -1.0]), torch.ones(2)
    counted, trajectory = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.long)
    up = credit_weight(d, one, counted, trajectory, 1, 0.5, 5.0)
    assert up.tolist() == pytest.approx([1.3807971, 0.6192029], abs=1e-5)
    assert credit_weight(d, -one, counted, trajectory, 1, 0.5, 5.0).tolist() == pytest.approx(
        [0.6192029, 1.3807971], abs=1e-5
    )


@pytest.mark.parametrize("name", ["trace", "sgcd", "skill_sd"])
def test_the_author_is_asked_and_must_be_able_to_write(engine, name):
    groups, tools = played(engine)
    tools = scripted_by(tools, lambda who, asked: who)
    recipe = recipes.get(name)(author="teacher")
    samples = recipe.samples(groups, tools)
    recipe.views(samples, groups, tools)
    assert {who for who, _ in tools.asked} == {"teacher"}
    assert recipe.needs()["generate"] == "recipe.author='teacher'"
    assert "generate" not in recipes.get(name)().needs()


def test_a_teacher_that_only_writes_is_refused():
    with pytest.raises(SetupError, match="recipe=rlsd needs the teacher's log-probability"):
        recipes.get("rlsd")(teacher={"kind": "server", "url": "http://localhost:1/v1", "top_k": 0}).check_teachers()


# ---- parts: bounded shapes


@patient
@given(LOG_RATIOS)
def test_soft_gain_is_bounded_below_rising_and_no_more_than_half_of_d(values):
    d = torch.tensor(sorted(values), dtype=torch.float64)
    gain = soft_gain(d)
    assert bool((gain >= FLOOR - 1e-12).all())
    assert bool((gain.diff() >= -1e-12).all())
    assert bool((gain <= d.clamp(min=0) / 2 + 1e-12).all())
    assert bool((soft_gain(d, 5.0) <= soft_gain(torch.tensor(5.0, dtype=torch.float64)) + 1e-12).all())
    assert soft_gain(torch.zeros(1)).item() == 0


@patient
@given(LOG_RATIOS, st.sampled_from([-1.0, 1.0]), st.integers(1, 3))
def test_credit_weights_only_move_credit_within_a_trajectory(values, sign, n):
    d = torch.tensor(values, dtype=torch.float64)
    trajectory = torch.arange(len(d)) % n
    counted = torch.arange(len(d)) % 4 != 3
    weights = credit_weight(d, torch.full_like(d, sign), counted, trajectory, n, 0.5, 5.0)
    assert bool((weights[~counted] == 1).all())
    for k in range(n):
        own = counted & (trajectory == k)
        if own.any():
            assert float(weights[own].mean()) == pytest.approx(1)
            assert float(weights[own].min()) >= 1 / 3 - 1e-9
            order = d[own].clamp(-5, 5).argsort(stable=True)
            assert bool(((sign * weights[own][order].diff()) >= -1e-9).all()), "sign-aware"
