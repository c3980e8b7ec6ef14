"""Several teachers in one loss, dense and sparse: fused against plain, what each is asked for, and memory."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import Problem, assert_fused_is_plain, problem, run, sparse_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from agents.losses.divergence import divergence
from agents.losses.fused import Head, SparseTeacher, Stream, Teacher, fused_loss, plain_loss
from agents.losses.support import close_both
from agents.losses.terms import Distill, Likelihood, PolicyGradient, Term, select

EVERY = torch.ones(7, dtype=torch.bool)


def mixed(case: Problem, v: int) -> tuple[list[Term], dict[str, Stream]]:
    """Three streams that overlap by chance, some perhaps empty, and terms of many kinds on them."""
    n = len(case.targets)
    taught = {name: case.mask() for name in ("teacher", "peer", "served")}
    k = min(4, v)
    streams = {
        "teacher": case.dense(taught["teacher"], 2),
        "peer": case.dense(taught["peer"]),
        "served": case.sparse(taught["served"], k),
    }
    terms: list[Term] = [
        Distill(case.coefficients(taught["peer"]), 1.0, 3, teacher="peer", support="union"),
        Distill(case.coefficients(taught["teacher"]), 0.5),
        Distill(case.coefficients(taught["teacher"]), 1.0, form="baseline"),
        Distill(case.coefficients(taught["served"]), 0.0, k, teacher="served", support="teacher", clip=0.2),
        Distill(case.coefficients(taught["served"]), 1.0, form="k3", teacher="served"),
        Distill(case.coefficients(taught["peer"]), 1.0, form="k2", teacher="peer"),
        PolicyGradient(case.coefficients(), case.normal(n), surrogate="cispo"),
    ]
    return terms, streams


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(0, 9),
    v=st.integers(2, 20),
    seed=st.integers(0, 10**6),
    chunk=st.integers(1, 10),
    first=st.integers(0, 6),
    drop=st.integers(0, 3),
)
def test_fused_equals_plain(n: int, v: int, seed: int, chunk: int, first: int, drop: int) -> None:
    case = problem(n, v, seed=seed)
    terms, streams = mixed(case, v)
    terms = terms[first:] + terms[: max(0, first - drop)]  # another term's stream is measured
    options = {"old_logprobs": case.old, "sampler_logprobs": case.sampler, "temperature": 0.9, "top": 3}
    assert_fused_is_plain(case, terms, streams, chunk, **options)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 9))
def test_streams_add_up_and_micro_batches_change_nothing(seed: int, size: int) -> None:
    case = problem(9, seed=seed)
    terms, streams = mixed(case, 23)
    value, gradients, _ = run(fused_loss, case, terms, streams, old_logprobs=case.old)
    alone = [
        run(fused_loss, case, [t], {t.teacher: streams[t.teacher]} if isinstance(t, Distill) else {},
            old_logprobs=case.old)
        for t in terms
    ]  # fmt: skip
    torch.testing.assert_close(sum(part[0] for part in alone), value)
    torch.testing.assert_close(sum(part[1][0] for part in alone), gradients[0])
    total = torch.zeros_like(value)
    case.hidden.grad = None
    for rows in torch.randperm(9, generator=case.generator).split(size):
        some = {}
        for name, stream in streams.items():
            assert stream.taught is not None
            own = (stream.taught.cumsum(0) - 1)[rows][stream.taught[rows]]
            some[name] = Stream(stream.teacher.take(own), stream.taught[rows])
        loss, _ = fused_loss(
            case.hidden[rows],
            Head(case.weight, case.bias),
            case.targets[rows],
            [select(term, rows) for term in terms],
            streams=some,
            old_logprobs=case.old[rows],
        )
        loss.backward()
        total += loss.detach()
    torch.testing.assert_close(total, value)
    torch.testing.assert_close(case.hidden.grad, gradients[0])


def test_teacher_is_the_stream_of_that_name() -> None:
    case = problem()
    stream = case.dense(torch.arange(7) > 2)
    terms = [Distill(case.coefficients(stream.taught))]
    by_name = run(fused_loss, case, terms, {"teacher": stream})
    as_before = run(fused_loss, case, terms, teacher=stream.teacher, taught=stream.taught)
    torch.testing.assert_close(by_name[0], as_before[0], atol=0, rtol=0)
    torch.testing.assert_close(by_name[1], as_before[1], atol=0, rtol=0)
    with pytest.raises(ValueError, match="leave out teacher="):
        run(fused_loss, case, terms, {"teacher": stream}, teacher=stream.teacher, taught=stream.taught)


# What is measured


def test_statistics_are_about_the_first_distillation_else_about_the_teacher() -> None:
    case = problem()
    streams = {"teacher": case.dense(EVERY), "peer": case.dense(torch.arange(7) < 4)}
    c = torch.zeros(7, dtype=torch.float64)
    both: list[Term] = [Likelihood(case.coefficients()), Distill(c, 0.0, teacher="peer"), Distill(c, 1.0)]
    peer = run(fused_loss, case, both, streams)[2]
    assert peer.teacher_logp.isnan().tolist() == [False] * 4 + [True] * 3
    alone = run(fused_loss, case, [Distill(c, 0.0)], {"teacher": streams["peer"]})[2]
    torch.testing.assert_close(peer.divergence, alone.divergence, equal_nan=True)
    main = run(fused_loss, case, both[:1], streams)[2]
    assert main.teacher_logp.isfinite().all()
    alone = run(fused_loss, case, [Distill(c, 0.5)], {"teacher": streams["teacher"]})[2]
    torch.testing.assert_close(main.divergence, alone.divergence)
    nobody = run(fused_loss, case, both[:1], {"peer": streams["peer"]})[2]
    assert nobody.teacher_logp.isnan().all()


def test_logits_are_made_once_and_only_where_needed() -> None:
    case = problem(8)
    seen: dict[str, int] = {}

    class Watched(Head):
        name = "student"

        def logits(self, hidden: Tensor) -> Tensor:
            seen[self.name] = seen.get(self.name, 0) + len(hidden)
            return super().logits(hidden)

    def stream(name: str, taught: Tensor) -> Stream:
        head = Watched(case.normal(*case.weight.shape))
        head.name = name
        return Stream(Teacher([(1.0, case.normal(int(taught.sum()), 5), head)]), taught)

    taught = {"a": torch.arange(8) < 5, "b": torch.arange(8) > 2, "idle": torch.ones(8, dtype=torch.bool)}
    streams = {name: stream(name, mask) for name, mask in taught.items()}
    c = torch.tensor([1.0, 0, 0, 1, 0, 0, -1, 0], dtype=torch.float64)
    terms: list[Term] = [
        Distill(c * taught["a"], teacher="a"),
        Distill(c * taught["a"], 1.0, 2, teacher="a"),
        Distill(c * taught["b"], teacher="b"),
        Distill(c * taught["b"], 1.0, form="k2", teacher="b"),
        Likelihood(c),
    ]
    for stats, expected in (
        (True, {"student": 8, "a": 5, "b": 2}),  # the first stream is measured wherever it has a word
        (False, {"student": 3, "a": 2, "b": 2}),
    ):
        seen.clear()
        fused_loss(case.hidden, Watched(case.weight), case.targets, terms, streams=streams, stats=stats, chunk=2)
        assert seen == expected


# Sparse teachers


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"alpha": 0.5, "tail": False},
        {"alpha": 0.0, "tail": False, "renormalise": "student"},
        {"alpha": 1.0, "ratio_clip": 2.0},
        {"alpha": 1.0, "form": "sampled", "support": "student"},
        {"alpha": 1.0, "form": "k3", "support": "student"},
    ],
)
def test_a_sparse_teacher_is_the_dense_one_on_its_own_top_k(options: dict[str, Any]) -> None:
    case = problem()
    dense = case.dense(torch.arange(7) % 3 != 1)
    assert isinstance(dense.teacher, Teacher)
    assert dense.taught is not None
    logq = dense.teacher.logits(slice(None)).log_softmax(-1)
    sparse = Stream(sparse_of(logq, case.targets[dense.taught], 4), dense.taught)
    options = {"support": "teacher", **options}
    c = case.coefficients(dense.taught)
    full = options.get("form", "full") == "full"
    expected = run(fused_loss, case, [Distill(c, top_k=4 if full else None, **options)], {"teacher": dense}, top=6)
    for top_k in (4, None) if full else (None,):
        found = run(fused_loss, case, [Distill(c, top_k=top_k, **options)], {"teacher": sparse}, top=6)
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])
        torch.testing.assert_close(found[2].teacher_logp, expected[2].teacher_logp, equal_nan=True)
        if full:
            torch.testing.assert_close(found[2].divergence, expected[2].divergence, equal_nan=True)
        assert found[2].teacher_entropy.isnan().all()
        assert found[2].top_ids is not None
        assert expected[2].top_ids is not None
        assert found[2].top_ids[:, :4].equal(expected[2].top_ids[:, :4])
        assert (found[2].top_ids[:, 4:] == -1).all()


def test_a_sparse_teacher_reports_a_lower_bound() -> None:
    case = problem()
    dense = case.dense(EVERY)
    assert isinstance(dense.teacher, Teacher)
    logq = dense.teacher.logits(slice(None)).log_softmax(-1)
    sparse = Stream(sparse_of(logq, case.targets, 5))
    logp = (case.hidden @ case.weight.t() + case.bias).log_softmax(-1).detach()
    ids = logq.topk(5, dim=-1).indices
    few = close_both(logp.gather(-1, ids), logq.gather(-1, ids), True, "both")
    for terms, alpha in (([], 0.5), ([Distill(torch.ones(7), 1.0, form="k2")], 1.0)):
        stats = run(fused_loss, case, [*terms, Likelihood(torch.ones(7))], {"teacher": sparse})[2]
        torch.testing.assert_close(stats.divergence, divergence(*few, alpha))
        assert (stats.divergence <= divergence(logp, logq, alpha)).all()


def test_slots_without_a_token_count_for_nothing() -> None:
    case = problem()
    teacher = case.sparse(EVERY, 3).teacher
    assert isinstance(teacher, SparseTeacher)
    pad = torch.full((7, 2), -torch.inf, dtype=torch.float64)
    padded = SparseTeacher(
        torch.cat([teacher.ids, torch.full((7, 2), -1)], dim=-1),
        torch.cat([teacher.logprobs, pad], dim=-1),
        teacher.target_logprob,
    )
    term = Distill(case.coefficients(), 0.5, support="teacher")
    expected = assert_fused_is_plain(case, [term], {"teacher": Stream(teacher)}, top=5)
    found = assert_fused_is_plain(case, [term], {"teacher": Stream(padded)}, top=5)
    torch.testing.assert_close(found[:2], expected[:2])
    assert found[2].top_ids is not None
    assert expected[2].top_ids is not None
    assert found[2].top_ids.equal(expected[2].top_ids)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 4},
        {"top_k": 3, "support": "teacher"},
        {"top_k": 4, "support": "union"},
        {"alpha": 1.0, "form": "baseline"},
    ],
)
def test_a_sparse_teacher_is_not_asked_for_what_it_has_not(options: dict[str, Any]) -> None:
    case = problem()
    for function in (fused_loss, plain_loss):
        with pytest.raises(ValueError, match=r"has 4 tokens of the teacher.*top_k=4 or None"):
            run(function, case, [Distill(torch.ones(7), **options)], {"teacher": case.sparse(EVERY, 4)})


# Memory


class Live(TorchDispatchMode):
    """The largest number of tensors as large as ``numel`` that were alive at once, by storage."""

    def __init__(self, numel: int) -> None:
        super().__init__()
        self.numel, self.alive, self.peak = numel, {}, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel() >= self.numel:
                self.alive[id(tensor)] = (weakref.ref(tensor), tensor.untyped_storage().data_ptr())
        self.alive = {key: entry for key, entry in self.alive.items() if entry[0]() is not None}
        self.peak = max(self.peak, len({pointer for _, pointer in self.alive.values()}))
        return out


def live_buffers(case: Problem, terms: list[Term], streams: dict[str, Stream]) -> int:
    with Live(8 * 1000) as live:
        loss, _ = fused_loss(case.hidden, Head(case.weight), case.targets, terms, streams=streams, chunk=8)
        loss.backward()
    return live.peak


@pytest.mark.filterwarnings("ignore:clip_at='entry'")
def test_a_dozen_streams_hold_the_buffers_of_one() -> None:
    """[chunk, V] buffers: log p, p, log q, q, two of the closed form, and the gradient of the terms before."""
    case = problem(16, 1000, 4)
    everywhere = torch.ones(16, dtype=torch.bool)
    streams = {f"{i}": case.dense(everywhere) for i in range(12)}
    terms: list[Term] = [Distill(case.coefficients(), 0.5, teacher=name) for name in streams]
    one = live_buffers(case, terms[:1], streams)
    assert 4 <= one <= 6
    assert live_buffers(case, terms, streams) <= one + 1
    for alpha in (0.0, 0.5, 1.0):
        term = Distill(case.coefficients(), alpha, clip=0.05, clip_at="entry", teacher="0")
        assert live_buffers(case, [term], streams) <= one
    assert live_buffers(case, [Distill(case.coefficients(), 1.0, form="baseline", teacher="0")], streams) <= one
