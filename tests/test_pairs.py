"""The preference loss on pairs of sequences, as a term on tokens."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import problem
from torch import Tensor

from agents.losses.fused import Head, fused_loss, plain_loss
from agents.losses.pairs import Pairs, preference, preference_loss, sequence_sums
from agents.losses.terms import Likelihood, select


def test_values_by_hand() -> None:
    margins = torch.tensor([0.0, 1.0, -2.0])
    expected = [math.log(1 + math.exp(-m)) for m in margins.tolist()]
    torch.testing.assert_close(preference_loss(margins), torch.tensor(expected))
    soft = preference_loss(margins, torch.tensor([0.5, 0.25, 0.0]))
    by_hand = [math.log(2), 0.25 * expected[1] + 0.75 * math.log(1 + math.e), math.log(1 + math.exp(-2))]
    torch.testing.assert_close(soft, torch.tensor(by_hand))
    found = preference(
        Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([-1.0]), torch.tensor([-4.0])),
        torch.tensor([-0.5, -1.0, -3.0]),
        torch.tensor([0, 0, 1]),
        2,
        beta=0.5,
    )
    assert found.margins.item() == pytest.approx(0.5 * ((-1.5 + 1.0) - (-3.0 + 4.0)))
    assert found.losses.item() == pytest.approx(math.log(1 + math.exp(0.75)))


def direct(pairs: Pairs, logp: Tensor, sequence: Tensor, n: int, beta: float, mean: bool, mask: Tensor) -> Tensor:
    """The formula on log-probabilities with a gradient."""
    losses = []
    for j in range(len(pairs.chosen)):
        sides = []
        for index, reference in ((pairs.chosen, pairs.chosen_reference), (pairs.rejected, pairs.rejected_reference)):
            own = logp[(sequence == index[j]) & mask]
            sides.append((own.sum() - reference[j]) / (len(own) if mean else 1))
        m = beta * (sides[0] - sides[1])
        label = 1.0 if pairs.labels is None else pairs.labels[j]
        weight = 1 / len(pairs.chosen) if pairs.weights is None else pairs.weights[j]
        losses.append(-weight * (label * torch.sigmoid(m).log() + (1 - label) * torch.sigmoid(-m).log()))
    return torch.stack(losses).sum()


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    n_pairs=st.integers(1, 5),
    soft=st.booleans(),
    weighted=st.booleans(),
    mean=st.booleans(),
    size=st.integers(1, 9),
    seed=st.integers(0, 10**6),
)
def test_gradient_is_that_of_the_formula_however_tokens_are_cut(
    lengths: list[int], n_pairs: int, soft: bool, weighted: bool, mean: bool, size: int, seed: int
) -> None:
    n, s = sum(lengths), len(lengths)
    case = problem(n, 11, seed=seed)
    g = case.generator
    sequence = torch.repeat_interleave(torch.arange(s), torch.tensor(lengths))
    mask = torch.ones(n, dtype=torch.bool)
    mask[lengths[0] - 1] = lengths[0] == 1  # one token of the first sequence does not count
    first = torch.randint(s, (n_pairs,), generator=g)
    pairs = Pairs(
        first,
        (first + torch.randint(1, s, (n_pairs,), generator=g)) % s,
        3 * case.normal(n_pairs),
        3 * case.normal(n_pairs),
        torch.rand(n_pairs, generator=g, dtype=torch.float64) if soft else None,
        case.normal(n_pairs) if weighted else None,
    )
    logp = (case.hidden @ case.weight.t() + case.bias).log_softmax(-1).gather(-1, case.targets[:, None])[:, 0]
    found = preference(pairs, logp, sequence, s, beta=0.7, length_normalised=mean, mask=mask)
    expected = direct(pairs, logp, sequence, s, 0.7, mean, mask)
    gradients = torch.autograd.grad(expected, [case.hidden, case.weight, case.bias])

    def check(value: float, leaves: list[Any]) -> None:
        assert value == pytest.approx(expected.item(), abs=1e-9)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            torch.testing.assert_close(leaf.grad, gradient, atol=1e-9, rtol=1e-7)

    leaves = [case.hidden, case.weight, case.bias]
    for leaf in leaves:
        leaf.grad = None
    loss, _ = plain_loss(case.hidden, Head(case.weight, case.bias), case.targets, [found.term])
    loss.backward()
    check(loss.item(), leaves)
    for leaf in leaves:
        leaf.grad = None
    total = 0.0
    for rows in torch.randperm(n, generator=g).split(size):
        loss, _ = fused_loss(
            case.hidden[rows],
            Head(case.weight, case.bias),
            case.targets[rows],
            [select(found.term, rows)],
            chunk=2,
        )
        loss.backward()
        total += loss.item()
    check(total, leaves)


def test_sequences_in_no_pair_and_masked_tokens_take_no_part() -> None:
    pairs = Pairs(torch.tensor([0]), torch.tensor([2]), torch.zeros(1), torch.zeros(1))
    sequence = torch.tensor([0, 0, 1, 2, 2])
    mask = torch.tensor([True, False, True, True, True])
    found = preference(pairs, torch.full((5,), -1.0), sequence, 3, beta=1.0, mask=mask)
    assert found.term.coefficients.tolist() == [1, 0, 0, 1, 1]
    assert sequence_sums(torch.arange(5.0), sequence, 4, mask).tolist() == [0, 2, 7, 0]


# Where the loss leads: six outcomes, each a sequence of one token


PI_T = torch.tensor([0.30, 0.25, 0.20, 0.12, 0.08, 0.05], dtype=torch.float64)
START = torch.tensor([0.05, 0.10, 0.15, 0.40, 0.10, 0.20], dtype=torch.float64)
REWARD = torch.tensor([0.0, 1.0, 0.2, 0.9, 0.4, 0.6], dtype=torch.float64)
FIRST, SECOND = (torch.tensor(side) for side in zip(*itertools.product(range(6), range(6)), strict=True))


def settle(make: Any, beta: float, steps: int, rate: float) -> Tensor:
    """Descend on the loss of all 36 pairs, built anew at each step's policy."""
    head, y, logits = Head(torch.eye(6, dtype=torch.float64)), torch.arange(6), START.log()
    for _ in range(steps):
        logits = logits.detach().requires_grad_()
        logp = logits.log_softmax(-1)
        term = preference(make(logp.detach().exp()), logp, y, 6, beta=beta).term
        term.per_token(logp).mul(term.coefficients).sum().backward()
        assert logits.grad is not None
        logits = logits - rate * logits.grad
    hidden = logits.detach().expand(6, 6).requires_grad_()
    _, stats = fused_loss(hidden, head, y, [Likelihood(torch.ones(6))])
    return stats.logp.exp()


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_a_teacher_that_always_wins_is_what_the_policy_becomes(beta: float) -> None:
    """Not a tilted teacher: PBSD with fresh samples of both sides and no other label (our reading)."""

    def pairs(p: Tensor) -> Pairs:
        return Pairs(FIRST, SECOND, PI_T.log()[FIRST], PI_T.log()[SECOND], weights=PI_T[FIRST] * p[SECOND])

    torch.testing.assert_close(settle(pairs, beta, 500, 4.0 / beta), PI_T, atol=1e-3, rtol=0)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_bradley_terry_labels_tilt_the_teacher_by_the_reward(beta: float) -> None:
    labels = torch.sigmoid(REWARD[FIRST] - REWARD[SECOND])

    def pairs(p: Tensor) -> Pairs:
        return Pairs(FIRST, SECOND, PI_T.log()[FIRST], PI_T.log()[SECOND], labels)

    tilted = PI_T * (REWARD / beta).exp()
    found = settle(pairs, beta, 500, 12.0 / beta**2)
    torch.testing.assert_close(found, tilted / tilted.sum(), atol=1e-3, rtol=0)
    assert (found - PI_T).abs().max() > 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i: Pairs(i, torch.tensor([0, 1]), torch.zeros(1), torch.zeros(1)), "rejected has shape"),
        (lambda i: Pairs(i, i, torch.tensor([torch.nan]), torch.zeros(1)), "chosen_reference is NaN"),
        (lambda i: Pairs(i, i, torch.zeros(1), torch.zeros(1), labels=torch.tensor([1.5])), "probabilities"),
        (lambda i: preference(Pairs(i, i, *torch.zeros(2, 1)), torch.zeros(1), i, 1, beta=0.0), "beta=0.0"),
        (
            lambda i: preference(Pairs(i, i + 1, *torch.zeros(2, 1)), torch.zeros(1), i, 2, beta=1.0),
            "without tokens",
        ),
    ],
)
def test_impossible_pairs_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(torch.tensor([0]))
