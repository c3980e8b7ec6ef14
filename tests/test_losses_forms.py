"""The options of a distillation term: supports, clips and sampled forms; fused against plain, and against numbers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import assert_fused_is_plain, gradient_to_logits, problem, run
from torch import Tensor

from agents.losses.divergence import divergence, k2, k3, position_weight
from agents.losses.fused import Head, Teacher, fused_loss
from agents.losses.support import choose, close_both, support_divergence, top_k_support
from agents.losses.terms import Distill, select

P = torch.tensor([[0.55, 0.25, 0.12, 0.05, 0.03]], dtype=torch.float64)
Q = torch.tensor([[0.20, 0.45, 0.05, 0.25, 0.05]], dtype=torch.float64)
ALPHAS = st.sampled_from((0.0, 0.3, 0.5, 1.0))
SIZES = {"n": st.integers(0, 9), "v": st.integers(2, 30), "seed": st.integers(0, 10**6), "chunk": st.integers(1, 10)}


def distill(*args: Any, **options: Any) -> Distill:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Distill(*args, **options)


def ln(x: float) -> float:
    return math.log(x)


# Fused against plain


@settings(max_examples=60, deadline=None)
@given(
    alpha=ALPHAS,
    k=st.integers(1, 9),
    support=st.sampled_from(("student", "teacher", "union", "intersection")),
    close=st.sampled_from(("tail", "both", "student", "teacher", "none")),
    clip=st.sampled_from((None, 0.05, 0.5)),
    clip_at=st.sampled_from(("position", "entry")),
    ratio_clip=st.sampled_from((None, 1.5, 5.0)),
    **SIZES,
)
def test_every_support_and_clip(
    alpha: float, k: int, support: Any, close: Any, clip: Any, clip_at: Any, ratio_clip: Any, n: int, v: int,
    seed: int, chunk: int,
) -> None:  # fmt: skip
    case = problem(n, v, seed=seed)
    taught = case.mask()
    term = distill(
        case.coefficients(taught),
        alpha,
        k,
        tail=close == "tail",
        support=support,
        renormalise="both" if close == "tail" else close,
        clip=clip,
        clip_at=clip_at,
        ratio_clip=ratio_clip,
    )
    options = {"old_logprobs": case.old, "sampler_logprobs": case.sampler, "temperature": 0.8, "top": 2}
    assert_fused_is_plain(case, [term], {"teacher": case.dense(taught, 2)}, chunk, **options)


@settings(max_examples=60, deadline=None)
@given(alpha=ALPHAS, clip=st.sampled_from((0.01, 0.05, 0.5)), clip_at=st.sampled_from(("position", "entry")), **SIZES)
def test_clips_over_the_whole_vocabulary(
    alpha: float, clip: float, clip_at: Any, n: int, v: int, seed: int, chunk: int
) -> None:
    case = problem(n, v, seed=seed)
    taught = case.mask()
    terms = [
        distill(case.coefficients(taught), alpha, clip=clip, clip_at=clip_at),
        Distill(case.coefficients(taught), alpha),
    ]
    fused = assert_fused_is_plain(case, terms, {"teacher": case.dense(taught)}, chunk, old_logprobs=case.old)
    unclipped = run(fused_loss, case, terms[1:], {"teacher": case.dense(taught)})
    assert fused[2].divergence.isnan().equal(unclipped[2].divergence.isnan())


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(("sampled", "k2", "k3", "baseline", "top-k baseline")), **SIZES)
def test_every_sampled_form(form: str, n: int, v: int, seed: int, chunk: int) -> None:
    case = problem(n, v, seed=seed)
    taught = case.mask()
    top_k = 3 if form.startswith("top-k") else None
    term = Distill(case.coefficients(taught), 1.0, top_k, form=form.split()[-1])  # type: ignore[arg-type]
    options = {"old_logprobs": case.old, "sampler_logprobs": case.sampler, "temperature": 1.3}
    assert_fused_is_plain(case, [term], {"teacher": case.dense(taught)}, chunk, **options)


@pytest.mark.parametrize("options", [{"clip": 0.05, "clip_at": "entry"}, {"clip": 0.05}, {"form": "baseline"}])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_in_single_precision_at_a_large_vocabulary(alpha: float, options: dict[str, Any]) -> None:
    if "form" in options and alpha != 1.0:
        return
    case = problem(12, 3000, seed=3, dtype=torch.float32)
    term = distill(case.coefficients(), alpha, **options)
    assert_fused_is_plain(case, [term], {"teacher": case.dense(torch.ones(12, dtype=torch.bool))}, 5, atol=1e-5)


# Supports


def test_whose_tokens() -> None:
    def kept(k: int, whose: Any) -> set[int]:
        ids, real = choose(P.log(), Q.log(), k, whose)
        return set(ids[real].tolist())

    assert kept(2, "student") == {0, 1}
    assert kept(2, "teacher") == {1, 3}
    assert kept(2, "union") == {0, 1, 3}
    assert kept(2, "intersection") == {1}
    assert kept(1, "intersection") == set()
    assert kept(9, "union") == kept(9, "intersection") == {0, 1, 2, 3, 4}


HAND = [  # options, value, worked out from P and Q
    ({"alpha": 0.0, "support": "teacher"}, 0.45 * ln(0.45 / 0.25) + 0.25 * ln(0.25 / 0.05) + 0.30 * ln(0.30 / 0.70)),
    (
        {"alpha": 0.0, "support": "teacher", "tail": False, "renormalise": "student"},
        0.45 * ln(0.45 * 0.30 / 0.25) + 0.25 * ln(0.25 * 0.30 / 0.05),  # PrincipalBench
    ),
    (
        {"alpha": 0.0, "support": "teacher", "tail": False, "renormalise": "teacher"},
        0.45 / 0.70 * ln(0.45 / 0.70 / 0.25) + 0.25 / 0.70 * ln(0.25 / 0.70 / 0.05),  # EOPD
    ),
    (
        {"alpha": 1.0, "support": "teacher", "tail": False, "renormalise": "none"},
        0.25 * ln(0.25 / 0.45) + 0.05 * ln(0.05 / 0.25),
    ),
    ({"alpha": 1.0, "support": "intersection"}, 0.25 * ln(0.25 / 0.45) + 0.75 * ln(0.75 / 0.55)),
    (
        {"alpha": 1.0, "support": "union", "tail": False},
        sum(p / 0.85 * ln(p / 0.85 / (q / 0.90)) for p, q in ((0.55, 0.20), (0.25, 0.45), (0.05, 0.25))),
    ),
    (
        {"alpha": 1.0, "ratio_clip": 1.5},  # every ratio, .20/.55, .45/.25 and .35/.20, is outside [2/3, 3/2]
        (0.55 - 0.25 - 0.20) * ln(1.5),
    ),
    (
        {"alpha": 0.0, "ratio_clip": 1.5},
        0.55 / 1.5 * -ln(1.5) + (0.25 + 0.20) * 1.5 * ln(1.5),
    ),
]


@pytest.mark.parametrize(("options", "value"), HAND)
def test_values_by_hand(options: dict[str, Any], value: float) -> None:
    head = Head(torch.eye(5, dtype=torch.float64))
    term = Distill(torch.ones(1), top_k=2, **options)
    loss, stats = fused_loss(P.log(), head, torch.tensor([0]), [term], teacher=Teacher([(1.0, Q.log(), head)]))
    assert loss.item() == pytest.approx(value, abs=1e-6)
    if term.ratio_clip is None:
        assert stats.divergence.item() == pytest.approx(value, abs=1e-6)
    else:
        whole = divergence(*top_k_support(P.log(), Q.log(), 2, tail=True), term.alpha)
        assert stats.divergence.item() == pytest.approx(whole.item(), abs=1e-6)


@pytest.mark.parametrize("close", ["tail", "both", "student", "teacher", "none"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_nothing_in_common_teaches_nothing(alpha: float, close: Any) -> None:
    tail = close == "tail"
    term = Distill(torch.ones(4), alpha, 1, tail=tail, support="intersection", renormalise="both" if tail else close)
    assert gradient_to_logits(P, Q, [term], torch.arange(4)).abs().max() == 0
    head = Head(torch.eye(5, dtype=torch.float64))
    loss, _ = fused_loss(
        P.log(), head, torch.tensor([0]), [select(term, slice(1))], teacher=Teacher([(1.0, Q.log(), head)])
    )
    assert loss.item() == 0


@settings(max_examples=60, deadline=None)
@given(alpha=ALPHAS, seed=st.integers(0, 10**6))
def test_a_wide_ratio_clip_is_no_clip(alpha: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    p, q = (torch.randn(3, 6, generator=g, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    torch.testing.assert_close(divergence(p, q, alpha, ratio_clip=1e9), divergence(p, q, alpha))
    kept = torch.ones(3, 6, dtype=torch.bool)
    half = kept.clone()
    half[:, 3:] = False
    some = close_both(p[:, :3], q[:, :3], False, "both")
    torch.testing.assert_close(support_divergence(p, q, half, alpha, False, "both"), divergence(*some, alpha))


# Clips


def test_the_entry_clip_by_hand() -> None:
    p = torch.tensor([[0.80, 0.15, 0.05]], dtype=torch.float64)
    q = torch.tensor([[0.90, 0.06, 0.04]], dtype=torch.float64)
    capped = divergence(p.log(), q.log(), 0.0, entry_clip=0.05).item()
    assert capped == pytest.approx(0.05 + 0.06 * ln(0.06 / 0.15) + 0.04 * ln(0.04 / 0.05))
    assert capped < 0
    gradient = gradient_to_logits(p, q, [distill(torch.ones(1), 0.0, clip=0.05, clip_at="entry")], torch.tensor([0]))
    torch.testing.assert_close(gradient, torch.tensor([0.08, -0.045, -0.035], dtype=torch.float64))


def descend(
    p: Tensor, q: Tensor, entry_clip: float | None = None, position_clip: float | None = None, rate: float = 1.5
) -> Tensor:
    """400 steps of gradient descent on the logits, forward KL."""
    logits = p.log()
    for _ in range(400):
        logits.requires_grad_()
        value = divergence(logits.log_softmax(-1), q.log(), 0.0, entry_clip=entry_clip)
        if position_clip is not None:
            value = value * position_weight(value, position_clip)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        logits = logits.detach() - rate * gradient
    return logits.softmax(-1)[0]


def test_the_entry_clip_leads_away_from_the_teacher_and_the_position_clip_does_not() -> None:
    p = torch.tensor([[0.80, 0.15, 0.05]], dtype=torch.float64)
    q = torch.tensor([[0.90, 0.06, 0.04]], dtype=torch.float64)
    entry = descend(p, q, entry_clip=0.05)
    torch.testing.assert_close(entry, torch.tensor([0.01, 0.59, 0.39], dtype=torch.float64), atol=5e-3, rtol=0)
    position = descend(p, q, position_clip=0.01)
    torch.testing.assert_close(position, q[0], atol=1e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(alpha=ALPHAS, seed=st.integers(0, 10**6), clip=st.floats(1e-3, 1.0), top_k=st.sampled_from((None, 3)))
def test_the_position_clip_keeps_the_direction(alpha: float, seed: int, clip: float, top_k: int | None) -> None:
    g = torch.Generator().manual_seed(seed)
    p, q = (torch.randn(1, 6, generator=g, dtype=torch.float64).mul(2).softmax(-1) for _ in range(2))
    y = torch.tensor([0])
    whole = gradient_to_logits(p, q, [Distill(torch.ones(1), alpha, top_k)], y)
    capped = gradient_to_logits(p, q, [Distill(torch.ones(1), alpha, top_k, clip=clip)], y)
    sides = (p.log(), q.log()) if top_k is None else top_k_support(p.log(), q.log(), top_k, True)
    value = divergence(*sides, alpha)
    weight = min(1.0, clip / value.item())
    torch.testing.assert_close(capped, weight * whole)
    assert position_weight(value, clip).item() == pytest.approx(weight)
    head = Head(torch.eye(6, dtype=torch.float64))
    term = Distill(torch.ones(1), alpha, top_k, clip=clip)
    loss, stats = fused_loss(p.log(), head, y, [term], teacher=Teacher([(1.0, q.log(), head)]))
    assert loss.item() == pytest.approx(min(value.item(), clip))
    assert stats.divergence.item() == pytest.approx(value.item())


def test_the_entry_clip_warns_once_when_made() -> None:
    with pytest.warns(UserWarning, match="reverses gradients"):
        term = Distill(torch.ones(3), 0.0, clip=0.05, clip_at="entry")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(select(term, slice(1)).coefficients) == 1
        Distill(torch.ones(3), 0.0, clip=0.05)


# Estimates from the sampled token


@pytest.mark.parametrize(
    ("form", "top_k", "alpha"),
    [("sampled", None, 1.0), ("k2", None, 1.0), ("baseline", None, 1.0), ("baseline", 2, 1.0), ("k3", None, 0.0)],
)
def test_expected_gradient_over_the_vocabulary(form: Any, top_k: int | None, alpha: float) -> None:
    """That of the reverse KL, whatever the baseline; of the forward KL for k3."""
    exact = gradient_to_logits(P, Q, [Distill(torch.ones(1), alpha)], torch.tensor([0]))
    expected = gradient_to_logits(P, Q, [Distill(P[0], 1.0, top_k, form=form)], torch.arange(5))
    torch.testing.assert_close(expected, exact)
    assert exact.abs().max() > 0.05


def test_values_of_k2_and_k3() -> None:
    p, q = P.log()[0], Q.log()[0]
    torch.testing.assert_close(k2(p, q)[1].item(), ln(0.25 / 0.45) ** 2 / 2)
    torch.testing.assert_close(k3(p, q)[1].item(), 0.45 / 0.25 - ln(0.45 / 0.25) - 1)
    assert (k3(p, q) >= 0).all()
    assert (P[0] * k3(p, q)).sum().item() == pytest.approx(0.418693, abs=1e-6)  # the reverse KL
    far = torch.tensor([-60.0], requires_grad=True)
    k3(far, torch.tensor([-1.0])).sum().backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()


@pytest.mark.parametrize(("top_k", "baseline"), [(None, 0.418693), (2, 0.304153)])
@pytest.mark.parametrize("y", range(5))
def test_the_baseline_is_the_reverse_kl(y: int, top_k: int | None, baseline: float) -> None:
    term = Distill(torch.ones(1), 1.0, top_k, form="baseline")
    gradient = gradient_to_logits(P, Q, [term], torch.tensor([y]))
    advantage = (P.log() - Q.log())[0, y] - baseline
    torch.testing.assert_close(gradient, advantage * (torch.eye(5, dtype=torch.float64)[y] - P[0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", ["sampled", "k2", "k3", "baseline"])
def test_sampled_forms_report_the_reverse_kl(form: Any) -> None:
    head = Head(torch.eye(5, dtype=torch.float64))
    term = Distill(torch.ones(1), 1.0, 2 if form == "baseline" else None, form=form)
    _, stats = fused_loss(P.log(), head, torch.tensor([3]), [term], teacher=Teacher([(1.0, Q.log(), head)]))
    assert stats.divergence.item() == pytest.approx(0.418693, abs=1e-6)


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "k3"}, "alpha=1"),
        ({"form": "k2", "alpha": 1.0, "top_k": 3}, "top_k=None"),
        ({"form": "k2", "alpha": 1.0, "support": "teacher"}, "support='teacher'"),
        ({"form": "sampled", "alpha": 1.0, "clip": 0.1}, "neither clip nor ratio_clip"),
        ({"support": "both"}, "support='both'"),
        ({"support": "union"}, "needs a top_k"),
        ({"renormalise": "student"}, "needs a top_k and tail=False"),
        ({"renormalise": "student", "top_k": 3}, "tail=False"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"clip": 0.1, "clip_at": "token"}, "clip_at='token'"),
        ({"ratio_clip": 5.0}, "needs a top_k"),
        ({"ratio_clip": 1.0, "top_k": 3}, "above 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distill(torch.ones(1), **options)
