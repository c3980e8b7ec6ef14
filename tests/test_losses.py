"""The loss: golden numbers, fused against plain, and the invariants a training step leans on."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from agents.losses.divergence import divergence, sampled_token
from agents.losses.fused import Head, Teacher, auto_chunk, fused_loss, plain_loss, token_stats
from agents.losses.reduction import sequence_mean, sequence_sum_norm, token_mean
from agents.losses.support import close_support, top_k_support
from agents.losses.surrogate import importance_weights, policy_gradient
from agents.losses.terms import Distill, Likelihood, PolicyGradient, Term, select

torch.set_num_threads(1)

P = torch.tensor([[0.55, 0.25, 0.12, 0.05, 0.03]], dtype=torch.float64)
Q = torch.tensor([[0.20, 0.45, 0.05, 0.25, 0.05]], dtype=torch.float64)
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def batch(n: int = 7, v: int = 23, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A student, a teacher of two parts on some tokens, and everything a term may ask for."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    taught = torch.arange(n) % 3 != 1
    m = int(taught.sum())
    hidden, weight, bias = normal(n, d), normal(v, d), normal(v)
    targets = torch.randint(v, (n,), generator=g)
    logp = (hidden @ weight.t() + bias).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    old = logp + normal(n)  # ratios on both sides of the caps
    return {
        "hidden": hidden.requires_grad_(),
        "weight": weight.requires_grad_(),
        "bias": bias.requires_grad_(),
        "targets": targets,
        "taught": taught,
        "parts": [
            (0.8, normal(m, d), Head(normal(v, d))),
            (0.2, normal(m, d), Head(normal(v, d), normal(v))),
        ],
        "coefficients": torch.rand(n, generator=g, dtype=torch.float64).to(dtype) + 0.1,
        "advantages": normal(n),
        "old": old,
        "sampler": old + normal(n),
    }


def both(b: Any, terms: list[Term], teacher_temperature: float = 1.0, head: Any = None, **options: Any) -> Any:
    """(value, gradients, stats) of fused and of plain."""
    results = []
    for function in (fused_loss, plain_loss):
        if function is plain_loss:
            options.pop("chunk", None)
        leaves = [b["hidden"], b["weight"], b["bias"]]
        for leaf in leaves:
            leaf.grad = None
        needs_teacher = any(isinstance(t, Distill) for t in terms)
        teacher = Teacher(b["parts"], teacher_temperature) if needs_teacher else None
        loss, stats = function(
            b["hidden"],
            Head(b["weight"], b["bias"], **(head or {})),
            b["targets"],
            terms,
            teacher=teacher,
            taught=b["taught"] if needs_teacher else None,
            **options,
        )
        (2.5 * loss).backward()
        results.append((loss.detach(), [leaf.grad.clone() for leaf in leaves], stats))
    return results


def assert_same(one: Any, two: Any, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one[0], two[0], atol=atol, rtol=atol)
    for a, b in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=atol)
    for name in ("logp", "entropy", "teacher_logp", "teacher_entropy", "divergence"):
        torch.testing.assert_close(getattr(one[2], name), getattr(two[2], name), atol=atol, rtol=atol, equal_nan=True)


# Golden numbers


GOLDEN = {
    "full": dict(zip(ALPHAS, (0.446311, 0.078466, 0.102025, 0.076564, 0.418693), strict=True)),
    "tail": {0.0: 0.258049, 0.5: 0.067307, 1.0: 0.297511},
    "renormalised": {0.0: 0.303307, 0.5: 0.073972, 1.0: 0.304153},
}
CASES = [(support, alpha, value) for support, row in GOLDEN.items() for alpha, value in row.items()]


@pytest.mark.parametrize(("support", "alpha", "value"), CASES)
def test_divergence_golden(support: str, alpha: float, value: float) -> None:
    p, q = P.log(), Q.log()
    if support != "full":
        p, q = top_k_support(p, q, 2, tail=support == "tail")
    assert divergence(p, q, alpha).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("support", "alpha", "value"), CASES)
def test_fused_divergence_golden(support: str, alpha: float, value: float) -> None:
    head = Head(torch.eye(5, dtype=torch.float64))
    top_k = None if support == "full" else 2
    term = Distill(torch.ones(1), alpha=alpha, top_k=top_k, tail=support == "tail")
    loss, stats = fused_loss(P.log(), head, torch.tensor([0]), [term], teacher=Teacher([(1.0, Q.log(), head)]), top=2)
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert stats.divergence.item() == pytest.approx(value, abs=1e-6)
    assert stats.logp.item() == pytest.approx(math.log(0.55))
    assert stats.teacher_logp.item() == pytest.approx(math.log(0.2))
    assert stats.entropy.item() == pytest.approx(-(P * P.log()).sum().item())
    assert stats.teacher_entropy.item() == pytest.approx(-(Q * Q.log()).sum().item())
    assert stats.top_ids is not None
    assert stats.top_ids.tolist() == [[1, 3]]
    torch.testing.assert_close(stats.top_teacher, Q[:, [1, 3]])
    torch.testing.assert_close(stats.top_student, P[:, [1, 3]])


def test_the_middle_vanishes_at_both_ends_of_alpha() -> None:
    near = {alpha: divergence(P.log(), Q.log(), alpha).item() for alpha in (0.01, 0.99)}
    assert near[0.01] == pytest.approx(0.004402, abs=1e-6)
    assert near[0.99] == pytest.approx(0.004139, abs=1e-6)
    assert near[0.01] / 0.0099 == pytest.approx(0.4447, abs=1e-4)
    assert near[0.99] / 0.0099 == pytest.approx(0.4181, abs=1e-4)


def test_trust_region_teacher_golden() -> None:
    student = torch.tensor([[0.4, 0.3, 0.1, 0.1, 0.1]], dtype=torch.float64)
    head = Head(torch.eye(5, dtype=torch.float64))
    teacher = Teacher([(0.9, Q.log(), head), (0.1, student.log(), head)])
    expected = torch.tensor([[0.218337, 0.440146, 0.054584, 0.232348, 0.054584]], dtype=torch.float64)
    torch.testing.assert_close(teacher.logits(slice(None)).softmax(-1), expected, atol=1e-6, rtol=0)


SAMPLED = (-0.604772, 0.814845, -1.856224, 4.821445, 1.791240)


@pytest.mark.parametrize(("y", "value"), list(enumerate(SAMPLED)))
def test_sampled_token_golden(y: int, value: float) -> None:
    assert sampled_token(P.log()[:, y], Q.log()[:, y]).item() == pytest.approx(value, abs=1e-6)
    head = Head(torch.eye(5, dtype=torch.float64))
    hidden = P.log().requires_grad_()
    loss, stats = fused_loss(
        hidden,
        head,
        torch.tensor([y]),
        [Distill(torch.ones(1), alpha=1.0, form="sampled")],
        teacher=Teacher([(1.0, Q.log(), head)]),
    )
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert stats.divergence.item() == pytest.approx(GOLDEN["full"][1.0], abs=1e-6)
    loss.backward()
    advantage = (P.log() - Q.log())[0, y]
    torch.testing.assert_close(hidden.grad, advantage * (torch.eye(5, dtype=torch.float64)[y] - P))


def test_sampled_gradient_is_unbiased_for_the_reverse_kl() -> None:
    hidden = P.log().requires_grad_()
    sum(P[0, y] * sampled_token(hidden[:, y], Q.log()[:, y])[0] for y in range(5)).backward()  # type: ignore
    expected = hidden.grad
    hidden = P.log().requires_grad_()
    divergence(hidden, Q.log(), 1.0).backward()
    torch.testing.assert_close(hidden.grad - P, expected)  # the constant 1 of d(p log p) has mean zero


def test_temperatures_divide_the_logits() -> None:
    head = Head(torch.eye(5, dtype=torch.float64))
    _, stats = fused_loss(
        P.log(),
        head,
        torch.tensor([2]),
        [],
        teacher=Teacher([(1.0, Q.log(), head)], temperature=0.5),
        temperature=2.0,
    )
    p, q = P.sqrt() / P.sqrt().sum(), Q**2 / (Q**2).sum()
    assert stats.logp.item() == pytest.approx(p[0, 2].log().item())
    assert stats.teacher_logp.item() == pytest.approx(q[0, 2].log().item())
    assert stats.divergence.item() == pytest.approx(divergence(p.log(), q.log(), 0.5).item())


@pytest.mark.parametrize(
    ("ratio", "advantage", "dual_clip", "loss", "slope"),
    [  # loss, d loss / d log p
        (1.0, 1.0, None, -1.0, -1.0),
        (1.1, 2.0, None, -2.2, -2.2),
        (1.5, 1.0, None, -1.28, 0.0),
        (0.5, 1.0, None, -0.5, -0.5),
        (0.5, -1.0, None, 0.8, 0.0),
        (0.9, -1.0, None, 0.9, 0.9),
        (4.0, -1.0, None, 4.0, 4.0),
        (4.0, -1.0, 3.0, 3.0, 0.0),
        (2.5, -1.0, 3.0, 2.5, 2.5),
        (4.0, 1.0, 3.0, -1.28, 0.0),
    ],
)
def test_clipped_surrogate_golden(
    ratio: float, advantage: float, dual_clip: float | None, loss: float, slope: float
) -> None:
    term = PolicyGradient(torch.ones(1), torch.tensor([advantage]), dual_clip=dual_clip)
    logp = torch.tensor([-1.0], requires_grad=True)
    value = policy_gradient(term, logp, torch.tensor([-1.0 - math.log(ratio)]), None)
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-5)
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(slope, abs=1e-5)


def test_first_step_policy_gradient_is_reinforce() -> None:
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    policy_gradient(PolicyGradient(torch.ones(2), torch.tensor([3.0, -5.0])), logp, None, None).sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == [-3.0, 5.0]


def test_importance_weights_are_capped_above_only() -> None:
    old = torch.tensor([-3.0, -3.0, -3.0, -3.0])
    logp = old + torch.tensor([1.5, 2.0, 3.0, 0.25]).log()
    sampler = old - torch.tensor([0.25, 3.0, 1.5, 2.0]).log()
    rho, w = importance_weights(logp.requires_grad_(), old, sampler, 2.0)
    torch.testing.assert_close(rho, torch.tensor([1.5, 2.0, 2.0, 0.25]))
    torch.testing.assert_close(w, torch.tensor([0.25, 2.0, 1.5, 2.0]))
    assert not rho.requires_grad
    assert not w.requires_grad
    uncapped = importance_weights(logp, old, sampler, None)[0]
    torch.testing.assert_close(uncapped, torch.tensor([1.5, 2.0, 3.0, 0.25]))


def test_importance_weights_without_old_compare_the_current_policy_with_the_sampler() -> None:
    rho, w = importance_weights(torch.tensor([-1.0]), None, torch.tensor([-1.5]), 2.0)
    assert rho.item() == 1.0
    assert w.item() == pytest.approx(math.exp(0.5))
    assert [x.item() for x in importance_weights(torch.tensor([-1.0]), None, None, 2.0)] == [1.0, 1.0]
    far = importance_weights(torch.tensor([0.0]), torch.tensor([-300.0]), None, None)[0]
    assert far.item() == pytest.approx(math.exp(20), rel=1e-5)


def test_fused_distillation_takes_both_factors_and_policy_gradient_only_w() -> None:
    head = Head(torch.eye(5, dtype=torch.float64))
    y, one = torch.tensor([0]), torch.ones(1)
    old = P.log()[:, 0] - math.log(3.0)  # rho: 3, capped at 2
    sampler = old - math.log(1.5)  # w: 1.5
    options: dict[str, Any] = {"old_logprobs": old, "sampler_logprobs": sampler}
    teacher = Teacher([(1.0, Q.log(), head)])
    distill, _ = fused_loss(P.log(), head, y, [Distill(one)], teacher=teacher, **options)
    assert distill.item() == pytest.approx(2.0 * 1.5 * GOLDEN["full"][0.5], abs=1e-5)
    policy, _ = fused_loss(P.log(), head, y, [PolicyGradient(one, -one)], **options)
    assert policy.item() == pytest.approx(3.0 * 1.5)


# Fused against plain


def forms(b: Any) -> list[Term]:
    c = b["coefficients"] * b["taught"]
    grid: list[Term] = [Distill(c, alpha=alpha) for alpha in ALPHAS]
    for alpha, tail in itertools.product(ALPHAS, (True, False)):
        grid.append(Distill(c, alpha=alpha, top_k=4, tail=tail))
    return [*grid, Distill(c, alpha=1.0, form="sampled")]


@pytest.mark.parametrize(("temperature", "teacher_temperature"), [(1.0, 1.0), (0.7, 1.0), (1.0, 1.6), (1.3, 0.6)])
@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_fused_equals_plain(
    temperature: float, teacher_temperature: float, chunk: int | None, mixed: bool, dtype: Any, atol: float
) -> None:
    b = batch(dtype=dtype)
    for distill in forms(b):
        if dtype == torch.float32 and isinstance(distill, Distill) and distill.top_k and distill.tail:
            continue  # log(1 - sum) loses digits where little is left outside the k tokens, in plain as well
        terms: list[Term] = [distill]
        if mixed:
            terms += [
                PolicyGradient(b["coefficients"].flip(0), b["advantages"], dual_clip=1.5),
                Likelihood(b["coefficients"] * 0.3 * (torch.arange(7) > 3)),
            ]
        fused, plain = both(
            b,
            terms,
            teacher_temperature,
            temperature=temperature,
            chunk=chunk,
            old_logprobs=b["old"],
            sampler_logprobs=b["sampler"],
            top=3,
        )
        assert_same(fused, plain, atol)
        assert fused[0].abs() > 1e-3
        torch.testing.assert_close(fused[2].top_ids, plain[2].top_ids)
        torch.testing.assert_close(fused[2].top_teacher, plain[2].top_teacher, equal_nan=True)
        torch.testing.assert_close(fused[2].top_student, plain[2].top_student, equal_nan=True)
        assert (fused[2].top_ids[~b["taught"]] == -1).all()
        assert fused[2].teacher_logp.isnan().equal(~b["taught"])


@pytest.mark.parametrize("kind", ["policy", "likelihood"])
def test_fused_equals_plain_without_a_teacher(kind: str) -> None:
    b = batch()
    term: Term = Likelihood(b["coefficients"])
    if kind == "policy":
        term = PolicyGradient(b["coefficients"], b["advantages"])
    fused, plain = both(b, [term], chunk=2, temperature=0.8, sampler_logprobs=b["sampler"])
    assert_same(fused, plain)
    assert fused[1][0].abs().max() > 1e-3


def test_fused_equals_plain_with_two_distillations_and_a_capped_scaled_head() -> None:
    b = batch()
    c = b["coefficients"] * b["taught"]
    terms: list[Term] = [Distill(c, alpha=0.0, top_k=3), Distill(c.flip(0) * b["taught"], alpha=0.5)]
    fused, plain = both(b, terms, head={"scale": 0.6, "softcap": 2.0}, chunk=2, temperature=1.4)
    assert_same(fused, plain)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gradients_against_finite_differences(alpha: float) -> None:
    b = batch(n=4, v=6, d=3, dtype=torch.float64)
    c = b["coefficients"] * b["taught"]
    terms: list[Term] = [
        Distill(c, alpha=alpha),
        Distill(c, alpha=alpha, top_k=2),
        Likelihood(b["coefficients"]),
    ]

    def loss() -> Tensor:
        head = Head(b["weight"], b["bias"], scale=0.9, softcap=3.0)
        teacher = Teacher(b["parts"])
        value, _ = fused_loss(
            b["hidden"],
            head,
            b["targets"],
            terms,
            teacher=teacher,
            taught=b["taught"],
            temperature=0.7,
            chunk=3,
        )
        return value

    loss().backward()
    for leaf in (b["hidden"], b["weight"], b["bias"]):
        numeric = torch.zeros_like(leaf)
        for i in range(leaf.numel()):
            for step in (1e-6, -1e-6):
                leaf.data.view(-1)[i] += step
                numeric.view(-1)[i] += loss().detach() / (2 * step)
                leaf.data.view(-1)[i] -= step
        torch.testing.assert_close(leaf.grad, numeric, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_keep_their_dtype_and_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    b = batch(n=64)
    hidden = b["hidden"].detach().to(dtype).requires_grad_()
    weight = b["weight"].detach().to(dtype).requires_grad_()
    loss, stats = fused_loss(hidden, Head(weight), b["targets"], [Likelihood(b["coefficients"])], chunk=1)
    loss.backward()
    assert loss.dtype == stats.logp.dtype == torch.float32
    assert hidden.grad is not None
    assert weight.grad is not None
    assert hidden.grad.dtype == weight.grad.dtype == dtype
    reference = weight.detach().float().requires_grad_()
    rounded = (hidden.detach() @ weight.detach().t()).float()
    logits = hidden.detach().float() @ reference.t()
    logits = logits + (rounded - logits).detach()
    (-(logits.log_softmax(-1).gather(1, b["targets"][:, None])[:, 0]) * b["coefficients"]).sum().backward()
    assert reference.grad is not None
    assert weight.grad.equal(reference.grad.to(dtype)) or torch.allclose(
        weight.grad.float(), reference.grad, rtol=2 * torch.finfo(dtype).eps, atol=1e-5
    )


# Invariants


@pytest.mark.parametrize("size", [1, 3, 7])
def test_micro_batches_change_nothing(size: int) -> None:
    b = batch()
    mask = b["taught"].float()
    terms: list[Term] = [
        Distill(token_mean(mask)),
        PolicyGradient(token_mean(torch.ones(7)), b["advantages"]),
    ]
    (whole, gradients, _), _ = both(b, terms, old_logprobs=b["old"])
    for leaf in (b["hidden"], b["weight"], b["bias"]):
        leaf.grad = None
    total = 0.0
    teacher_row = b["taught"].cumsum(0) - 1
    for rows in torch.arange(7).split(size):
        taught = b["taught"][rows]
        own = teacher_row[rows][taught]
        loss, _ = fused_loss(
            b["hidden"][rows],
            Head(b["weight"], b["bias"]),
            b["targets"][rows],
            [select(term, rows) for term in terms],
            teacher=Teacher([(c, h[own], head) for c, h, head in b["parts"]]),
            taught=taught,
            old_logprobs=b["old"][rows],
        )
        (2.5 * loss).backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), abs=1e-6)
    for leaf, gradient in zip((b["hidden"], b["weight"], b["bias"]), gradients, strict=True):
        torch.testing.assert_close(leaf.grad, gradient, atol=1e-6, rtol=1e-5)


def test_gradient_flows_through_the_student_only() -> None:
    b = batch()
    student = Head(b["weight"])
    teacher_hidden = torch.randn(7, 5, requires_grad=True)
    average = torch.randn(23, 5, requires_grad=True)
    terms: list[Term] = [Distill(torch.ones(7))]
    for function in (fused_loss, plain_loss):
        b["weight"].grad = None
        parts = [(0.5, teacher_hidden, student), (0.5, teacher_hidden, Head(average))]
        loss, _ = function(b["hidden"], student, b["targets"], terms, teacher=Teacher(parts))
        loss.backward()
        assert teacher_hidden.grad is None
        assert average.grad is None
        assert b["weight"].grad.abs().sum() > 0
    b["weight"].grad = None
    parts = [(1.0, teacher_hidden, Head(b["weight"]))]
    other = torch.randn(23, 5)
    loss, _ = fused_loss(b["hidden"], Head(other), b["targets"], terms, teacher=Teacher(parts))
    loss.backward()
    assert b["weight"].grad is None


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("top_k", [None, 3])
def test_a_teacher_that_agrees_teaches_nothing(alpha: float, top_k: int | None) -> None:
    b = batch()
    head = Head(b["weight"])
    teacher = Teacher([(1.0, b["hidden"].detach(), head)])
    loss, stats = fused_loss(
        b["hidden"], head, b["targets"], [Distill(torch.ones(7), alpha=alpha, top_k=top_k)], teacher=teacher
    )
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert b["hidden"].grad.abs().max() < 1e-6
    assert stats.divergence.abs().max() < 1e-6


@pytest.mark.parametrize("stats", [True, False])
def test_a_coefficient_of_zero_contributes_nothing_whatever_the_values(stats: bool) -> None:
    b = batch()
    ok = torch.tensor([True, False, True, True, False, True, False])
    clean_weight = b["weight"]

    def run(rows: Tensor, poison: bool) -> Any:
        b["weight"].grad = None
        hidden = b["hidden"].detach().clone()
        teacher_hidden = torch.linspace(-1, 1, 35).reshape(7, 5)
        columns = {name: b[name].clone() for name in ("advantages", "old", "sampler")}
        if poison:
            hidden[1], hidden[4] = torch.nan, torch.inf
            teacher_hidden[[1, 4, 6]] = torch.nan
            for column in columns.values():
                column[1], column[4], column[6] = torch.nan, torch.inf, -torch.inf
        hidden = hidden[rows].requires_grad_()
        c = (b["coefficients"] * ok)[rows]
        alone = Likelihood(torch.tensor([0.0, 0, 0, 0, 0, 0, 0.5])[rows])  # token 6: only this term
        loss, _ = fused_loss(
            hidden,
            Head(clean_weight),
            b["targets"][rows],
            [
                Distill(c),
                Distill(c, top_k=2),
                Distill(c, alpha=1.0, form="sampled"),
                PolicyGradient(c, columns["advantages"][rows]),
                alone,
            ],
            teacher=Teacher([(1.0, teacher_hidden[rows], Head(clean_weight.detach().flip(0)))]),
            old_logprobs=columns["old"][rows],
            sampler_logprobs=columns["sampler"][rows],
            stats=stats,
        )
        loss.backward()
        return loss, hidden.grad, clean_weight.grad

    loss, to_hidden, to_weight = run(torch.arange(7), poison=True)
    used = torch.tensor([0, 2, 3, 5, 6])
    expected, expected_hidden, expected_weight = run(used, poison=False)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(to_hidden[used], expected_hidden)
    assert (to_hidden[[1, 4]] == 0).all()
    torch.testing.assert_close(to_weight, expected_weight)


def test_all_masked_is_a_zero_with_a_graph() -> None:
    b = batch()
    mask = torch.zeros(7)
    loss, _ = fused_loss(
        b["hidden"],
        Head(b["weight"]),
        b["targets"],
        [Distill(token_mean(mask)), Likelihood(sequence_mean(mask, torch.zeros(7, dtype=torch.long), 1))],
        teacher=Teacher(b["parts"]),
        taught=b["taught"],
    )
    assert loss.item() == 0.0
    loss.backward()
    assert (b["hidden"].grad == 0).all()
    assert (b["weight"].grad == 0).all()


def test_a_pack_without_taught_tokens_needs_no_teacher() -> None:
    b = batch()
    terms: list[Term] = [Distill(torch.zeros(7)), Likelihood(b["coefficients"])]
    values = []
    for function in (fused_loss, plain_loss):
        for some in (terms, terms[1:]):
            values.append(function(b["hidden"], Head(b["weight"]), b["targets"], some)[0])
    assert values[0] > 1e-3
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])


def test_no_tokens_at_all() -> None:
    hidden = torch.zeros(0, 5, requires_grad=True)
    loss, stats = fused_loss(hidden, Head(torch.randn(9, 5)), torch.zeros(0, dtype=torch.long), [])
    loss.backward()
    assert loss.item() == 0.0
    assert stats.logp.shape == (0,)


def test_untaught_tokens_never_reach_the_teacher_and_idle_ones_are_skipped_without_stats() -> None:
    b = batch()
    seen: list[int] = []

    class Watched(Head):
        def logits(self, hidden: Tensor) -> Tensor:
            seen.append(len(hidden))
            return super().logits(hidden)

    taught = torch.tensor([True, False, True, False, False, True, False])
    c = torch.tensor([1.0, 0, 0, 0, 0, 1.0, 0])
    teacher = Teacher([(1.0, torch.randn(3, 5), Watched(b["weight"].detach()))])
    _, stats = fused_loss(b["hidden"], Head(b["weight"]), b["targets"], [Distill(c)], teacher=teacher, taught=taught)
    assert sum(seen) == 3
    assert stats.logp.isfinite().all()
    seen.clear()
    student = Watched(b["weight"])
    _, stats = fused_loss(b["hidden"], student, b["targets"], [Distill(c)], teacher=teacher, taught=taught, stats=False)
    assert sum(seen) == 4  # two tokens, each once by the student and once by the teacher
    assert stats.logp.isfinite().equal(c != 0)


def test_tokens_that_both_sides_forbid_contribute_nothing() -> None:
    bias = torch.zeros(23)
    bias[5:9] = -torch.inf
    keep = bias == 0
    b = batch()
    for alpha in ALPHAS:
        loss, gradient = [], []
        for rows in (slice(None), keep):
            hidden = b["hidden"].detach().requires_grad_()
            student = Head(b["weight"].detach()[rows], bias[rows])
            teacher = Head(b["weight"].detach().flip(0)[rows], bias[rows])
            targets = torch.zeros(7, dtype=torch.long)
            value, stats = fused_loss(
                hidden,
                student,
                targets,
                [Distill(torch.ones(7), alpha=alpha)],
                teacher=Teacher([(1.0, b["hidden"].detach(), teacher)]),
            )
            value.backward()
            plain, _ = plain_loss(
                hidden, student, targets, [Distill(torch.ones(7), alpha=alpha)],
                teacher=Teacher([(1.0, b["hidden"].detach(), teacher)]),
            )  # fmt: skip
            torch.testing.assert_close(value, plain)
            assert stats.entropy.isfinite().all()
            loss.append(value)
            gradient.append(hidden.grad)
        torch.testing.assert_close(loss[0], loss[1])
        torch.testing.assert_close(gradient[0], gradient[1])


def test_divergence_with_zero_probabilities() -> None:
    p, q = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert divergence(p, q, 1.0).item() == pytest.approx(math.log(2))
    assert divergence(p, q, 0.0).item() == math.inf
    assert divergence(p, q, 0.5).item() == pytest.approx(0.215762, abs=1e-6)
    assert divergence(torch.tensor([[torch.nan, 0.0]]), q, 0.5).isnan().all()


def test_large_logits_stay_finite() -> None:
    hidden = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    head = Head(torch.eye(3))
    for alpha in ALPHAS:
        loss, _ = fused_loss(
            hidden,
            head,
            torch.tensor([0]),
            [Distill(torch.ones(1), alpha=alpha)],
            teacher=Teacher([(1.0, -hidden.detach(), head)]),
        )
        hidden.grad = None
        loss.backward()
        assert loss.isfinite()
        assert hidden.grad is not None
        assert hidden.grad.isfinite().all()


logits = st.lists(st.floats(-12, 12), min_size=8, max_size=8)


@settings(max_examples=150, deadline=None)
@given(student=logits, teacher=logits, alpha=st.sampled_from(ALPHAS), k=st.integers(1, 7))
def test_top_k_with_a_tail_never_exceeds_the_full_divergence(
    student: list[float], teacher: list[float], alpha: float, k: int
) -> None:
    p, q = (torch.tensor([z], dtype=torch.float64).log_softmax(-1) for z in (student, teacher))
    full = divergence(p, q, alpha).item()
    closed_p, closed_q = top_k_support(p, q, k, tail=True)
    closed = divergence(closed_p, closed_q, alpha).item()
    assert closed_p.shape == (1, k + 1)
    assert closed_p.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    assert -1e-6 <= closed <= full + 1e-5
    swapped = divergence(q, p, 1 - alpha).item()
    assert swapped == pytest.approx(full, abs=1e-9)


def test_top_k_is_the_students() -> None:
    student, teacher = top_k_support(P.log(), Q.log(), 2, tail=False)
    torch.testing.assert_close(student.exp(), torch.tensor([[0.55, 0.25]], dtype=torch.float64) / 0.8)
    torch.testing.assert_close(teacher.exp(), torch.tensor([[0.20, 0.45]], dtype=torch.float64) / 0.65)
    student, _ = top_k_support(P.log(), Q.log(), 2, tail=True)
    torch.testing.assert_close(student.exp(), torch.tensor([[0.55, 0.25, 0.20]], dtype=torch.float64))
    assert top_k_support(P.log(), Q.log(), 9, tail=False)[0].shape == (1, 5)
    assert close_support(P.log(), tail=True).isfinite().all()


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation allocated."""

    numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        old = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in old:
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("top_k", [None, 4])
def test_no_tensor_holds_the_logits_of_more_than_a_chunk(top_k: int | None) -> None:
    n, v, d, chunk = 64, 1000, 4, 8
    b = batch(n, v, d)
    terms: list[Term] = [
        Distill(b["coefficients"] * b["taught"], top_k=top_k),
        PolicyGradient(b["coefficients"], b["advantages"]),
    ]
    peak = {}
    for function in (fused_loss, plain_loss):
        options = {"chunk": chunk} if function is fused_loss else {}
        with Largest() as largest:
            loss, _ = function(
                b["hidden"],
                Head(b["weight"], b["bias"]),
                b["targets"],
                terms,
                teacher=Teacher(b["parts"]),
                taught=b["taught"],
                top=3,
                **options,
            )
            loss.backward()
        peak[function] = largest.numel
    assert peak[fused_loss] <= chunk * v
    assert peak[plain_loss] >= n * v


