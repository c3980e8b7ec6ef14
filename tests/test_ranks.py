"""Data parallel: two processes find the loss, the gradient and the statistics of one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import tiny_model, tiny_tokenizer
from test_learner import make_batch
from two_ranks import two_ranks

from agents import recipes
from agents.engines.hf import HFEngine
from agents.losses.terms import Distill
from agents.teachers.teacher import Teacher, TeacherSettings
from agents.training.learner import Learner, OptimSettings
from agents.training.ranks import Ranks, shares

CASES = ["sdpo", "sdpo_grpo", "one sample", "nothing", "nan on one rank"]


def engine() -> HFEngine:
    tokenizer = tiny_tokenizer()
    return HFEngine(tiny_model(len(tokenizer)).double(), tokenizer, budget=40)


def steps(ranks: Ranks | None) -> dict:
    """Every case on a fresh model in float64: what the learner says, its gradient, and the weights after it."""
    results = {}
    for case in CASES:
        student = engine()
        recipe = recipes.get(case if case in recipes.names() else "sdpo")(top_k=0)
        teacher = Teacher(student, TeacherSettings(kind="trust_region"))
        teacher.ranks = ranks
        learner = Learner(student, OptimSettings(lr=0.01), 1.0, ranks)
        read, tokens = student._nodes, [0]

        def counted(tree, start, stop, *rest, read=read, tokens=tokens):
            tokens[0] += stop - start
            return read(tree, start, stop, *rest)

        student._nodes = counted
        batch = make_batch()
        for i, sample in enumerate(batch.samples):
            if case == "nothing" or (case == "one sample" and i != 2):
                sample.teacher_ids = None
        taught = [(s.teacher_ids, s.action_ids) for s in batch.samples if s.teacher_ids]
        if taught:
            batch.teacher = teacher.logits(taught, 1.0)
        batch.old_logprobs = learner.logprobs(batch, idle=torch.tensor([False] * 6 + [True]))
        old = batch.old_logprobs
        batch.old_logprobs = old.nan_to_num(nan=-5.0)
        batch.student = learner.student(batch, Distill(torch.zeros(len(batch.targets))))
        terms = recipe.terms(batch)
        if case == "nan on one rank":
            batch.old_logprobs[0] = math.nan  # a token of the first sample, which one rank has
        grads = []
        optimise = learner.optimizer.step

        def seen(grads=grads, learner=learner, optimise=optimise):
            grads.extend(p.grad.clone() for p in learner.parameters)
            optimise()

        learner.optimizer.step = seen
        result = learner.step(batch, terms, top=3)
        stats = None if result.stats is None else vars(result.stats)
        numbers = (result.loss, result.grad_norm, result.stepped, learner.steps)
        weights = [p.detach().clone() for p in learner.parameters]
        results[case] = {
            "numbers": numbers, "stats": stats, "grads": grads, "weights": weights, "old": old,
            "gap": batch.student.gap, "tokens": tokens[0],
        }  # fmt: skip
    return results


def ranked_steps(rank: int) -> dict:
    ranks = Ranks()
    assert (ranks.rank, ranks.size) == (rank, 2)
    return steps(ranks)


@pytest.fixture(scope="module")
def outcomes():
    return steps(None), two_ranks(ranked_steps)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_do_what_one_process_does(outcomes, case):
    alone, both = outcomes[0][case], [found[case] for found in outcomes[1]]
    assert alone["numbers"][2] == (case in ("sdpo", "sdpo_grpo", "one sample"))
    assert len(alone["grads"]) == (len(alone["weights"]) if alone["numbers"][2] else 0)
    for found in both:
        assert found["numbers"] == pytest.approx(alone["numbers"], abs=1e-6, nan_ok=True)
        for a, b in zip(found["grads"], alone["grads"], strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        assert torch.allclose(found["old"], alone["old"], atol=1e-6, equal_nan=True)
        assert torch.allclose(found["gap"], alone["gap"], atol=1e-6, equal_nan=True)
        assert (found["stats"] is None) == (alone["stats"] is None)
        for name, values in (alone["stats"] or {}).items():
            assert torch.allclose(found["stats"][name], values, atol=1e-6, equal_nan=True), name
    for a, b in zip(both[0]["weights"], both[1]["weights"], strict=True):
        assert torch.equal(a, b)


def test_the_work_is_shared_out(outcomes):
    alone, (first, second) = outcomes[0]["sdpo"]["tokens"], (found["sdpo"]["tokens"] for found in outcomes[1])
    assert max(first, second) < 0.75 * alone


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), max_size=30), st.integers(1, 5))
def test_shares_hold_everything_once_and_are_balanced(items, size):
    costs, families = [cost for cost, _ in items], [family for _, family in items]
    found = shares(costs, families, size)
    assert len(found) == size
    assert sorted(i for share in found for i in share) == list(range(len(costs)))
    loads = [sum(costs[i] for i in share) for share in found]
    part = -(-sum(costs) // size)
    assert max(loads) <= 2 * part + max(costs, default=0)


def test_families_stay_together_where_that_is_fair():
    costs, families = [3, 3, 2, 2, 2, 1, 1], ["a", "a", "b", "b", "b", "c", "c"]
    assert shares(costs, families, 2) == [[0, 1, 5, 6], [2, 3, 4]]
    assert shares([5, 5, 5, 5], ["a"] * 4, 2) == [[0, 1], [2, 3]]
    assert shares([4], ["a"], 3) == [[0], [], []]


def test_ranks_need_a_process_group():
    with pytest.raises(RuntimeError, match="init_process_group"):
        Ranks()
