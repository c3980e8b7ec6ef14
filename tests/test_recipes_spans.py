"""TRACE: what an annotator may mark, what the teacher is told of it, and how long it lasts."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_learner import make_batch
from test_recipes_advantages import played, scripted_by

from agents import recipes
from agents.batch import Batch
from agents.credit.spans import ERROR_TAGS, KEY_TAGS, Annotation, parse_annotation, segments, within
from agents.teachers.contexts import Hint, reworded
from agents.training.learner import Learner, OptimSettings
from agents.training.step import Update

# ---- trace: spans

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
"""Of property tests on a busy machine."""


def marking(who, asked):
    """An annotator that marks the first and the last segment of what it is shown."""
    count = len(re.findall(r"^> \[\d+\]", asked, re.MULTILINE))
    tag = "key insight" if "this succeeded" in asked else "wrong computation"
    return f"segments: 1, {count}\ntag: {tag}"


def annotated(engine, answer=marking, **settings):
    groups, tools = played(engine)
    scripted = scripted_by(tools, answer)
    recipe = recipes.get("trace")(**settings)
    samples = recipe.samples(groups, scripted)
    recipe.views(samples, groups, scripted)
    return recipe, samples, scripted


def test_the_teacher_of_trace_is_told_the_tag_and_nothing_of_the_attempt(engine):
    _, samples, tools = annotated(engine, coverage=1.0)
    for s in samples:
        told = s.view("teacher").messages[-1]["content"]
        tag = "key insight" if s.reward == 1 else "wrong computation"
        question = s.messages[-1]["content"]
        plain = reworded("paper", s.messages, Hint(notes=(("tag", tag),)))[-1]["content"]
        assert told == plain
        assert told.startswith(question)
        assert s.notes["spans"]
        assert tag not in question, "the policy's own prompt tells nothing"
    assert tools.log["annotated"] == 1
    assert {who for who, _ in tools.asked} == {"policy"}


def test_spans_cover_no_more_than_a_quarter(engine):
    _, samples, _ = annotated(engine)
    for s in samples:
        assert sum(b - a for a, b in s.notes["spans"]) <= 0.25 * len(s.action_ids)
        assert bool(s.notes["spans"]) == (s.view("teacher") is not None), "no span, no teacher"


def test_an_unclear_annotation_marks_nothing(engine):
    recipe, samples, tools = annotated(engine, lambda who, asked: "It failed early on, I think.")
    assert not any(s.view("teacher") or s.notes["spans"] for s in samples)
    assert tools.log["annotated"] == 0
    batch = Batch(samples)
    batch.advantages = torch.ones(len(batch))
    (policy,) = recipe.terms(batch)
    assert torch.allclose(policy.coefficients, torch.tensor(1 / len(batch.targets))), "GRPO on everything"


def marked_batch() -> Batch:
    batch = make_batch()
    for k, s in enumerate(batch.samples):
        s.notes["spans"] = [(0, 1)] if k % 3 else []
    return batch


def test_trace_hands_over_from_distillation_to_grpo():
    recipe, batch = recipes.get("trace")(), marked_batch()
    shares = []
    for step in (0, 9, 10, 25, 39, 40):
        recipe.begin(step)
        policy, *distil = recipe.terms(batch)
        span = policy.coefficients < policy.coefficients.max() - 1e-9
        n = len(batch.targets)
        inside = float(policy.coefficients[span].sum() * n / span.sum()) if span.any() else 1.0
        shares.append((inside, float(sum(d.coefficients.sum() for d in distil))))
        assert recipe.teaching() == (step < 40)
    lam = [0.5, 0.5, 0.5, 0.25, 0.5 / 30, 0.0]
    assert [a for a, _ in shares] == pytest.approx([1 - x / 0.5 for x in lam], abs=1e-5)
    whole = sum(1 / len(s.action_ids) for s in batch.samples if s.notes["spans"] and s.teacher_ids) / len(batch)
    assert [b for _, b in shares] == pytest.approx([x * whole for x in lam], abs=1e-6)


def test_while_it_lasts_a_whole_step_asks_and_reads_and_afterwards_nobody_does(engine):
    """A real step of the trainer: marks, a copied teacher's reading, new weights; from step 40 on GRPO alone."""
    groups, tools = played(engine)
    recipe = recipes.get("trace")(coverage=1.0)
    teachers = recipe.make_teachers(engine)
    update = Update(recipe, engine, Learner(engine, OptimSettings(lr=1e-3), 1.0), teachers, tools.sampling)
    tools = scripted_by(tools, marking)
    read, score = [], teachers["teacher"].score
    teachers["teacher"].score = lambda items, *rest: read.append(len(items)) or score(items, *rest)
    for step in (0, 39, 40):
        tools.asked.clear()
        read.clear()
        recipe.begin(step)
        ((batch, result),) = update.learn(groups, tools).results
        assert result.stepped
        assert (len(tools.asked), sum(read)) == ((len(batch), len(batch)) if step < 40 else (0, 0))
        assert (batch.log["span_share"] > 0) == (step < 40)