def test_without_grad_mode_no_gradient_of_the_head_is_made() -> None:
    b = batch(n=8, v=50, d=64)
    with torch.no_grad(), Largest() as largest:
        loss, _ = fused_loss(b["hidden"], Head(b["weight"]), b["targets"], [Likelihood(b["coefficients"])], chunk=2)
    assert not loss.requires_grad
    assert loss > 1e-3
    assert largest.numel < b["weight"].numel()


def test_automatic_chunks_hold_about_32_megabytes() -> None:
    for v in (49_152, 152_064, 262_144):
        assert 28e6 < auto_chunk(v) * v * 4 <= 32e6
    assert auto_chunk(10**9) == 1


def test_token_stats_measures_the_same_without_a_graph() -> None:
    b = batch()
    logp, entropy = token_stats(b["hidden"], Head(b["weight"]), b["targets"], temperature=0.7, chunk=2)
    expected = ((b["hidden"] @ b["weight"].t()) / 0.7).log_softmax(-1)
    torch.testing.assert_close(logp, expected.gather(1, b["targets"][:, None])[:, 0].detach())
    torch.testing.assert_close(entropy, -(expected * expected.exp()).sum(-1).detach())
    assert not logp.requires_grad
    assert not entropy.requires_grad


def test_a_frozen_head_gets_no_gradient_and_a_second_backward_is_refused() -> None:
    b = batch()
    weight = b["weight"].detach()
    loss, _ = fused_loss(b["hidden"], Head(weight), b["targets"], [Likelihood(b["coefficients"])])
    loss.backward(retain_graph=True)
    assert weight.grad is None
    assert b["hidden"].grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="call it again"):
        loss.backward()


