"""Surrogates of the policy gradient, and any function of a token's log-probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import assert_fused_is_plain, problem, run
from torch import Tensor

from agents.losses.fused import fused_loss
from agents.losses.surrogate import policy_gradient
from agents.losses.terms import Likelihood, Pointwise, PolicyGradient, Term, select


def one(logp: float, old: float | None, sampler: float | None = None, advantage: float = 1.0, **options: Any) -> Any:
    """(value, derivative to log p) of one token."""
    columns = {k: torch.tensor([v]) if k in ("behaviour", "ratio_shift") else v for k, v in options.items()}
    term = PolicyGradient(torch.ones(1), torch.tensor([advantage]), **columns)
    x = torch.tensor([logp], requires_grad=True)
    start, sampled = (None if side is None else torch.tensor([side]) for side in (old, sampler))
    value = policy_gradient(term, x, start, sampled)
    value.backward()
    assert x.grad is not None
    return value.item(), x.grad.item()


@pytest.mark.parametrize(("ratio", "weight"), [(0.3, 0.3), (1.0, 1.0), (1.2, 1.2), (5.0, 1.28)])
@pytest.mark.parametrize("advantage", [2.0, -3.0])
def test_cispo_weighs_every_token_and_clips_none(ratio: float, weight: float, advantage: float) -> None:
    value, slope = one(-1.0, -1.0 - math.log(ratio), advantage=advantage, surrogate="cispo")
    assert slope == pytest.approx(-weight * advantage, rel=1e-5)
    assert value == pytest.approx(weight * advantage, rel=1e-5)  # -w A log p at log p = -1


def test_plain_is_reinforce_at_any_ratio() -> None:
    assert one(-2.0, -7.0, advantage=3.0, surrogate="plain") == (pytest.approx(6.0), pytest.approx(-3.0))
    assert one(-2.0, -2.0, -2.5, 3.0, surrogate="plain")[1] == pytest.approx(-3.0 * math.exp(0.5), rel=1e-5)


def test_the_ratio_is_to_whoever_generated_the_token() -> None:
    """And w, which corrects for the policy's own sampler, is 1 there."""
    there = one(-1.0, -1.7, -9.0, behaviour=-1.0 - math.log(1.1))
    assert there == (pytest.approx(-1.1), pytest.approx(-1.1))
    absent = one(-1.0, -1.1, -1.2, behaviour=math.nan)
    assert absent == one(-1.0, -1.1, -1.2)
    unsampled = one(-1.0, -1.7, math.nan, behaviour=-1.0 - math.log(1.1), surrogate="cispo")
    assert unsampled[1] == pytest.approx(-1.1)


@pytest.mark.parametrize("surrogate", ["clip", "cispo"])
def test_the_ratio_hook(surrogate: Any) -> None:
    """TRRD: rho = r^a exp(-(1 - a) d), clipped as the ratio is; a clipped rho has no gradient in PPO's surrogate."""
    a, r, d = 0.7, 1.4, 0.5
    rho = r**a * math.exp(-(1 - a) * d)
    _, slope = one(-1.0, -1.0 - math.log(r), surrogate=surrogate, ratio_power=a, ratio_shift=-(1 - a) * d)
    assert 1.0 < rho < 1.28 < r
    assert slope == pytest.approx(-rho * (a if surrogate == "clip" else 1.0), rel=1e-5)
    shifted = one(-1.0, -1.0, surrogate=surrogate, ratio_power=a, ratio_shift=0.9)
    assert shifted[1] == pytest.approx({"clip": 0.0, "cispo": -1.28}[surrogate])
    assert one(-1.0, -1.2, ratio_power=1.0, ratio_shift=0.0) == one(-1.0, -1.2)


def test_a_negative_coefficient_is_ascent() -> None:
    case = problem(seed=4)
    c, a = case.coefficients().abs(), case.normal(7)
    for make in (lambda c: Likelihood(c), lambda c: PolicyGradient(c, a, surrogate="cispo")):
        down, up = (run(fused_loss, case, [make(sign * c)]) for sign in (1.0, -1.0))
        torch.testing.assert_close(up[0], -down[0])
        torch.testing.assert_close(up[1][0], -down[1][0])
        assert down[1][0].abs().max() > 1e-3


