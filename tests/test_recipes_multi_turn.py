"""Recipes over episodes of several turns: their equations by hand, their schedules, and whole runs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import gymnasium
import pytest
import torch
from corridor import ID, Corridor, find, play
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from agents import recipes
from agents.batch import Batch, Reading, Sample, samples_of, split
from agents.config import build
from agents.errors import SetupError
from agents.losses.terms import Distill, Likelihood, PolicyGradient
from agents.recipes.gigpo import returns
from agents.recipes.sod import EPSILON, step_weights
from agents.recipes.tools import StepTools
from agents.report.metrics import read_jsonl
from agents.rollout import Drive, Environments, rollout
from agents.training.trainer import Trainer
from agents.trajectory import Group, Trajectory, Turn
from rfenvs.env import Action, Verdict
from rfenvs.tasks import Task


def turn(reward: float = 0.0, state: object = None, tokens: int = 2, **fields: Any) -> Turn:
    before = {} if state is None else {"state_key": state}
    return Turn([1], [2] * tokens, [-1.0] * tokens, "x", [], reward, before=before, **fields)


def sample(attempt: int, turn: int, logprobs: list[float], taught: bool = True, reward: float = 0.0) -> Sample:
    made = Sample([1], [2] * len(logprobs), logprobs, [], "x", reward, [], 0, attempt, turn)
    made.teacher_ids = [1] if taught else None
    return made


def read(batch: Batch, teacher: list[float]) -> Batch:
    """``teacher``: its log-probability of every token."""
    nothing = torch.zeros(len(teacher))
    values = torch.where(batch.per_token(batch.taught), torch.tensor(teacher), math.nan)
    batch.reading = Reading(values, nothing, nothing, nothing.bool())
    batch.advantages = torch.zeros(len(batch))
    return batch


def sums(batch: Batch, coefficients: Tensor) -> list[float]:
    return torch.zeros(len(batch)).index_add_(0, batch.sequence, coefficients).tolist()


# ---- batches


@given(
    turns=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    parts=st.integers(1, 8),
)
def test_optimiser_steps_never_cut_a_trajectory(turns: list[int], parts: int):
    samples = [sample(a, t, [-1.0]) for a, n in enumerate(turns) for t in range(n)]
    runs = split(samples, min(parts, len(samples)))
    assert [s for run in runs for s in run] == samples
    assert len(runs) <= parts
    assert all(runs)
    where = [{s.attempt for s in run} for run in runs]
    assert sum(map(len, where)) == len(turns), "each attempt is in one run"


def test_single_turns_are_split_evenly():
    samples = [sample(a, 0, [-1.0]) for a in range(10)]
    assert [len(run) for run in split(samples, 4)] == [3, 3, 3, 1]


# ---- SOD


@given(st.lists(st.floats(0, 20), min_size=1, max_size=8), st.floats(0, 2))
def test_sod_product_telescopes(divergences: list[float], delta: float):
    d = torch.tensor(divergences, dtype=torch.float64)
    product, expected = 1.0, []
    for k in range(len(d)):
        if k:
            product *= (divergences[k - 1] + EPSILON) / (divergences[k] + EPSILON)
        expected.append(min(product, 1 + delta))
    assert step_weights(d, delta).tolist() == pytest.approx(expected, rel=1e-9)


def test_sod_weights_are_golden():
    # the teacher disagrees by 0.5, by 2 (a quarter), by 0.1 (five times, cut to 1.2)
    batch = read(
        Batch([sample(0, 0, [-1.0, -1.0]), sample(0, 1, [-1.0]), sample(0, 2, [-1.0, -1.0])]),
        [-1.25, -1.75, -3.0, -0.8, -1.0],
    )
    distil, policy = recipes.get("sod")(policy_weight=0.5).terms(batch)
    assert isinstance(distil, Distill)
    assert isinstance(policy, PolicyGradient)
    total = 2 * 1.0 + 1 * 0.25 + 2 * 1.2
    expected = [1.0 / total, 1.0 / total, 0.25 / total, 1.2 / total, 1.2 / total]
    assert distil.coefficients.tolist() == pytest.approx(expected, rel=1e-5)
    assert policy.coefficients.tolist() == pytest.approx([0.1] * 5)
    assert (distil.alpha, distil.top_k, distil.form) == (1.0, None, "full")
    assert batch.log["step_divergence"] == pytest.approx((0.5 + 2 + 0.1) / 3)
    assert batch.log["step_weight"] == pytest.approx((1 + 0.25 + 1.2) / 3, rel=1e-5)


def test_sod_compares_with_the_first_scored_turn_of_the_same_trajectory():
    # Attempt 0: turn 0 was the expert's (no sample), turn 1 is not taught. Attempt 1 lies before it, out of order.
    samples = [
        sample(1, 1, [-1.0]), sample(1, 0, [-1.0]),
        sample(0, 1, [-1.0], taught=False), sample(0, 2, [-1.0]), sample(0, 3, [-1.0]),
    ]  # fmt: skip
    batch = read(Batch(samples), [-3.0, -2.0, 0.0, -2.0, -5.0])
    distil, _ = recipes.get("sod")().terms(batch)
    total = 0.5 + 1.0 + 1.0 + 0.25
    assert distil.coefficients.tolist() == pytest.approx([v / total for v in (0.5, 1.0, 0.0, 1.0, 0.25)], rel=1e-5)


def test_sod_prefers_the_logprobs_from_before_the_first_optimiser_step():
    batch = read(Batch([sample(0, 0, [-1.0]), sample(0, 1, [-1.0])]), [-2.0, -2.0])
    batch.old_logprobs = torch.tensor([-1.0, 0.0])
    distil, _ = recipes.get("sod")().terms(batch)
    assert distil.coefficients.tolist() == pytest.approx([1 / 1.5, 0.5 / 1.5], rel=1e-5)


def test_sod_passes_over_a_turn_in_which_nothing_was_said():
    batch = read(Batch([sample(0, 0, []), sample(0, 1, [-1.0]), sample(0, 2, [-1.0])]), [-2.0, -5.0])
    distil, _ = recipes.get("sod")().terms(batch)
    assert distil.coefficients.tolist() == pytest.approx([1 / 1.25, 0.25 / 1.25], rel=1e-5)
    assert batch.log["step_divergence"] == pytest.approx(2.5)


def test_sod_without_a_teacher_is_grpo():
    batch = Batch([sample(0, 0, [-1.0], taught=False)])
    batch.advantages = torch.ones(1)
    distil, policy = recipes.get("sod")().terms(batch)
    assert not distil.coefficients.any()
    assert policy.coefficients.tolist() == [1.0]


# ---- TCOD


def test_tcod_depth_is_golden():
    recipe = recipes.get("tcod")(k_start=2, eta=3, k_max=4)
    assert [recipe.depth(n) for n in range(11)] == [2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4]
    assert recipe.drive(4) == Drive(student_turns=3)
    assert recipes.get("tcod")(direction="back_to_front").drive(5) == Drive(student_turns=2, last_turns=2)
    assert recipes.get("tcod")().depth(500) == 101, "k_max=None is the environment's limit"


def test_tcod_means_over_turns_front_to_back_and_over_tokens_back_to_front():
    batch = Batch([sample(0, 0, [-1.0] * 3), sample(0, 1, [-1.0]), sample(1, 0, [-1.0], taught=False)])
    (turns,) = recipes.get("tcod")().terms(batch)
    assert turns.coefficients.tolist() == pytest.approx([1 / 9] * 3 + [1 / 3, 0])
    assert turns.alpha == 1.0
    (tokens,) = recipes.get("tcod")(direction="back_to_front").terms(batch)
    assert tokens.coefficients.tolist() == pytest.approx([1 / 4] * 4 + [0])
    (chosen,) = recipes.get("tcod")(direction="back_to_front", mean="turn").terms(batch)
    assert torch.equal(chosen.coefficients, turns.coefficients)


# ---- DAgger


def test_dagger_beta_is_golden():
    recipe = recipes.get("dagger")(iteration_steps=2)
    assert [recipe.beta(n) for n in range(8)] == pytest.approx([1.0, 1.0, 0.8, 0.8, 0.6, 0.6, 0.6, 0.6])
    assert recipe.drive(2) == Drive(expert_share=0.8, advise=True)
    cloning = recipes.get("dagger")(beta_decay=0)
    assert cloning.beta(10**6) == 1.0


def test_dagger_learns_the_expert_s_action_in_every_visited_state(engine):
    environments = Environments(ID, "train", {"max_turns": 5})
    sampling = build({"recipe": "dagger"}).sampling.model_copy(update={"max_tokens": 4})
    drive = recipes.get("dagger")(beta_start=0.6).drive(0)
    groups = rollout(engine, engine.chat, environments, [0, 1, 2, 3], 1, sampling, 3, drive=drive)
    turns = [t for g in groups for t in g.trajectories[0].turns]
    assert {t.source for t in turns} == {"policy", "expert"}, "the seed mixes them"
    samples = recipes.get("dagger")().samples(groups, StepTools(engine.chat))
    assert [s.prompt_ids for s in samples] == [t.prompt_ids for t in turns]
    assert [s.text for s in samples] == [t.before["expert_action"] for t in turns]
    assert all(engine.chat.decode(s.action_ids) == s.text for s in samples)
    assert all(s.action_ids[-1] in engine.stop_ids for s in samples)
    assert all(s.logprobs is None for s in samples)
    for t, s in zip(turns, samples, strict=True):
        assert t.source == "policy" or t.action_ids == s.action_ids, "the label is what the expert did"
    (term,) = recipes.get("dagger")().terms(Batch(samples))
    assert isinstance(term, Likelihood)
    assert float(term.coefficients.sum()) == pytest.approx(1.0)
    short = max(len(s.prompt_ids) + len(s.action_ids) for s in samples) - 1
    assert 0 < len(recipes.get("dagger")().samples(groups, StepTools(engine.chat, limit=short))) < len(samples)


def test_dagger_leaves_out_states_without_advice():
    told = [turn(advice="go left"), turn(advice=None), turn(advice="take key", source="expert")]
    chat = type("C", (), {"written": staticmethod(lambda text: [ord(c) for c in text])})()
    samples = recipes.get("dagger")().samples(
        [Group({}, [Trajectory(told), Trajectory(told, scored=False)])], StepTools(chat)
    )
    assert [(s.attempt, s.turn) for s in samples] == [(0, 0), (0, 2)]
    assert [s.action_ids for s in samples] == [[ord(c) for c in "go left"], [2, 2]], "the label is what the expert did"


def advised(engine: Any, turns: int) -> Trajectory:
    lost = play(engine.chat, find(plan=3), ["open door"] * turns)
    for t in lost.turns:
        t.advice = t.before["expert_action"]
    return lost


def hinted(engine: Any, share: float, groups: list[Group], seed: str = "") -> list[Sample]:
    """The samples whose prompt is not the policy's."""
    samples = recipes.get("dagger")(hinted=share).samples(groups, StepTools(engine.chat, seed=seed))
    assert all(s.teacher_ids is None for s in samples), "nothing is scored"
    own = [groups[s.group].trajectories[s.attempt].turns[s.turn].prompt_ids for s in samples]
    return [s for s, ids in zip(samples, own, strict=True) if s.prompt_ids != ids]


