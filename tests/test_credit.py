"""Weights of turns: the equations of SAGE-OPD by hand, and what must hold whatever the numbers are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_learner import make_batch

from agents import recipes
from agents.batch import Batch, Reading, Sample
from agents.credit.intervention import Intervention
from agents.credit.labels import LABELS, at_least, known
from agents.credit.weights import Totals, confidence, normaliser, scaled, totals, turn_weights
from agents.losses.reduction import sequence_mean, token_mean
from agents.losses.terms import Distill, PolicyGradient
from agents.teachers.teacher import Teacher
from agents.training.learner import Learner, OptimSettings

quick = settings(max_examples=60, deadline=None)

# ---- batches: labels, confidences, no model


def batch_of(labels: list[str | None], tokens: list[list[float]], taught: list[bool] | None = None) -> Batch:
    """A batch whose teacher is as sure of each token as ``tokens`` says."""
    samples = [
        Sample([1] * 7, [2] * len(row), [0.0] * len(row), [], "", 0.0, [], 0, 0, k, None, [3] if seen else None, label)
        for k, (label, row, seen) in enumerate(zip(labels, tokens, taught or [True] * len(labels), strict=True))
    ]
    batch = Batch(samples)
    top1 = torch.tensor([x for row in tokens for x in row])
    top1[~batch.per_token(batch.taught)] = math.nan
    batch.reading = Reading(top1, top1, top1, torch.zeros(len(top1), dtype=torch.bool))
    return batch


def opd(batch: Batch) -> Distill:
    return Distill(token_mean(batch.per_token(batch.taught).float()))


def coefficients(batch: Batch, intervention: Intervention | None = None, base: Distill | None = None) -> torch.Tensor:
    (term,) = (intervention or Intervention()).apply(batch, [base or opd(batch)])
    assert isinstance(term, Distill)
    return term.coefficients


probabilities = st.floats(1 / 64, 1.0, width=32)
turns = st.lists(
    st.tuples(st.sampled_from(LABELS), st.lists(probabilities, min_size=1, max_size=6)), min_size=1, max_size=7
)


def made(turns_: list[tuple[str, list[float]]], label: str | None = None) -> Batch:
    return batch_of([label or name for name, _ in turns_], [row for _, row in turns_])


# ---- by hand


def test_the_equations_by_hand():
    # c = (0.8, 0.5, 1.0), m = (1, 0.5, 0) -> w = (0.8, 0.8, 0.25, 0, 0, 0); N = 6, sum = 1.85, Z = 6 / 1.85
    batch = batch_of(["strong", "weak", "skip"], [[0.9, 0.7], [0.5], [1.0, 1.0, 1.0]])
    z = 6 / 1.85
    expected = [0.8 * z / 6, 0.8 * z / 6, 0.25 * z / 6, 0, 0, 0]
    assert coefficients(batch).tolist() == pytest.approx(expected, rel=1e-6)
    assert float(coefficients(batch).sum()) == pytest.approx(1.0), "the mean weight of a token is 1"
    assert batch.log == pytest.approx(
        {"turns_skip": 1, "turns_weak": 1, "turns_strong": 1, "judge_failed": 0, "active_share": 0.5,
         "confidence": 5.1 / 6, "weight_scale": z}
    )  # fmt: skip


def test_confidence_per_token_and_off():
    batch = batch_of(["strong", "weak"], [[0.9, 0.3], [0.5]])
    z = 3 / (0.9 + 0.3 + 0.25)
    token = coefficients(batch, Intervention(confidence="token"))
    assert token.tolist() == pytest.approx([0.9 * z / 3, 0.3 * z / 3, 0.25 * z / 3], rel=1e-6)
    off = coefficients(batch, Intervention(confidence="off"))
    assert off.tolist() == pytest.approx([1 / 2.5, 1 / 2.5, 0.5 / 2.5], rel=1e-6)


def test_the_cap_of_the_normaliser():
    batch = batch_of(["strong", "skip"], [[0.5], [1.0] * 19])
    assert coefficients(batch).sum() == pytest.approx(1.0)
    assert batch.log["weight_scale"] == pytest.approx(40.0)
    capped = coefficients(batch, Intervention(max_scale=4.0))
    assert capped.tolist() == pytest.approx([4 * 0.5 / 20] + [0] * 19)
    assert batch.log["weight_scale"] == 4.0


def test_what_was_not_judged_is_taught_in_full():
    assert [known(x) for x in (None, "", "SKIP", "skip")] == ["strong", "strong", "strong", "skip"]
    labels = batch_of([None, "weak"], [[0.5], [0.5]])
    assert coefficients(labels).tolist() == pytest.approx([2 / 3, 1 / 3])


def test_labels_are_ordered():
    assert [at_least(a, "weak") for a in LABELS] == ["weak", "weak", "strong"]
    assert turn_weights(LABELS, 0.25).tolist() == [0, 0.25, 1]


# ---- whatever the numbers are


@quick
@given(turns, st.floats(0.01, 1.0))
def test_all_weak_equals_all_strong(rows, alpha):
    intervention = Intervention(weak=alpha)
    weak, strong = (coefficients(made(rows, label), intervention) for label in ("weak", "strong"))
    assert torch.allclose(weak, strong, rtol=1e-6, atol=0)


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=7), probabilities, st.sampled_from(["turn", "token", "off"]))
def test_constant_confidence_and_all_strong_is_opd_to_the_bit(lengths, c, scope):
    batch = batch_of(["strong"] * len(lengths), [[c] * n for n in lengths])
    assert torch.equal(coefficients(batch, Intervention(confidence=scope)), opd(batch).coefficients)


@quick
@given(turns)
def test_the_mean_weight_is_one_and_skip_stays_in_the_count(rows):
    batch = made(rows)
    result = coefficients(batch)
    n = len(batch.targets)
    skipped = batch.per_token(torch.tensor([label == "skip" for label, _ in rows]))
    assert (result[skipped] == 0).all()
    if skipped.all():
        assert (result == 0).all()
        assert "weight_scale" not in batch.log
        assert batch.log["active_share"] == 0
    else:
        assert float((result * n).double().mean()) == pytest.approx(1.0, rel=1e-5)
        # a skipped token added to the count makes the others heavier than they are in a batch without it
        kept = made([row for row in rows if row[0] != "skip"])
        assert torch.allclose(coefficients(kept), result[~skipped], rtol=1e-5)
        assert batch.log["weight_scale"] == pytest.approx(kept.log["weight_scale"] * n / len(kept.targets))


@quick
@given(turns, st.randoms(use_true_random=False))
def test_the_order_of_turns_does_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    before = torch.split(coefficients(made(rows)), [len(row) for _, row in rows])
    after = coefficients(made([rows[i] for i in order]))
    assert torch.allclose(torch.cat([before[i] for i in order]), after, rtol=1e-6, atol=0)


@quick
@given(turns, st.data())
def test_turns_of_one_label_and_confidence_can_be_exchanged(rows, data):
    """The loss sees (label, confidence, length) of a turn only."""
    i = data.draw(st.integers(0, len(rows) - 1))
    twin = [*rows, rows[i]]
    parts = torch.split(coefficients(made(twin)), [len(row) for _, row in twin])
    assert torch.equal(parts[i], parts[-1])


@quick
@given(turns, st.integers(1, 4), st.sampled_from([None, 2.0]))
def test_shards_with_summed_totals_are_the_whole(rows, shards, cap):
    """Ranks and micro-batches: each weighs its own tokens, Z is from the sums over all of them."""
    whole = made(rows)
    intervention = Intervention(max_scale=cap)
    expected = coefficients(whole, intervention)
    n = float(len(whole.targets))
    parts = [made(rows[k::shards]) for k in range(shards) if rows[k::shards]]
    bases = [Distill(token_mean(torch.ones(len(part.targets)), denominator=n)) for part in parts]
    reduced = Totals(0.0, 0.0)
    for part, base in zip(parts, bases, strict=True):
        reduced = reduced + totals(base.coefficients, intervention.weights(part))
    got = [intervention.apply(part, [base], reduced)[0].coefficients for part, base in zip(parts, bases, strict=True)]
    pieces = torch.split(expected, [len(row) for _, row in rows])
    for k, piece in enumerate(got):
        assert torch.allclose(piece, torch.cat(pieces[k::shards]), rtol=1e-6, atol=0)


def test_shards_without_summed_totals_drift():
    """The reason for the sums: a rank of skipped turns and a rank of strong ones would disagree about a token."""
    base = Distill(torch.full((2,), 1 / 4))
    mixed, strong = batch_of(["skip", "strong"], [[0.5], [0.5]]), batch_of(["strong"], [[0.5, 0.5]])
    assert coefficients(mixed, base=base).tolist() == pytest.approx([0, 1 / 2])
    assert coefficients(strong, base=base).tolist() == pytest.approx([1 / 4, 1 / 4])
    both = totals(base.coefficients, Intervention().weights(mixed)) + totals(
        base.coefficients, Intervention().weights(strong)
    )
    for part in (mixed, strong):
        (term,) = Intervention().apply(part, [base], both)
        assert term.coefficients.max() == pytest.approx(1 / 3)


@quick
@given(turns)
def test_tokens_that_are_not_responses_never_count(rows):
    """Prompts are no part of N, and neither is a turn that no teacher scored, whatever stands there."""
    batch = made(rows)
    longer = made(rows)
    for sample in longer.samples:
        sample.prompt_ids = sample.prompt_ids * 9
    assert torch.equal(coefficients(Batch(longer.samples), Intervention(confidence="off")),
                       coefficients(batch, Intervention(confidence="off")))  # fmt: skip
    untaught = batch_of([*(x for x, _ in rows), "strong"], [*(r for _, r in rows), [0.5] * 4],
                        [True] * len(rows) + [False])  # fmt: skip
    result = coefficients(untaught)
    assert torch.equal(result[:-4], coefficients(batch))
    assert (result[-4:] == 0).all()
    assert result.isfinite().all()


@quick
@given(turns)
def test_a_mean_over_sequences_keeps_its_total(rows):
    batch = made(rows)
    base = sequence_mean(torch.ones(len(batch.targets)), batch.sequence, len(batch))
    result = coefficients(batch, base=Distill(base))
    if any(label != "skip" for label, _ in rows):
        assert float(result.double().sum()) == pytest.approx(float(base.double().sum()), rel=1e-5)


def test_weights_carry_no_gradient():
    batch = batch_of(["strong", "weak"], [[0.9], [0.5]])
    batch.reading.confidence.requires_grad_()
    assert not coefficients(batch).requires_grad
    assert not confidence(batch.reading.confidence, batch.sequence, 2, "token").requires_grad


def test_other_terms_are_left_alone():
    batch = batch_of(["skip", "strong"], [[0.9], [0.5]])
    policy = PolicyGradient(torch.ones(2), torch.ones(2))
    distil, same = Intervention().apply(batch, [opd(batch), policy])
    assert same is policy
    assert distil.coefficients.tolist() == pytest.approx([0, 1])


def test_nothing_to_normalise_is_zero():
    assert normaliser(Totals(5.0, 0.0)) == 0.0
    nan = torch.tensor([math.nan, 1.0])
    assert totals(torch.tensor([0.0, 2.0]), nan) == Totals(2.0, 2.0)
    assert scaled(torch.tensor([0.0, 2.0]), nan, 1.0).tolist() == [0.0, 2.0]


# ---- through the learner: the same loss and gradient


def step(engine, recipe, labels, budget=10_000, constant=None):
    """Loss, gradient and metrics of one optimiser step, left unapplied."""
    engine.budget = budget
    learner = Learner(engine, OptimSettings(lr=1e-12, clip_norm=1e9, weight_decay=0), 1.0)
    grads: list[torch.Tensor] = []
    learner.optimizer.step = lambda: grads.extend(p.grad.clone() for p in learner.parameters)
    batch = make_batch(Teacher(engine, recipe.teacher))
    for sample, label in zip(batch.samples, labels, strict=True):
        sample.label = label
    if constant is not None:
        batch.reading = replace(batch.reading, confidence=torch.full_like(batch.reading.confidence, constant))
    return learner.step(batch, recipe.loss(batch)), grads, batch


MIXED = ["strong", "skip", "weak", "weak", "skip", "strong", "skip"]


def test_all_strong_at_constant_confidence_is_opd_with_the_same_gradient(engine):
    plain, expected, _ = step(engine, recipes.get("opd")(), [None] * 7)
    sage, grads, _ = step(engine, recipes.get("sage_opd")(), ["strong"] * 7, constant=0.7)
    assert plain.stepped
    assert plain.loss == sage.loss != 0
    assert all(torch.equal(a, b) for a, b in zip(expected, grads, strict=True))
    weighted, other, _ = step(engine, recipes.get("sage_opd")(), ["strong"] * 7)
    assert any(not torch.equal(a, b) for a, b in zip(expected, other, strict=True)), "confidence does something"
    assert weighted.loss != plain.loss


@pytest.mark.parametrize("budget", [16, 45])
def test_one_scale_whatever_the_micro_batches(engine, budget):
    whole, reference, _ = step(engine, recipes.get("sage_opd")(), MIXED)
    parts, grads, _ = step(engine, recipes.get("sage_opd")(), MIXED, budget)
    assert parts.loss == pytest.approx(whole.loss, abs=1e-5)
    for a, b in zip(grads, reference, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)


def test_all_skip_moves_nothing_and_says_so(engine):
    before = [p.clone() for p in engine.model.parameters()]
    result, grads, batch = step(engine, recipes.get("sage_opd")(), ["skip"] * 7)
    assert not result.stepped
    assert grads == []
    assert result.loss == 0
    assert all(torch.equal(a, b) for a, b in zip(before, engine.model.parameters(), strict=True))
    assert batch.log["active_share"] == 0
    assert batch.log["turns_skip"] == 6, "of six turns with a teacher"


@pytest.mark.parametrize("name", ["sdpo", "sdpo_grpo", "srpo"])
def test_any_taught_recipe_takes_an_intervention(engine, name):
    plain = recipes.get(name)()
    assert plain.intervention is None
    chosen = recipes.get(name)(intervention={"judge": {"kind": "rule"}, "confidence": "off"})
    *_, batch = step(engine, chosen, MIXED)
    for before, after in zip(plain.loss(batch), chosen.loss(batch), strict=True):
        if isinstance(before, Distill):
            skipped = batch.per_token(torch.tensor([label == "skip" for label in MIXED]))
            assert (after.coefficients[skipped] == 0).all()
            assert (before.coefficients[skipped & batch.per_token(batch.taught)] != 0).any() or name == "srpo"
            assert float(after.coefficients.sum()) == pytest.approx(float(before.coefficients.sum()), rel=1e-5)
        else:
            assert torch.equal(before.coefficients, after.coefficients)
    assert all(torch.equal(a.coefficients, b.coefficients)
               for a, b in zip(plain.loss(batch), plain.terms(batch), strict=True))  # fmt: skip