@settings(max_examples=80, deadline=None)
@given(
    surrogate=st.sampled_from(("clip", "cispo", "plain")),
    hooks=st.booleans(),
    old=st.booleans(),
    sampler=st.booleans(),
    n=st.integers(0, 9),
    seed=st.integers(0, 10**6),
    chunk=st.integers(1, 10),
)
def test_fused_equals_plain(
    surrogate: Any, hooks: bool, old: bool, sampler: bool, n: int, seed: int, chunk: int
) -> None:
    case = problem(n, seed=seed)
    columns: dict[str, Any] = {}
    if hooks and surrogate != "plain":
        behaviour = (case.old + case.normal(n)).masked_fill(case.mask(), torch.nan)
        columns = {"behaviour": behaviour, "ratio_power": 0.6, "ratio_shift": 0.3 * case.normal(n)}
    term = PolicyGradient(case.coefficients(), case.normal(n), surrogate=surrogate, **columns)
    assert_fused_is_plain(
        case,
        [term, Likelihood(case.coefficients())],
        chunk=chunk,
        old_logprobs=case.old if old else None,
        sampler_logprobs=case.sampler.masked_fill(case.mask(), torch.nan) if sampler else None,
    )


# Pointwise


def focal(logp: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
    return -((1 - logp.exp()) ** constants["gamma"]) * logp + constants["offset"]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 9), seed=st.integers(0, 10**6), chunk=st.integers(1, 10))
def test_pointwise_is_the_function_and_autograd(n: int, seed: int, chunk: int) -> None:
    case = problem(n, seed=seed)
    constants = {"gamma": case.normal(n).abs() + 1, "offset": case.normal(n)}
    term = Pointwise(case.coefficients(), focal, constants)
    value, gradients, _ = assert_fused_is_plain(case, [term], chunk=chunk)
    logp = (case.hidden @ case.weight.t() + case.bias).log_softmax(-1).gather(-1, case.targets[:, None])[:, 0]
    direct = (term.coefficients * focal(logp, constants)).sum()
    torch.testing.assert_close(value, direct.detach())
    torch.testing.assert_close(gradients[0], torch.autograd.grad(direct, case.hidden)[0])
    parts = [select(term, rows) for rows in torch.arange(n).split(2)]
    whole = [part.constants["gamma"] for part in parts]
    torch.testing.assert_close(torch.cat(whole) if whole else torch.zeros(0), constants["gamma"][:n], check_dtype=False)


def test_pointwise_meets_only_tokens_with_a_coefficient() -> None:
    case = problem()
    met: list[Tensor] = []

    def watch(logp: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        met.append(constants["i"])
        return -logp / constants["i"]  # infinite at token 0

    c = torch.tensor([0.0, 1, 1, 0, 0, 1, 0], dtype=torch.float64)
    value, _, _ = run(fused_loss, case, [Pointwise(c, watch, {"i": torch.arange(7.0)})], chunk=2)
    assert torch.cat(met).tolist() == [1, 2, 5]
    expected = run(fused_loss, case, [Likelihood(c / torch.arange(7).clamp(min=1))])
    torch.testing.assert_close(value, expected[0])


def test_a_constant_function_has_a_value_and_no_gradient() -> None:
    case = problem()
    term = Pointwise(torch.ones(7, dtype=torch.float64), lambda logp, constants: torch.ones_like(logp))
    value, gradients, _ = run(fused_loss, case, [term], chunk=3)
    assert value.item() == 7.0
    assert all(bool((g == 0).all()) for g in gradients)


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolicyGradient(torch.ones(2), torch.ones(2), behaviour=torch.ones(3)), "one behaviour per token"),
        (lambda: PolicyGradient(torch.ones(2), torch.ones(2), ratio_shift=torch.ones(1)), "one ratio_shift per"),
        (lambda: PolicyGradient(torch.ones(1), torch.ones(1), surrogate="ppo"), "surrogate='ppo'"),  # type: ignore[arg-type]
        (lambda: PolicyGradient(torch.ones(1), torch.ones(1), surrogate="cispo", dual_clip=3.0), "dual_clip=3.0"),
        (lambda: PolicyGradient(torch.ones(1), torch.ones(1), surrogate="plain", ratio_power=0.5), "has no ratio"),
        (lambda: Pointwise(torch.ones(2), focal, {"gamma": torch.ones(3)}), "'gamma'.*3 rows for 2"),
    ],
)
def test_impossible_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_function_of_another_shape_is_refused() -> None:
    case = problem()
    term: Term = Pointwise(torch.ones(7), lambda logp, constants: logp.sum())
    for terms in ([term], [replace(term, coefficients=torch.ones(7))]):
        with pytest.raises(ValueError, match="gave shape"):
            run(fused_loss, case, terms)