def test_dagger_shows_the_hint_in_its_share_of_the_samples(engine):
    groups = [Group({}, [advised(engine, 4)] * 5) for _ in range(10)]
    assert hinted(engine, 0, groups) == []
    assert len(hinted(engine, 1, groups)) == 200
    some = hinted(engine, 0.4, groups)
    assert 60 < len(some) < 100
    shown = engine.chat.tokenizer.decode(some[0].prompt_ids).removeprefix(
        engine.chat.tokenizer.decode(groups[0].trajectories[0].turns[some[0].turn - 1].prompt_ids)
    )
    assert f"assistant\n{some[0].text}" in shown


def test_dagger_hints_every_turn_of_an_episode_now_and_then(engine):
    """Whatever the lengths: episodes of two turns, of which a half is hinted, are not hinted at their second only."""
    groups = [Group({}, [advised(engine, 2)] * 5) for _ in range(8)]
    by_turn = [sum(s.turn == t for s in hinted(engine, 0.5, groups)) for t in range(2)]
    assert all(8 < n < 32 for n in by_turn), by_turn

    def where(seed: str) -> list[tuple[int, int, int]]:
        return [(s.group, s.attempt, s.turn) for s in hinted(engine, 0.5, groups, seed)]

    assert where("0:1") == where("0:1") != where("0:2"), "another draw each step, the same where a run is resumed"