def test_each_outcome_has_its_direction_and_entries_are_cut_on_request_only():
    batch = marked_batch()
    _, key, error = recipes.get("trace")().terms(batch)
    right = batch.per_token(batch.correct)
    assert (key.alpha, error.alpha) == (0.0, 1.0)
    assert not key.coefficients[~right].any()
    assert not error.coefficients[right].any()
    assert (key.clip, key.clip_at) == (0.05, "position")
    with pytest.warns(UserWarning, match="reverses gradients"):
        _, key, _ = recipes.get("trace")(clip_at="entry").terms(batch)
    assert key.clip_at == "entry"
    with pytest.raises(ValueError, match=r"recipe.alpha=0.3 .*recipe.key_alpha"):
        recipes.get("trace")(alpha=0.3)


# ---- parts: spans

PIECES = st.lists(st.sampled_from(["a", " b", ".", "\n", " x.\n", "", " ", "3.", "14"]), max_size=30)


@patient
@given(PIECES, st.integers(1, 8))
def test_segments_are_a_partition_in_order(pieces, longest):
    spans = segments(pieces, longest)
    assert [t for a, b in spans for t in range(a, b)] == list(range(len(pieces)))
    assert all(a < b for a, b in spans)
    for a, b in spans:
        assert b - a <= longest or not "".join(pieces[a + longest : b]).strip(), "only blanks run over"
    assert sum(not "".join(pieces[a:b]).strip() for a, b in spans) <= 1, "no blank segments but a first one"


@patient
@given(PIECES, st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=6), st.floats(0.05, 1))
def test_coverage_is_never_exceeded(pieces, starts, share):
    spans = [(a, a + n) for a, n in starts]
    kept = within(spans, 20, share)
    assert sum(b - a for a, b in kept) <= share * 20
    given_order = iter(spans)
    assert all(s in given_order for s in kept)
    assert kept or not spans or spans[0][1] - spans[0][0] > share * 20, "the first is left out only where it cannot fit"


@patient
@given(st.text(max_size=200), st.integers(1, 20))
def test_no_reply_breaks_the_parser_or_marks_what_is_not_there(reply, count):
    found = parse_annotation(reply, count, KEY_TAGS)
    if found is not None:
        assert found.tag in KEY_TAGS
        assert all(0 <= k < count for k in found.segments)


@patient
@given(st.lists(st.integers(1, 9), min_size=1, unique=True), st.sampled_from(ERROR_TAGS), st.text(max_size=20))
def test_a_clear_reply_is_read_in_its_order(numbers, tag, chatter):
    reply = f"{chatter.replace(':', '')}\n**Segments**: {', '.join(map(str, numbers))}\n**Tag:** {tag.title()}."
    found = parse_annotation(reply.replace("**", ""), 9, ERROR_TAGS)
    assert found == Annotation(tuple(n - 1 for n in numbers), tag)


@pytest.mark.parametrize(
    "reply",
    [
        "segments: 0\ntag: plan", "segments: 4\ntag: plan", "segments: 2-1\ntag: plan", "segments: 1\ntag: it is 12",
        "segments: 1", "tag: plan", "segments: one\ntag: plan", "segments: 1 and 2\ntag: plan", "segments: \ntag: plan",
        "segments: 99999999999999999999999\ntag: plan", "segments: 1\u0662\ntag: plan",
    ],
)  # fmt: skip
def test_unclear_replies_mark_nothing(reply):
    assert parse_annotation(reply, 3, KEY_TAGS) is None
