"""Weights of tokens by their place and by draws, rewards to come, and the order of right and wrong attempts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.credit.calibrate import margin_gap, margin_mask, margin_shift
from agents.credit.tokens import drawn, late, position, reward_to_go, top_share

numbers = st.floats(-3, 3, allow_nan=False)


# ---- place


def test_published_weights_by_place():
    """w_min 0.25, tau 0.3, s 0.1: at tau halfway up."""
    places = torch.tensor([0.0, 0.3, 0.5, 1.0])
    assert late(places, 0.25, 0.3, 0.1).tolist() == pytest.approx([0.28557, 0.625, 0.91060, 0.99932], abs=1e-5)


@given(st.floats(0, 1), st.floats(-0.5, 1.5), st.floats(0.05, 2), st.integers(1, 30))
def test_later_tokens_never_weigh_less(floor, centre, width, length):
    places = position(torch.zeros(length, dtype=torch.long), torch.tensor([length]))
    weights = late(places.double(), floor, centre, width)
    assert bool((weights.diff() >= 0).all())
    assert bool((weights >= floor).all())
    assert bool((weights <= 1).all())


# ---- draws


def test_draws_without_replacement_are_in_proportion():
    """First draws by weight; second ones as of what is left: P(0 among 2 of 3), by hand."""
    weights, n = torch.tensor([1.0, 2.0, 5.0]), 4000
    counted, among = torch.ones(3, dtype=torch.bool), torch.zeros(3)
    for seed in range(n):
        among += top_share(drawn(weights, torch.Generator().manual_seed(seed)), counted, 0.6)
    expected = 1 / 8 + 2 / 8 * 1 / 6 + 5 / 8 * 1 / 3
    assert float(among[0]) / n == pytest.approx(expected, abs=4 * math.sqrt(expected / n))


def test_what_weighs_nothing_is_drawn_last():
    for seed in range(50):
        scores = drawn(torch.tensor([0.0, 1e-6, 3.0]), torch.Generator().manual_seed(seed))
        assert int(scores.argmin()) == 0


# ---- rewards to come


@given(st.lists(st.lists(st.tuples(numbers, st.booleans()), min_size=1, max_size=6), max_size=4), st.floats(0, 1))
def test_reward_to_go_is_its_sum(sequences, discount):
    """Against the sum, written out; a token's own reward is not in it, nor is anything of another sequence."""
    flat = [pair for sequence in sequences for pair in sequence]
    place = torch.tensor([i for i, s in enumerate(sequences) for _ in s], dtype=torch.long)
    rewards = torch.tensor([r for r, _ in flat], dtype=torch.float64)
    counted = torch.tensor([c for _, c in flat], dtype=torch.bool)
    for normalised in (False, True):
        result = reward_to_go(rewards, counted, place, discount, normalised)
        expected = []
        for sequence in sequences:
            for t in range(len(sequence)):
                after = [(discount**k, r) for k, (r, c) in enumerate(sequence[t + 1 :]) if c]
                scale = sum(d for d, _ in after) if normalised else 1.0
                expected.append(sum(d * r for d, r in after) / scale if scale else 0.0)
        assert result.tolist() == pytest.approx(expected, abs=1e-9)


def test_without_looking_ahead_a_token_earns_what_the_next_one_does():
    """gamma=0 is the next reward here, not the token's own, as in the port whose defaults count that twice."""
    rewards, one = torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3, dtype=torch.long)
    assert reward_to_go(rewards, torch.ones(3, dtype=torch.bool), one, 0.0).tolist() == [2.0, 4.0, 0.0]


# ---- order

attempts = st.lists(st.tuples(numbers, st.booleans()), max_size=8)


@given(attempts, st.floats(-1, 2), st.sampled_from(["mean", "minmax"]), st.sampled_from(["up", "down", "both"]))
def test_a_shift_makes_the_gap_and_no_more(found, margin, mode, direction):
    marks, correct = [m for m, _ in found], [c for _, c in found]
    before = margin_gap(marks, correct, mode)
    shift = margin_shift(marks, correct, margin, mode, direction)
    if before is None or before >= margin:
        assert shift == [0.0] * len(marks)
        return
    shifted = [m + s for m, s in zip(marks, shift, strict=True)]
    assert margin_gap(shifted, correct, mode) == pytest.approx(margin, abs=1e-9)
    assert all(s >= 0 if c else s <= 0 for s, c in zip(shift, correct, strict=True))
    if direction != "both":
        assert all(s == 0 for s, c in zip(shift, correct, strict=True) if c == (direction == "down"))


def test_the_published_setting():
    """Group, mean, both, 0.4: marks -0.1, -0.3 of right attempts, -0.2 of a wrong one: the gap is 0, 0.4 is missing."""
    assert margin_shift([-0.1, -0.3, -0.2], [True, True, False], 0.4, "mean", "both") == pytest.approx([0.2, 0.2, -0.2])


@given(attempts, st.floats(-1, 2), st.sampled_from(["mean", "minmax"]), st.floats(0.1, 1))
def test_a_mask_keeps_what_it_must(found, margin, mode, least):
    marks, correct = [m for m, _ in found], [c for _, c in found]
    kept = margin_mask(marks, correct, margin, mode, least)
    before = margin_gap(marks, correct, mode)
    if before is None or before >= margin:
        assert all(kept)
        return
    assert sum(kept) >= least * len(marks)
    left = [(m, c) for m, c, k in zip(marks, correct, kept, strict=True) if k]
    after = margin_gap([m for m, _ in left], [c for _, c in left], mode)
    assert after is not None, "one of each kind stays"
    assert after >= before - 1e-12
    dropped = [m for m, c, k in zip(marks, correct, kept, strict=True) if c and not k]
    assert all(d <= m for d in dropped for m, c in left if c), "of right attempts the worst marked go first"