# ---- GiGPO


def trajectories() -> list[Trajectory]:
    """By states: A B, A A, an unscored one, and C B whose B was the expert's."""
    return [
        Trajectory([turn(0.0, "A"), turn(1.0, "B")]),
        Trajectory([turn(0.0, "A"), turn(0.5, "A")]),
        Trajectory([turn(0.0, "A")], scored=False),
        Trajectory([turn(0.0, "C"), turn(0.0, "B", source="expert")]),
    ]


def test_gigpo_returns_are_discounted():
    assert returns(Trajectory([turn(1.0), turn(0.0), turn(2.0)]), 0.5) == [1.5, 1.0, 2.0]


def test_gigpo_is_golden_on_a_made_group():
    group = Group({}, trajectories())
    recipe = recipes.get("gigpo")(gamma=0.5, omega=2.0, normalise_advantages=False)
    # episodes: 1, 0.5, 0: mean 0.5. State A: returns 0.5, 0.25, 0.5: mean 5/12. B and C are met once by the policy.
    a = 5 / 12
    expected = {
        (0, 0, 0): 0.5 + 2 * (0.5 - a), (0, 0, 1): 0.5,
        (0, 1, 0): 0.0 + 2 * (0.25 - a), (0, 1, 1): 0.0 + 2 * (0.5 - a),
        (0, 3, 0): -0.5, (0, 3, 1): -0.5,
    }  # fmt: skip
    assert recipe.advantages([group]) == pytest.approx(expected)


