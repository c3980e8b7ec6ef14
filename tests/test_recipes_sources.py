"""Recipes that train on more than the rollout: references, corrections, teachers' answers, replays, instructions."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import coin
import corridor
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recipe_runs import COMMON, train

from agents import recipes
from agents.batch import MAIN, Batch, Sample, View
from agents.config import build, merged
from agents.engines.base import Completion, Sampling
from agents.errors import SetupError
from agents.guides import Guide, read_guides
from agents.losses.pairs import Pairs, preference
from agents.losses.terms import Distill, Likelihood, PolicyGradient
from agents.population import Population, instructed
from agents.recipes.tools import Attempt, Reply, StepTools, golden
from agents.report.metrics import read_jsonl
from agents.rollout import Environments, rollout
from agents.training import checkpoints
from agents.training.learner import Learner, OptimSettings
from agents.training.trainer import Trainer
from agents.trajectory import Group, Trajectory, Turn

torch.set_num_threads(1)

TASKS = [0, 1, 2]
EXPECTED = {"sources": ["expected"], "allow_reference": True}


@pytest.fixture
def tools(engine) -> StepTools:
    return StepTools(
        engine.chat, limit=400, seed="0", sampling=Sampling(max_tokens=6), engine=engine,
        environments=Environments(coin.ID, "train"), tasks=TASKS,
    )  # fmt: skip


def taught(tools: StepTools, recipe: Any) -> StepTools:
    tools.teachers = recipe.make_teachers(tools.engine)
    return tools


def played(tools: StepTools, attempts: int = 4, seed: int = 0) -> list[Group]:
    return rollout(tools.engine, tools.chat, tools.environments, TASKS, attempts, tools.sampling, seed)


def with_rewards(groups: list[Group], *rewards: float) -> list[Group]:
    """The same attempts, otherwise judged; of every group alike."""
    for group in groups:
        for trajectory, reward in zip(group.trajectories, rewards, strict=True):
            trajectory.turns[0].reward = reward
    return groups


def of(samples: list[Sample], *sources: str) -> list[Sample]:
    return [s for s in samples if s.source in sources]


def words(sample: Sample) -> str:
    return "\n".join(m["content"] for m in sample.messages)


def walked(engine: Any) -> tuple[list[Group], StepTools]:
    """Episodes of several turns."""
    environments = Environments(corridor.ID, "train")
    tools = StepTools(engine.chat, limit=500, sampling=Sampling(max_tokens=4), engine=engine,
                      environments=environments, tasks=TASKS)  # fmt: skip
    return rollout(engine, engine.chat, environments, TASKS, 2, tools.sampling, 0), tools


# ---- StableOPD


def test_golden_answers_are_the_environment_s_and_the_likelihood_s_alone(tools):
    groups = played(tools)
    recipe = recipes.get("stable_opd")(context=EXPECTED)
    samples = recipe.samples(groups, taught(tools, recipe))
    gold = of(samples, "reference")
    assert [s.group for s in gold] == TASKS
    assert [s.text for s in gold] == [tools.gold(g) for g in TASKS]
    assert all(s.action_ids == tools.chat.written(s.text) and s.logprobs is None for s in gold)
    assert all(s.prompt_ids == groups[s.group].trajectories[0].turns[0].prompt_ids for s in gold)
    recipe.views(samples, groups, tools)
    assert all(s.view("anchor") == View(s.messages, s.prompt_ids) for s in of(samples, "policy"))
    assert all(s.view("anchor") is None and s.view(MAIN) is None for s in gold), "nobody scores the reference"


def test_off_switches_leave_nothing_behind(tools):
    recipe = recipes.get("stable_opd")(context=EXPECTED, gold_weight=0, kl_weight=0)
    assert set(recipe.streams()) == {MAIN}
    assert not of(recipe.samples(played(tools), tools), "reference")
    falling = recipes.get("stable_opd")(kl_weight={"start": 0.1, "kind": "linear", "to": 0, "over": 2})
    assert "anchor" in falling.streams()
    falling.begin(2)
    assert "anchor" not in falling.streams()


def test_a_golden_answer_weighs_as_asked_and_tells_no_advantage():
    own = Sample([1], [2, 3], [-1.0, -1.0], [], "x", 0.0, [], 0, 0, 0)
    gold = Sample([1], [4, 5, 6, 7], None, [], "y", 1.0, [], 0, 0, 0, source="reference")
    terms = recipes.get("stable_opd")(gold_weight=0.4).terms(Batch([own, gold]))
    (likelihood,) = [t for t in terms if isinstance(t, Likelihood)]
    assert likelihood.coefficients.tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.1, 0.1])
    assert terms[0].coefficients.tolist() == [0.0] * 6


def test_tasks_of_several_turns_have_no_golden_answer(engine):
    groups, tools = walked(engine)
    assert golden(groups, tools) == []


# ---- SORT


def queue_of(tools: StepTools, **settings: Any) -> Any:
    recipe = recipes.get("sort")(**settings)
    tools.tasks = TASKS
    return recipe


def test_tasks_that_all_fail_wait_until_there_are_enough(tools):
    recipe = queue_of(tools, buffer=4, plan_tokens=5)
    first = recipe.samples(with_rewards(played(tools), 0, 0, 0, 0), tools)
    assert not of(first, "reference")
    assert tools.log["queue"] == 3
    recipe.samples(with_rewards(played(tools), 0, 0, 1, 0), tools)
    assert tools.log["queue"] == 3, "a task with a success does not wait"
    recipe.samples(with_rewards(played(tools), 0, 0, 0, 0), tools)
    assert tools.log["queue"] == 3, "a task waits once"
    tools.tasks = [3, 4, 5]
    groups = rollout(tools.engine, tools.chat, tools.environments, tools.tasks, 4, tools.sampling, 0)
    fired = of(recipe.samples(with_rewards(groups, 0, 0, 0, 0), tools), "reference")
    assert len(fired) == 4
    assert tools.log["queue"] == 2
    steps = recipe.batches([*of(first, "policy"), *fired], 1)
    assert [len(step) for step in steps] == [12, 4], "an optimiser step of their own"


def test_a_resumed_queue_fires_the_same(tools):
    groups = with_rewards(played(tools), 0, 0, 0, 0)
    one, other = queue_of(tools, buffer=4), queue_of(tools, buffer=4)
    one.samples(groups, tools)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    tools.tasks = [3, 4, 5]
    later = with_rewards(
        rollout(tools.engine, tools.chat, tools.environments, [3, 4, 5], 4, tools.sampling, 0), *[0] * 4
    )
    results = []
    for recipe in (one, other):
        tools._asked = 0
        results.append([(s.prompt_ids, s.action_ids, s.notes) for s in recipe.samples(later, tools)])
    assert results[0] == results[1]
    assert one.state_dict() == other.state_dict()


def test_weights_of_a_reference_are_those_of_the_policy_alone_and_with_the_plan(tools):
    recipe = queue_of(tools, buffer=1, plan_tokens=5)
    sample = of(recipe.samples(with_rewards(played(tools), 0, 0, 0, 0), tools), "reference")[0]
    assert sample.notes["alone"] == tools.logprobs([(sample.prompt_ids, sample.action_ids)])[0]
    assert sample.notes["with_plan"] != sample.notes["alone"]
    assert sample.notes["plan"] not in words(sample), "the student's own prompt holds no plan"


@pytest.mark.parametrize(("beta", "expected"), [(0.5, [0.2, 0.3]), (0.0, [0.1, 0.9]), (1.0, [0.4, 0.1])])
def test_sort_s_weight_is_golden(beta, expected):
    """sqrt(0.1 x 0.4) = 0.2 and sqrt(0.9 x 0.1) = 0.3; beta 0 is DFT."""
    notes = {"alone": [math.log(0.1), math.log(0.9)], "with_plan": [math.log(0.4), math.log(0.1)]}
    given = Sample([1], [2, 3], None, [], "y", 1.0, [], 0, 0, 0, source="reference", notes=notes)
    (term,) = recipes.get("sort")(beta=beta).terms(Batch([given]))
    assert term.coefficients.tolist() == pytest.approx([x / 2 for x in expected])


# ---- CIPO


def test_corrections_are_sampled_from_attempts_and_trained_under_the_same_prompt(tools):
    recipe, groups = recipes.get("cipo")(), with_rewards(played(tools), 1, 0, 0, 1)
    samples = recipe.samples(groups, tools)
    made = of(samples, "correction")
    assert made
    texts = {g: [t.turns[0].text for t in group.trajectories] for g, group in enumerate(groups)}
    for sample in made:
        assert sample.prompt_ids == tools.chat.encode(sample.messages)
        assert any(text in words(sample) for text in texts[sample.group])
        assert "Your earlier attempt:" in words(sample)
        assert "right" not in words(sample).replace("Correctly", ""), "nor does it say whether that was right"
        assert sample.logprobs == pytest.approx(tools.logprobs([(sample.prompt_ids, sample.action_ids)])[0], abs=1e-4)
        assert sample.behaviour is None
    assert [s.group for s in samples] == sorted(s.group for s in samples), "beside their groups"


def attempt(reward: float, group: int = 0, scored: bool = True) -> Attempt:
    reply = Reply([1], [], Completion([2], [-1.0], "stop"), "x")
    return Attempt(group, reply, reward, [], scored)


def test_spoiling_a_right_answer_costs_more_than_failing_again():
    recipe = recipes.get("cipo")(risk=0.5, normalise_advantages=False)
    tried = [attempt(1.0), attempt(0.0), attempt(0.0, scored=False)]
    right, wrong = (Sample([1], [2], [-1.0], [], "x", r, [], 0, 0, 0) for r in (1.0, 0.0))
    assert [s.advantage for s in recipe._corrections(right, tried, 4)] == [0.75, -0.75]
    assert [s.advantage for s in recipe._corrections(wrong, tried, 4)] == [0.5, -0.5]


def test_without_corrections_cipo_is_grpo(tools):
    groups = played(tools)
    recipe = recipes.get("cipo")(correction_weight=0, normalise_advantages=False)
    batch, theirs = Batch(recipe.samples(groups, tools)), Batch(recipes.get("grpo")().samples(groups, tools))
    for each in (batch, theirs):
        each.advantages = torch.arange(12.0)
    assert recipe.advantages(groups) == recipes.get("grpo")().advantages(groups)
    assert torch.equal(recipe.terms(batch)[0].coefficients, recipes.get("grpo")().terms(theirs)[0].coefficients)


@settings(max_examples=25, deadline=None)
@given(kept=st.lists(st.floats(0, 1), max_size=30))
def test_more_successes_are_recycled_while_they_are_talked_away(kept):
    recipe = recipes.get("cipo")()
    for value in kept:
        before = recipe.state_dict()["rho"]
        recipe.observe({"kept": value})
        rho = recipe.state_dict()["rho"]
        assert 0.1 <= rho <= 0.9
        assert (rho - before) * (0.95 - value) >= 0
    other = recipes.get("cipo")()
    other.load_state_dict(recipe.state_dict())
    for each in (recipe, other):
        each.observe({"kept": 0.3})
    assert other.state_dict() == recipe.state_dict()


@pytest.mark.parametrize(("rho", "successes"), [(0.1, 0), (0.5, 2), (0.9, 3)])
def test_rho_is_the_share_of_successes(tools, rho, successes):
    groups = with_rewards(played(tools), 1, 0, 0, 1)
    recipe = recipes.get("cipo")(rho=rho, prompts=3, corrections=2)
    recipe.samples(groups, tools)
    drawn = recipe._recycled(recipes.get("grpo")().samples(groups, tools), groups, random.Random(0))
    assert sum(s.reward >= 1 for s in drawn) == round(rho * 3) == successes
    assert tools.log["recycled"] == 3


def test_tasks_within_the_window_go_first(tools):
    groups = with_rewards(played(tools), 0, 0, 0, 0)
    groups[1].trajectories[2].turns[0].reward = 1.0
    recipe = recipes.get("cipo")(prompts=3, rho=0.1)
    drawn = recipe._recycled(recipes.get("grpo")().samples(groups, tools), groups, random.Random(0))
    assert {s.group for s in drawn} == {1}


@pytest.mark.parametrize("name", ["cipo", "brts"])
def test_answers_are_judged_where_a_task_has_one(engine, name):
    groups, tools = walked(engine)
    recipe = recipes.get(name)()
    with pytest.raises(SetupError, match="episodes of several turns"):
        recipe.samples(groups, taught(tools, recipe))


# ---- PBSD


def test_a_pair_is_the_policy_s_turn_and_the_teacher_s_under_two_prompts(tools):
    recipe = recipes.get("pbsd")(context=EXPECTED)
    groups = with_rewards(played(tools), 1, 0, 0, 0)
    samples = recipe.samples(groups, taught(tools, recipe))
    assert samples
    assert len(samples) == 2 * tools.log["pairs"]
    for worse, better in zip(samples[::2], samples[1::2], strict=True):
        assert (worse.source, better.source) == ("policy", "teacher")
        assert (worse.group, worse.attempt) == (better.group, better.attempt), "an optimiser step has both"
        assert worse.prompt_ids == better.prompt_ids, "the student sees its own prompt on both sides"
        assert worse.view(MAIN) == better.view(MAIN), "the reference is the teacher's, under its own"
        assert worse.view(MAIN).ids != worse.prompt_ids
        assert better.logprobs is None
        read = tools.teachers[MAIN].logits([(better.view(MAIN).ids, better.action_ids)], 1.0).logits(slice(None))
        at = read.log_softmax(-1)[range(len(better.action_ids)), better.action_ids]
        assert better.behaviour == pytest.approx(at.tolist(), abs=1e-4), "it was drawn from what it is compared with"


def test_episodes_of_several_turns_pair_every_turn_but_cannot_be_judged(engine):
    groups, tools = walked(engine)
    recipe = recipes.get("pbsd")(context={"sources": ["rest"], "wording": "turn"})
    samples = recipe.samples(groups, taught(tools, recipe))
    assert len({s.turn for s in samples}) > 1
    judged = recipes.get("pbsd")(context={"sources": ["rest"], "wording": "turn"}, labeller="hard_filter")
    with pytest.raises(SetupError, match="hard_filter"):
        judged.samples(groups, tools)


@pytest.mark.parametrize(
    ("labeller", "expected"),
    [("teacher_wins", [1, 1, 1]), ("hard_filter", [None, None, 1]), ("bradley_terry", [0.2689414, 0.5, 0.7310586])],
)
def test_labels(labeller, expected):
    recipe = recipes.get("pbsd")(labeller=labeller)
    assert [recipe.label(gain) for gain in (-1.0, 0.0, 1.0)] == pytest.approx(expected)


Q = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], dtype=torch.float64)
R = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5, 1.0], dtype=torch.float64)


def drift(p: torch.Tensor, labeller: str, beta: float) -> torch.Tensor:
    """Minus the expected gradient to the logits of a policy over six outcomes: all pairs, y+ ~ q and y- ~ p."""
    recipe = recipes.get("pbsd")(labeller=labeller, beta=beta)
    better, worse = (x.flatten() for x in torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"))
    labels = [recipe.label(float(R[i] - R[j])) for i, j in zip(better, worse, strict=True)]
    kept = torch.tensor([label is not None for label in labels])
    weights = (Q[better] * p[worse])[kept]
    pairs = Pairs(
        better[kept], worse[kept], Q.log()[better[kept]], Q.log()[worse[kept]],
        torch.tensor([label for label in labels if label is not None], dtype=torch.float64), weights,
    )  # fmt: skip
    logits = p.log().clone().requires_grad_()
    logp = logits.log_softmax(-1)
    term = preference(pairs, logp.detach(), torch.arange(6), 6, beta=beta).term
    (term.coefficients * term.per_token(logp)).sum().backward()
    return -logits.grad


def test_the_fixed_point_of_teacher_wins_is_the_teacher_and_no_tilt():
    tilted = (Q.log() + R / 0.5).softmax(-1)
    assert drift(Q, "teacher_wins", 0.5).abs().max() < 1e-12
    assert drift(tilted, "teacher_wins", 0.5).abs().max() > 1e-2


def test_the_fixed_point_of_bradley_terry_is_the_tilted_teacher():
    tilted = (Q.log() + R / 0.5).softmax(-1)
    assert drift(tilted, "bradley_terry", 0.5).abs().max() < 1e-12
    assert drift(Q, "bradley_terry", 0.5).abs().max() > 1e-2


def test_a_hard_filter_pushes_past_the_tilt():
    tilted = (Q.log() + R / 0.5).softmax(-1)
    assert float((drift(tilted, "hard_filter", 0.5) * R).sum()) > 1e-2


# ---- NPO


def test_a_group_that_fails_is_given_one_success_of_the_past_and_no_wrong_ratio(tools):
    recipe = recipes.get("npo")()
    learnt = with_rewards(played(tools), 0, 1, 0, 0)
    recipe.samples(learnt, tools)
    lost = with_rewards(played(tools, seed=1), 0, 0, 0, 0)
    tools.step = 1
    samples = recipe.samples(lost, tools)
    assert len(samples) == 12, "exactly one of four slots is exchanged"
    for g in TASKS:
        own, (guide,) = (
            of([s for s in samples if s.group == g], "policy"),
            of([s for s in samples if s.group == g], "replay"),
        )
        kept = learnt[g].trajectories[1].turns[0]
        assert (guide.prompt_ids, guide.action_ids) == (kept.prompt_ids, kept.action_ids)
        assert (guide.logprobs, guide.behaviour) == (None, kept.logprobs)
        assert [s.attempt for s in own] == [0, 1, 2]
        assert guide.attempt == 3
        assert guide.advantage == 0.75
        assert [s.advantage for s in own] == [-0.25] * 3
    batch = Batch(samples)
    batch.advantages = torch.tensor([s.advantage for s in samples])
    (term,) = recipe.terms(batch)
    assert isinstance(term, PolicyGradient)
    assert torch.equal(term.behaviour.isnan(), batch.per_token(batch.made_by("policy")))


@pytest.mark.parametrize(
    ("gate", "rewards", "exchanged"),
    [
        (0.25, (0, 0, 1, 0), True),
        (0.0, (0, 0, 1, 0), False),
        (0.5, (1, 1, 1, 1), False),
        (0.75, (1, 1, 1, 0), True),
    ],
)
def test_the_gate_is_on_the_pass_rate(tools, gate, rewards, exchanged):
    recipe = recipes.get("npo")(gate=gate)
    recipe.samples(with_rewards(played(tools), 1, 1, 1, 1), tools)
    samples = recipe.samples(with_rewards(played(tools, seed=1), *rewards), tools)
    assert bool(of(samples, "replay")) == exchanged
    assert sum(s.reward >= 1 for s in samples) == 3 * (sum(rewards) + exchanged), "a failure makes room, no success"


def test_a_resumed_run_has_the_same_past(tools):
    one, other = recipes.get("npo")(), recipes.get("npo")()
    one.samples(with_rewards(played(tools), 0, 1, 0, 0), tools)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    lost = with_rewards(played(tools, seed=1), 0, 0, 0, 0)
    assert [(s.action_ids, s.behaviour, s.advantage) for s in other.samples(lost, tools)] == [
        (s.action_ids, s.behaviour, s.advantage) for s in one.samples(lost, tools)
    ]


def test_guides_come_from_the_nearest_later_step_of_another_run(tiny_dir, tmp_path, tools):
    """The records of a real run that went further; its tokens are recorded, so that the ratio is to its own weights."""
    run = train("grpo", tiny_dir, tmp_path / "longer", steps=2, batch={"tasks": 12, "attempts": 4})
    guides = read_guides(str(run))
    assert guides == read_guides(str(run / "trajectories.jsonl"))
    task, found = next((task, found) for task, found in guides.items() if len(found) > 1)
    g = next(row["task"]["index"] for row in read_jsonl(run / "trajectories.jsonl") if str(row["task"]["id"]) == task)
    tools.tasks = [g]
    lost = rollout(tools.engine, tools.chat, tools.environments, [g], 3, tools.sampling, 5)
    lost = with_rewards(lost, 0, 0, 0)
    for now, begins, horizon in ((0, 0, None), (0, 0, 1), (1, 0, None), (0, 1, None)):
        recipe = recipes.get("npo")(guides=str(run), begins_at=begins, horizon=horizon, own_past=False)
        tools.step = now
        ahead = [guide for guide in found if guide.step > now + begins]
        guided = of(recipe.samples(lost, tools), "guided")
        assert bool(guided) == bool(ahead)
        if ahead:
            nearest = min(ahead, key=lambda guide: guide.step)
            assert guided[0].text == nearest.turns[0]["text"]
            assert guided[0].prompt_ids == lost[0].trajectories[0].turns[0].prompt_ids


def test_a_guide_has_a_ratio_where_its_very_tokens_were_recorded(tools):
    turn = played(tools)[0].trajectories[0].turns[0]
    ids = tools.chat.written("Oslo")
    tokens = [{"text": tools.chat.tokenizer.decode([i]), "logp": -1.25} for i in ids]
    row = {"messages": turn.messages, "text": "Oslo", "finish_reason": "stop", "source": "policy"}

    def guide(**more: Any) -> list[Sample]:
        return Guide(3, 1.0, [{**row, **more}]).samples(0, 2, "guided", turn, tools.chat)

    assert guide(tokens=tokens)[0].behaviour == [-1.25] * len(ids)
    assert guide(tokens=tokens)[0].action_ids == ids
    assert guide(tokens=tokens[:-1])[0].behaviour is None
    assert guide()[0].behaviour is None
    assert guide(messages=[{"role": "user", "content": "another question"}]) == []


def test_guides_that_are_not_there_are_an_error_before_anything_starts(tmp_path):
    recipe = {"name": "npo", "guides": str(tmp_path / "none")}
    with pytest.raises(SetupError, match=r"recipe\.guides"):
        build({"recipe": recipe, "model": {"name": "x"}})


# ---- BRTS


def asked(tools: StepTools, recipe: Any) -> list[Sample]:
    groups = with_rewards(played(tools), 0, 0, 0, 0)
    return of(recipe.samples(groups, taught(tools, recipe)), "teacher")


def candidates(tools: StepTools, texts: list[str]) -> None:
    """Let the teacher say these, in order, again and again."""
    said = iter([text for _ in range(20) for text in texts])

    def generate(prompts: Any, *_: Any) -> list[Completion]:
        ids = [tools.chat.written(next(said)) for _ in prompts]
        return [Completion(i, [-1.0] * len(i), "stop") for i in ids]

    tools.teachers[MAIN].generate = generate  # type: ignore[method-assign]


def test_the_right_answer_nearest_to_the_student_is_chosen(tools):
    recipe = recipes.get("brts")(context=EXPECTED, overlap_k=60)
    groups = with_rewards(played(tools), 0, 0, 0, 0)
    taught(tools, recipe)
    even = [w for w in ("milk", "Oslo", "Anna", "Paris", "timer", "call", "of", "Set") if sum(map(ord, w)) % 2 == 0][:2]
    odd = [w for w in ("milk", "Oslo", "Anna", "Paris", "timer", "call", "of", "Set") if sum(map(ord, w)) % 2 == 1][:2]
    candidates(tools, [*even, *odd])
    chosen = of(recipe.samples(groups, tools), "teacher")
    assert [s.group for s in chosen] == TASKS
    for sample in chosen:
        right = odd if tools.tasks[sample.group] % 2 else even
        near = tools.among_likeliest([(sample.prompt_ids, tools.chat.written(w)) for w in right], 60)
        overlap = [sum(x) / len(x) for x in near]
        assert sample.text == right[overlap.index(max(overlap))]
        assert sample.reward == 1.0


def test_where_none_is_right_the_reference_is_injected_and_the_answer_must_be_accepted(tools):
    seen = {"sources": ["feedback"], "allow_reference": True}
    recipe = recipes.get("brts")(context=seen, candidates=2)
    groups = with_rewards(played(tools), 0, 0, 0, 0)
    taught(tools, recipe)
    prompts: list[str] = []

    def generate(conversations: Any, sampling: Any, *_: Any) -> list[Completion]:
        """Knows the answer where it is called the correct solution, and else says what is never right."""
        assert sampling.temperature == 0.7
        prompts.extend(map(tools.chat.decode, conversations))
        texts = [p.split("Correct solution:")[1].split()[0] if "Correct solution:" in p else "" for p in prompts]
        ids = [tools.chat.written(text) for text in texts[-len(conversations) :]]
        return [Completion(i, [-1.0] * len(i), "stop") for i in ids]

    tools.teachers[MAIN].generate = generate  # type: ignore[method-assign]
    chosen = of(recipe.samples(groups, tools), "teacher")
    assert [s.text for s in chosen] == [tools.gold(g) for g in TASKS]
    for sample in chosen:
        assert "Correct solution:" in tools.chat.decode(sample.view(MAIN).ids), "compared where it answered"
        assert sample.text not in tools.chat.decode(sample.prompt_ids), "the student's prompt does not hold it"
    assert len(prompts) == 3 * 2 + 3
    prompts.clear()
    fallback = of(
        recipes.get("brts")(context={"sources": ["feedback"]}, candidates=2).samples(groups, tools), "teacher"
    )
    assert not any("Correct solution:" in prompt for prompt in prompts)
    assert [s.reward for s in fallback] == [0.0] * 3, "right or not, the nearest one"


def test_brts_weighs_ten_to_one_and_without_it_is_opd(tools):
    own = Sample([1], [2, 3], [-1.0, -1.0], [], "x", 0.0, [], 0, 0, 0)
    made = Sample([1], [4, 5, 6, 7], None, [], "y", 1.0, [], 0, 0, 0, source="teacher")
    for sample in (own, made):
        sample.show(MAIN, View([], [1]))
    reverse, forward = recipes.get("brts")().terms(Batch([own, made]))
    assert isinstance(forward, Distill)
    assert (reverse.alpha, forward.alpha) == (1.0, 0.0)
    assert reverse.coefficients.tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert forward.coefficients.tolist() == [0, 0, 2.5, 2.5, 2.5, 2.5]
    (alone,) = recipes.get("brts")(fkl_weight=0).terms(Batch([own]))
    assert torch.equal(alone.coefficients, recipes.get("opd")().terms(Batch([own]))[0].coefficients)


@pytest.mark.parametrize("name", ["brts", "stable_opd"])
def test_another_model_sees_the_student_s_prompt(name):
    recipe = recipes.get(name)(teacher={"kind": "external", "model": "x"})
    assert recipe.context.sources == ["none"]
    assert recipe.context.allow_reference == (name == "brts")


# ---- FST


def test_instructions_begin_the_conversation():
    question = [{"role": "user", "content": "Q"}]
    assert instructed(question, "") == question
    assert instructed(question, "Be brief.") == [{"role": "system", "content": "Be brief."}, *question]
    rules = [{"role": "system", "content": "Rules."}, *question]
    assert instructed(rules, "Be brief.")[0] == {"role": "system", "content": "Rules.\n\nBe brief."}


def test_a_group_has_one_baseline_over_its_instructions(tools):
    recipe = recipes.get("fast_slow")(instructions=["A", "B"], population=2)
    groups = rollout(tools.engine, tools.chat, tools.environments, TASKS, 4, tools.sampling, 0, drive=recipe.drive(0))
    heads = [[t.turns[0].messages[0]["content"] for t in group.trajectories] for group in groups]
    assert heads == [["A", "B", "A", "B"]] * 3
    with_rewards(groups, 1, 0, 1, 0)
    assert [recipe.advantages(groups)[0, a, 0] for a in range(4)] == [0.5, -0.5, 0.5, -0.5]
    recipe.begin(0)
    samples = recipe.samples(groups, tools)
    assert all(s.prompt_ids == tools.chat.encode(s.messages) and s.logprobs for s in samples)
    assert recipe._phi.members[0].mean == 1.0
    assert recipe._phi.members[1].mean == 0.0


def test_the_reflector_sees_failures_and_nothing_that_only_teachers_may_see(tools):
    recipe = recipes.get("fast_slow")(instructions=["Say milk."], population=2, cycle=2, rewritten=1)
    seen: list[tuple[str, str]] = []

    def ask(conversations: Any, who: str = "policy", **_: Any) -> list[Reply]:
        seen.extend((who, messages[-1]["content"]) for messages in conversations)
        return [Reply([1], m, Completion([2], [-1.0], "stop"), "<think>hm</think>Say Oslo.") for m in conversations]

    tools.ask = ask  # type: ignore[method-assign]
    groups = with_rewards(played(tools), 0, 0, 0, 0)
    references = {tools.gold(g) for g in TASKS}
    told = [item["text"] for group in groups for t in group.trajectories for item in t.turns[0].feedback]
    assert any("Expected" in text for text in told)
    recipe.begin(0)
    recipe.samples(groups, tools)
    assert seen == []
    recipe.begin(1)
    recipe.samples(groups, tools)
    ((who, content),) = seen
    assert who == "reflector"
    assert "Present instruction: Say milk." in content
    assert "Number" in content
    assert "The sum is" in content
    assert "Expected" not in content
    assert all(f"Expected {reference}" not in content for reference in references)
    assert recipe.found() == {"best": "Say milk.", "instructions": ["Say milk.", "Say Oslo."]}


def test_what_is_best_at_something_stays_and_the_dominated_goes():
    phi = Population(["a", "b", "c"], 3)
    for task, rewards in (("t", [1.0, 0.0, 0.5]), ("u", [0.0, 1.0, 0.0])):
        phi.record(task, rewards)
    assert phi.wins() == [1, 1, 0], "c is dominated by a"
    phi.renew(["d"])
    assert [m.text for m in phi.members] == ["a", "b", "d"]
    assert phi.best == "a"
    assert all(not m.rewards for m in phi.members), "a cycle counts anew"


@given(
    rewards=st.lists(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=4, max_size=4), max_size=6),
    texts=st.lists(st.sampled_from("abcdefg"), max_size=6),
    size=st.integers(2, 4),
)
def test_a_population_keeps_its_size_and_its_best(rewards, texts, size):
    phi = Population(["a", "b"], size)
    for k, row in enumerate(rewards):
        phi.record(str(k), row)
    means = {m.text: m.mean for m in phi.members}
    again = Population(["x"], size)
    again.load_state_dict(json.loads(json.dumps(phi.state_dict())))
    for each in (phi, again):
        each.renew(texts)
    assert phi.state_dict() == again.state_dict()
    now = [m.text for m in phi.members]
    assert len(now) == len(set(now)) <= size
    assert means[phi.best] == max(means.values())
    assert phi.best in now


def test_evaluation_is_with_the_best_instruction_or_none():
    question = [{"role": "user", "content": "Q"}]
    recipe = recipes.get("fast_slow")(instructions=["Be brief."])
    assert recipe.evaluated_with()(question, {}, 0)[0]["content"] == "Be brief."
    assert recipes.get("fast_slow")(instructions=["Be brief."], evaluate="plain").evaluated_with() is None
    assert recipes.get("fast_slow")().evaluated_with() is None


def test_every_instruction_has_an_equal_share(tiny_dir):
    with pytest.raises(SetupError, match=r"batch\.attempts=4 .*recipe\.population=3"):
        build(merged(COMMON, {"recipe": {"name": "fast_slow", "population": 3}, "model": {"name": str(tiny_dir)}}))


def test_a_run_keeps_what_it_found_and_evaluates_with_it(tiny_dir, tmp_path):
    recipe = {"name": "fast_slow", "population": 2, "cycle": 1, "max_tokens": 6, "instructions": ["Say a word.", ""]}
    config = merged(
        COMMON,
        {"recipe": recipe, "model": {"name": str(tiny_dir)}, "run_dir": str(tmp_path / "run"), "steps": 2,
         "eval": {"tasks": 2, "attempts": 1}},
    )  # fmt: skip
    Trainer(build(config)).run()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["found"]) == {"best", "instructions"}
    assert summary["found"]["best"] in summary["found"]["instructions"]
    rows = [r for r in read_jsonl(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "eval"]
    assert all({"truncated", "repetitive"} <= set(row) for row in rows)
    attempts = read_jsonl(tmp_path / "run" / "trajectories.jsonl")
    first = [row["turns"][0]["messages"][0] for row in attempts if row["step"] == 0]
    assert [m["content"] == "Say a word." for m in first[:4]] == [True, False, True, False]


# ---- runs do what the recipe is for


def logged(run: Any) -> list[dict[str, Any]]:
    return [r for r in read_jsonl(run / "metrics.jsonl") if r["kind"] == "train"]


@pytest.mark.parametrize(
    ("name", "happened"),
    [
        ("sort", lambda row: row["optimizer_steps"] == 2 and row.get("reference_weight", 0) > 0),
        ("npo", lambda row: row["replay_slots"] > 0),
        ("cipo", lambda row: row["recycled"] > 0),
        ("pbsd", lambda row: row["pairs"] > 0 and math.isfinite(row["margin"])),
        ("brts", lambda row: row["teacher_right"] > 0),
        ("stable_opd", lambda row: row["golden"] == 1 and row["repetitive"] == 0),
    ],
    ids=["sort", "npo", "cipo", "pbsd", "brts", "stable_opd"],
)
def test_a_run_uses_its_further_sequences(name, happened, tiny_dir, tmp_path):
    """The run of `test_recipe_runs`: the auxiliary step fires, slots are exchanged, pairs are made, answers found."""
    assert any(happened(row) for row in logged(train(name, tiny_dir, tmp_path / name)))


@pytest.mark.parametrize("name", ["sort", "npo", "cipo", "fast_slow"])
def test_what_a_recipe_remembers_survives_a_checkpoint(name, tools, tmp_path):
    recipe, other = recipes.get(name)(), recipes.get(name)()
    recipe.samples(with_rewards(played(tools), *((0, 0, 0, 0) if name == "sort" else (0, 1, 0, 0))), tools)
    recipe.observe({"kept": 0.2})
    assert recipe.state_dict() != other.state_dict()
    learner = Learner(tools.engine, OptimSettings(), 1.0)
    checkpoints.save(tmp_path, 1, learner, {}, recipe)
    checkpoints.restore(checkpoints.latest(tmp_path), learner, {}, other)
    assert other.state_dict() == recipe.state_dict()


def test_a_group_above_the_gate_is_left_as_it_is():
    group = Group({"id": "a"}, [Trajectory([Turn([1], [2], [-1.0], "x", [], 1.0)])])
    assert len(recipes.get("npo")().samples([group], StepTools(None))) == 1  # type: ignore[arg-type]