# Coefficients


def test_token_mean() -> None:
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0])
    torch.testing.assert_close(token_mean(mask), mask / 3)
    weights = torch.tensor([2.0, 1.0, torch.nan, 0.0])
    torch.testing.assert_close(token_mean(mask > 0, weights), torch.tensor([2.0, 1.0, 0.0, 0.0]) / 3)
    torch.testing.assert_close(token_mean(mask, denominator=10), mask / 10)
    assert (token_mean(torch.zeros(3)) == 0).all()


def test_sequence_mean_counts_masked_out_sequences() -> None:
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    ids = torch.tensor([0, 0, 0, 1, 2])
    coefficients = sequence_mean(mask, ids, 3)
    torch.testing.assert_close(coefficients, torch.tensor([1 / 6, 1 / 6, 0.0, 1 / 3, 0.0]))
    weighted = sequence_mean(mask, ids, 3, torch.tensor([3.0, 0.0, torch.inf, 1.0, 1.0]))
    torch.testing.assert_close(weighted, torch.tensor([0.5, 0.0, 0.0, 1 / 3, 0.0]))


def test_sequence_sum_norm_is_blind_to_length() -> None:
    mask = torch.tensor([True, True, False, True])
    torch.testing.assert_close(sequence_sum_norm(mask, 2, 10), mask / 20)
    torch.testing.assert_close(sequence_sum_norm(mask, 2, 10, torch.full((4,), 2.0)), mask / 10)


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: divergence(P.log(), Q.log(), 1.2), "alpha=1.2"),
        (lambda: Distill(torch.ones(1), alpha=-0.1), "alpha=-0.1"),
        (lambda: Distill(torch.ones(1), form="sampled"), "alpha=1"),
        (lambda: Distill(torch.ones(1), form="exact"), "form='exact'"),  # type: ignore[arg-type]
        (lambda: Distill(torch.ones(1), top_k=0), "top_k=0"),
        (lambda: PolicyGradient(torch.ones(2), torch.ones(1)), "one advantage per token"),
        (lambda: PolicyGradient(torch.ones(1), torch.ones(1), dual_clip=0.5), "dual_clip=0.5"),
        (lambda: Teacher([]), "at least one part"),
        (lambda: sequence_mean(torch.ones(1), torch.zeros(1, dtype=torch.long), 0), "n_sequences=0"),
        (lambda: sequence_sum_norm(torch.ones(1), 1, 0), "max_length=0"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_impossible_calls_are_refused() -> None:
    b = batch()
    head, y, one = Head(b["weight"]), b["targets"], torch.ones(7)
    teacher = Teacher(b["parts"])
    with pytest.raises(ValueError, match="not 0 where taught is False"):
        fused_loss(b["hidden"], head, y, [Distill(one)], teacher=teacher, taught=b["taught"])
    with pytest.raises(ValueError, match="not 0 where taught is False"):
        fused_loss(b["hidden"], head, y, [Distill(one)])
    with pytest.raises(ValueError, match="no teacher"):
        fused_loss(b["hidden"], head, y, [], taught=b["taught"])
    with pytest.raises(ValueError, match="rows for 7 taught"):
        fused_loss(b["hidden"], head, y, [], teacher=teacher)
    with pytest.raises(ValueError, match="coefficients of Likelihood"):
        fused_loss(b["hidden"], head, y, [Likelihood(torch.ones(3))])
    with pytest.raises(ValueError, match="temperature=0"):
        fused_loss(b["hidden"], head, y, [], temperature=0)