def test_gigpo_divides_by_both_standard_deviations():
    group = Group({}, trajectories())
    recipe = recipes.get("gigpo")(gamma=0.5)
    assert recipe.normalise_advantages
    episode, state = 0.5 / (0.5 + 1e-4), math.sqrt(1 / 48)
    got = recipe.advantages([group])
    assert got[0, 0, 1] == pytest.approx(episode), "a state met once"
    assert got[0, 0, 0] == pytest.approx(episode + (1 / 12) / (state + 1e-4))
    assert got[0, 1, 0] == pytest.approx((-1 / 6) / (state + 1e-4))


def test_gigpo_without_omega_is_grpo():
    group = Group({}, trajectories())
    grpo, gigpo = (recipes.get(n)(normalise_advantages=True).advantages([group]) for n in ("grpo", "gigpo"))
    assert recipes.get("gigpo")(omega=0).advantages([group]) == grpo != gigpo


def test_gigpo_does_not_mix_tasks():
    one, two = Group({}, [Trajectory([turn(1.0, "A")])]), Group({}, [Trajectory([turn(0.0, "A")])])
    assert set(recipes.get("gigpo")().advantages([one, two]).values()) == {0.0}


def test_gigpo_names_what_the_environment_must_tell():
    group = Group({"env_id": "some/Env-v0", "id": "7"}, [Trajectory([turn(1.0)])])
    with pytest.raises(SetupError, match=r"some/Env-v0 does not say .* task '7'.*info\['state_key'\]"):
        recipes.get("gigpo")().advantages([group])


# ---- GRPO and SDPO over turns


def test_grpo_gives_every_turn_its_trajectory_s_advantage():
    group = Group({}, [Trajectory([turn(0.0), turn(1.0)]), Trajectory([turn(0.0, source="expert"), turn(0.0)])])
    got = recipes.get("grpo")().advantages([group])
    assert got == {(0, 0, 0): 0.5, (0, 0, 1): 0.5, (0, 1, 0): -0.5, (0, 1, 1): -0.5}
    batch = Batch(samples_of([group]))
    batch.advantages = torch.tensor([got[s.group, s.attempt, s.turn] for s in batch.samples])
    assert len(batch) == 3, "the expert's turn is not trained on"
    (term,) = recipes.get("grpo")().terms(batch)
    assert term.advantages.tolist() == [0.5] * 4 + [-0.5] * 2
    assert term.coefficients.tolist() == pytest.approx([1 / 6] * 6)


@given(st.floats(-100, 100), st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_attempts_that_earned_the_same_have_no_advantage_at_all(total, attempts, parts):
    """Not 1e-17 either: a step would be made of it, with the optimiser's momentum and weight decay."""
    paid = [total * p / sum(parts) for p in parts]
    orders = [paid[k % len(paid) :] + paid[: k % len(paid)] for k in range(attempts)]
    group = Group({}, [Trajectory([turn(r, "A") for r in order]) for order in orders])
    for normalise in (False, True):
        assert set(recipes.get("grpo")(normalise_advantages=normalise).advantages([group]).values()) == {0.0}
    whole = [Trajectory([turn(total, "A")]) for _ in range(attempts)]
    assert set(recipes.get("gigpo")().advantages([Group({}, whole)]).values()) == {0.0}


def test_sdpo_weighs_turns_or_episodes_alike():
    batch = Batch([sample(0, 0, [-1.0] * 3), sample(0, 1, [-1.0]), sample(1, 0, [-1.0]), sample(2, 0, [-1.0], False)])
    (turns,) = recipes.get("sdpo")().terms(batch)
    assert sums(batch, turns.coefficients) == pytest.approx([1 / 4, 1 / 4, 1 / 4, 0])
    (episodes,) = recipes.get("sdpo")(mean="trajectory").terms(batch)
    assert sums(batch, episodes.coefficients) == pytest.approx([3 / 12, 1 / 12, 1 / 3, 0])


def test_imitation_has_one_sequence_for_each_prompt(engine):
    key = find(plan=3)
    plan = [t.before["expert_action"] for t in play(engine.chat, key, ["go left"]).turns]
    lost = play(engine.chat, key, ["open door", "open door"])
    samples = recipes.get("imitation")().samples([Group({}, [lost, lost])], StepTools(engine.chat))
    assert [s.turn for s in samples] == [0, 1]
    assert [s.text for s in samples] == [t.before["expert_action"] for t in lost.turns]
    assert samples[0].text == plan[0]


# ---- settings that do not go together


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"recipe": {"name": "tcod", "k_start": 4, "k_max": 3}}, ["recipe.k_max=3", "recipe.k_start=4"]),
        ({"recipe": {"name": "dagger", "beta_start": 0.5}}, ["recipe.beta_start=0.5", "recipe.beta_floor=0.6"]),
        (
            {"recipe": {"name": "dagger", "hinted": 0.5, "context": {"allow_reference": False}}},
            ["recipe.hinted=0.5", "recipe.context.allow_reference"],
        ),
        ({"recipe": "grpo", "batch": {"attempts": 1}}, ["recipe=grpo", "batch.attempts"]),
        ({"recipe": "gigpo", "batch": {"attempts": 1}}, ["recipe=gigpo", "batch.attempts"]),
        ({"recipe": {"name": "dagger", "teacher": {"kind": "ema"}}}, ["recipe.teacher.kind='ema'", "recipe=dagger"]),
        (
            {"recipe": {"name": "tcod", "k_start": 4}, "rollout": {"turns": 3}},
            ["rollout.turns=3", "recipe.k_start=4"],
        ),
        ({"recipe": "sod", "batch": {"attempts": 1}}, ["recipe.policy_weight=1", "batch.attempts"]),
        ({"recipe": "sdpo_grpo", "batch": {"attempts": 1}}, ["recipe.policy_weight=0.9", "batch.attempts"]),
        ({"recipe": {"name": "sod", "intervention": {}}}, ["recipe.intervention", "recipe=sod"]),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, Any], names: list[str]):
    with pytest.raises(SetupError) as error:
        build(settings)
    assert all(name in str(error.value) for name in names), error.value


@pytest.mark.parametrize("name", ["sod", "sdpo_grpo"])
def test_distillation_alone_needs_no_group(name):
    config = build({"recipe": {"name": name, "policy_weight": 0}, "batch": {"attempts": 1}})
    assert config.batch.attempts == 1


# ---- whole runs


def settings(tiny_dir: Any, run_dir: Any, recipe: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "model": {"name": str(tiny_dir)},
        "env": {"id": ID, "kwargs": {"max_turns": 6}},
        "sampling": {"max_tokens": 4},
        "batch": {"tasks": 2, "attempts": 2},
        "optim": {"lr": 1e-3},
        "eval": {"tasks": 0},
        "steps": 2,
        "check_teacher": 0,
        "threads": 1,
        "record_tokens": 0,
        "save_final": False,
        "run_dir": str(run_dir),
        **changes,
    }


def train(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The training rows of a run."""
    run = Trainer(build(config)).run()
    return [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]


FEEDBACK = {"sources": ["feedback"]}
RUNS = {
    "sod": {"name": "sod", "context": FEEDBACK},
    "tcod": {"name": "tcod", "context": FEEDBACK, "eta": 1},
    "tcod back to front": {"name": "tcod", "context": FEEDBACK, "direction": "back_to_front", "eta": 1},
    "dagger": {"name": "dagger", "beta_floor": 0.4, "beta_decay": 0.6, "iteration_steps": 1},
    "sdpo": {"name": "sdpo", "context": FEEDBACK, "mean": "trajectory"},
    "imitation": {"name": "imitation"},
}


@pytest.mark.parametrize("name", RUNS)
def test_two_steps_of_training(tiny_dir, tmp_path, name):
    rows = train(settings(tiny_dir, tmp_path / "run", RUNS[name]))
    assert [r["optimizer_steps"] for r in rows] == [1, 1]
    assert all(math.isfinite(r["loss"]) for r in rows)
    schedule = {
        "tcod": ("student_turns", [1, 2]),
        "tcod back to front": ("last_turns", [1, 2]),
        "dagger": ("expert_share", [1.0, 0.4]),
    }
    if name in schedule:
        key, values = schedule[name]
        assert [r[key] for r in rows] == pytest.approx(values)
    if name == "sod":
        assert all(0 < r["step_weight"] <= 1.2 for r in rows)
    episodes = read_jsonl(tmp_path / "run" / "trajectories.jsonl")
    if name == "tcod":
        assert [len(e["turns"]) for e in episodes] == [1] * 4 + [2] * 4
    if name == "tcod back to front":
        env = Corridor()
        for e, k in zip(episodes, [1] * 4 + [2] * 4, strict=True):
            plan = env.gold_actions(env.task("train", e["task"]["index"]))
            replayed = len(plan) - k
            assert [t["text"] for t in e["turns"][:replayed]] == plan[:replayed]
            assert len(e["turns"]) == len(plan)
            assert [t["teacher_messages"] is None for t in e["turns"]] == [True] * replayed + [False] * k


def test_dagger_asks_a_model_where_there_is_no_planner(tiny_dir, tmp_path):
    recipe = {"name": "dagger", "teacher": {"kind": "external", "model": str(tiny_dir)}, "beta_start": 0.6}
    env = {"id": ID, "kwargs": {"max_turns": 4, "expert": False}}
    rows = train(settings(tiny_dir, tmp_path / "run", recipe, env=env))
    assert [r["optimizer_steps"] for r in rows] == [1, 1]
    with pytest.raises(SetupError, match="expert"):
        train(settings(tiny_dir, tmp_path / "none", {"name": "dagger"}, env=env))


class Paid(Corridor):
    """A corridor that pays by the letter, so that a random policy's attempts differ in what they earn."""

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        verdict = super().grade(task, action, turn)
        return dataclasses.replace(verdict, reward=0.01 * len(action))


if "tests/Paid-v0" not in gymnasium.registry:
    gymnasium.register("tests/Paid-v0", entry_point=Paid)


@pytest.mark.parametrize("name", ["grpo", "gigpo", "sod"])
def test_two_steps_of_policy_gradient(tiny_dir, tmp_path, name):
    recipe = {"name": name, **({"context": FEEDBACK, "policy_weight": 1.0} if name == "sod" else {})}
    env = {"id": "tests/Paid-v0", "kwargs": {"max_turns": 3}}
    changes = {"batch": {"tasks": 2, "attempts": 4}, "optim": {"lr": 1e-3, "steps_per_batch": 2}}
    rows = train(settings(tiny_dir, tmp_path / "run", recipe, env=env, **changes))
    assert [r["optimizer_steps"] for r in rows] == [2, 2]
    assert all(r["grad_norm"] > 0 for r in rows)


def test_gigpo_on_an_environment_without_state_keys_stops_the_run(tiny_dir, tmp_path):
    env = {"id": "rfenvs/ToolCall-v0"}
    with pytest.raises(SetupError, match=r"rfenvs/ToolCall-v0 does not say"):
        train(settings(tiny_dir, tmp_path / "run", {"name": "gigpo"}, env=env))


@pytest.mark.parametrize("name", ["dagger", "tcod"])
def test_an_interrupted_run_goes_on_in_the_middle_of_its_schedule(tiny_dir, tmp_path, monkeypatch, name):
    changes = {"steps": 5, "save_every": 2, "save_final": True, "batch": {"tasks": 2, "attempts": 1}}
    recipe = {**RUNS[name], **({"beta_decay": 0.2, "beta_floor": 0.0} if name == "dagger" else {})}
    whole = train(settings(tiny_dir, tmp_path / "whole", recipe, **changes))
    key = {"dagger": "expert_share", "tcod": "student_turns"}[name]
    assert len({r[key] for r in whole}) == 5, "the schedule moves every step"

    record = Trainer._record

    def interrupted(self: Trainer, step: int, *rest: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt
        record(self, step, *rest)

    broken = settings(tiny_dir, tmp_path / "broken", recipe, **changes)
    monkeypatch.setattr(Trainer, "_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.undo()
    resumed = train(broken)
    assert [r["step"] for r in resumed] == list(range(5))
    for row in (*whole, *resumed):
        del row["seconds"], row["cpu_seconds"]
    assert resumed == whole
    a, b = (load_file(tmp_path / d / "checkpoints/final/model.safetensors") for d in ("whole", "broken"))
    assert all(torch.equal(a[k], b[k]) for k in a)
