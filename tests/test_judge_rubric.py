"""Rubrics and the reading of verdicts: a judgement is whole, or it is an error."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rfenvs.graders.rubric import (
    CANARY,
    EXAMPLE,
    Criterion,
    JudgeError,
    Rubric,
    Rule,
    Usage,
    objects_with_key,
    parse_judgement,
    read_rubric,
)

MENUS = st.lists(st.sampled_from(["bad", "poor", "fair", "good", "best"]), min_size=2, max_size=5, unique=True)


@st.composite
def rubrics(draw) -> Rubric:
    count = draw(st.integers(1, 5))
    weights = draw(st.lists(st.floats(0, 1e300) | st.integers(0, 5), min_size=count, max_size=count).filter(any))
    return Rubric(
        criteria=tuple(
            Criterion(name=f"c{i}", text="Is it?", weight=weight, choices=tuple(draw(MENUS)))
            for i, weight in enumerate(weights)
        )
    )


@st.composite
def judgements(draw) -> tuple[Rubric, list[dict[str, str]]]:
    rubric = draw(rubrics())
    given = [
        {"name": c.name, "reason": draw(st.text(max_size=20)), "verdict": draw(st.sampled_from(c.choices))}
        for c in rubric.criteria
    ]
    return rubric, given


PROSE = st.text(st.characters(exclude_characters='{"', exclude_categories=["Cs"]), max_size=60)
YES_NO = read_rubric(["Is it short?", "Is it kind?"])
WHOLE = [{"name": f"criterion_{n}", "reason": "It is.", "verdict": "yes"} for n in (1, 2)]


def reply(*verdicts: dict) -> str:
    return json.dumps({"verdicts": list(verdicts)})


# Scores.


@given(rubrics(), st.data())
def test_the_score_is_the_weighted_mean_of_the_shares(rubric, data):
    ranks = [data.draw(st.integers(0, len(c.choices) - 1)) for c in rubric.criteria]
    score = rubric.score(ranks)
    top = max(c.weight for c in rubric.criteria)
    weights = [c.weight / top for c in rubric.criteria]
    shares = [rank / (len(c.choices) - 1) for c, rank in zip(rubric.criteria, ranks, strict=True)]
    assert score == pytest.approx(sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights))
    assert 0 <= score <= 1
    best = all(rank == len(c.choices) - 1 for c, rank in zip(rubric.criteria, ranks, strict=True) if c.weight)
    assert (score == 1.0) >= best


@given(rubrics())
def test_the_best_verdicts_earn_exactly_one_and_the_worst_exactly_nothing(rubric):
    assert rubric.score([len(c.choices) - 1 for c in rubric.criteria]) == 1.0
    assert rubric.score([0] * len(rubric.criteria)) == 0.0


def test_a_worked_example():
    rubric = read_rubric(
        [{"name": "a", "text": "?", "weight": 3}, {"name": "b", "text": "?", "choices": ["1", "2", "3", "4", "5"]}]
    )
    assert rubric.score([1, 1]) == (3 * 1 + 1 * 0.25) / 4


# What a rubric may be.


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "at least 1 item"),
        (5, "a list of criteria, got int"),
        ({"other": 1}, "a list of criteria, got NoneType"),
        ([{"name": "a"}], "criterion 1: text"),
        ([{"name": " ", "text": "x"}], "criterion 1: name: must hold more than blanks"),
        (["x", {"name": "a", "text": "x", "weight": -1}], "criterion 2: weight"),
        ([{"name": "a", "text": "x", "weight": float("inf")}], "weight"),
        ([{"name": "a", "text": "x", "weight": float("nan")}], "weight"),
        ([{"name": "a", "text": "x", "weight": 0}], "no criterion has a weight above 0"),
        ([{"name": "a", "text": "x", "wieght": 1}], "wieght"),
        ([{"name": "a", "text": "x", "choices": ["yes"]}], "two or more different words"),
        ([{"name": "a", "text": "x", "choices": ["Yes", "yes "]}], "two or more different words"),
        ([{"name": "a", "text": "x", "levels": ["only one"]}], "has 1 levels for 2 choices"),
        ([{"name": "a", "text": "x"}, {"name": "A", "text": "y"}], "'a' is there twice"),
        ([{"name": CANARY.name, "text": "x"}], "choose another"),
        ([{"name": "a", "text": "x", "rule": {"all": ["("]}}], "no regular expression"),
        ([{"name": "a", "text": "x", "rule": {"hint": "Try harder."}}], "needs one of all, any"),
    ],
)
def test_what_is_no_rubric_is_refused_with_the_reason(value, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_rubric(value)


def test_biggen_bench_rubrics_become_one_criterion_with_levels():
    levels = {f"score{n}_description": f"Level {n}." for n in range(1, 6)}
    (criterion,) = read_rubric({"criteria": "Is it good?", **levels}).criteria
    assert criterion.choices == ("1", "2", "3", "4", "5")
    assert criterion.levels[4] == "Level 5."
    assert criterion.share(criterion.rank("4")) == 0.75


@pytest.mark.parametrize(
    ("rule", "answer", "points"),
    [
        ({"all": ["a", "b"]}, "A", (1, 2)),
        ({"all": ["a"], "any": ["x", "y"]}, "a y", (2, 2)),
        ({"any": ["x", "y"]}, "z", (0, 1)),
        ({"all": ["a", "b"], "none": ["bad"]}, "a b BAD", (0, 3)),
        ({"none": ["bad"]}, "good", (1, 1)),
        ({"max_words": 2}, "one two", (1, 1)),
        ({"min_words": 2, "max_words": 2}, "one two three", (1, 2)),
    ],
)
def test_rules_count_points(rule, answer, points):
    assert Rule(**rule).points(answer) == points


# Reading verdicts.


@given(judgements(), PROSE, PROSE, st.randoms())
def test_a_whole_judgement_is_read_whatever_stands_around_it_and_in_any_order(judgement, before, after, random):
    rubric, given = judgement
    random.shuffle(given)
    read = parse_judgement(f"{before}\n{reply(*given)}\n{after}", rubric.criteria)
    assert [v.name for v in read.verdicts] == [c.name for c in rubric.criteria]
    assert {v.name: v.verdict for v in read.verdicts} == {v["name"]: v["verdict"] for v in given}


@given(st.text(st.characters(), max_size=300))
def test_arbitrary_text_never_scores(text):
    with pytest.raises(JudgeError):
        parse_judgement(text, YES_NO.criteria)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["yes", "criterion_1", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "reason", "verdict", "verdicts", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_json_of_another_shape_never_scores(value):
    with pytest.raises(JudgeError):
        parse_judgement(json.dumps({"verdicts": value}), YES_NO.criteria)


@given(judgements(), st.data())
def test_no_part_of_a_judgement_can_be_missing(judgement, data):
    rubric, given = judgement
    text = reply(*given)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(JudgeError):
        parse_judgement(cut, rubric.criteria)
    entry = data.draw(st.sampled_from(given))
    lacking = [{k: v for k, v in e.items() if e is not entry or k != field} for e in given for field in ["name"]]
    with pytest.raises(JudgeError):
        parse_judgement(reply(*lacking), rubric.criteria)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "no_json"),
        ("yes", "no_json"),
        ('{"name": "criterion_1", "verdict": "yes"}', "no_json"),
        (json.dumps({"result": {"verdicts": WHOLE}}), "no_json"),
        (json.dumps(EXAMPLE), "no_json"),
        (reply(*WHOLE).replace('"', "'"), "no_json"),
        (reply(*WHOLE)[:-1] + ', "verdicts": []}', "no_json"),
        (reply(*WHOLE)[:-2], "no_json"),
        (reply(*WHOLE) + reply(*WHOLE[::-1]), "ambiguous"),
        ('{"verdicts": {"criterion_1": "yes"}}', "malformed"),
        (reply("yes", "yes"), "malformed"),
        (reply({**WHOLE[0], "verdict": True}, WHOLE[1]), "malformed"),
        (reply({**WHOLE[0], "verdict": None}, WHOLE[1]), "malformed"),
        (reply({**WHOLE[0], "verdict": ["yes"]}, WHOLE[1]), "malformed"),
        (reply({"name": "criterion_1", "verdict": "yes"}, WHOLE[1]), "malformed"),
        (reply({**WHOLE[0], "verdict": "mostly"}, WHOLE[1]), "off_menu"),
        (reply({**WHOLE[0], "verdict": "yes, no"}, WHOLE[1]), "off_menu"),
        (reply({**WHOLE[0], "verdict": 1}, WHOLE[1]), "off_menu"),
        (reply({**WHOLE[0], "verdict": ""}, WHOLE[1]), "off_menu"),
        (reply(WHOLE[0], WHOLE[0]), "duplicate"),
        (reply(*WHOLE, {**WHOLE[0], "verdict": "no"}), "duplicate"),
        (reply(WHOLE[0]), "missing"),
        (reply(), "missing"),
        (reply(*WHOLE, {**WHOLE[0], "name": "overall"}), "unknown"),
        (reply(*WHOLE) + " " * 100_000, "too_long"),
    ],
)
def test_each_kind_of_fault_has_its_name_and_can_be_asked_again(text, code):
    with pytest.raises(JudgeError) as raised:
        parse_judgement(text, YES_NO.criteria)
    assert (raised.value.code, raised.value.retryable) == (code, True)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{reply(*WHOLE)}\n```",
        f'Form: {json.dumps(EXAMPLE)}\nAn entry: {{"name": "criterion_1", "verdict": "no"}}\n{reply(*WHOLE)}',
        f"<think>{reply(*WHOLE[:1])} or {{x}}</think>{reply(*WHOLE)}",
        f"{reply(*WHOLE)}\nThat is: {reply(*WHOLE)}",
        f"The set {{1, 2}} is fine. {reply(*WHOLE)}",
        json.dumps({"overall": 2, "verdicts": [{**v, "score": 5} for v in WHOLE]}),
        reply(*({**v, "verdict": " YES ", "name": v["name"].upper()} for v in WHOLE)),
    ],
)
def test_what_does_no_harm_is_let_pass(text):
    assert [v.verdict for v in parse_judgement(text, YES_NO.criteria).verdicts] == ["yes", "yes"]


def test_numbers_on_a_menu_of_numbers_may_be_numbers():
    rubric = read_rubric({"criteria": "Good?", "score1_description": "No.", "score2_description": "Yes."})
    assert parse_judgement('{"verdicts": [{"name": "quality", "reason": "", "verdict": 2}]}', rubric.criteria)
    with pytest.raises(JudgeError):
        parse_judgement('{"verdicts": [{"name": "quality", "reason": "", "verdict": 2.0}]}', rubric.criteria)


def test_reasons_are_one_line_of_bounded_length():
    text = reply({**WHOLE[0], "reason": "word\n" * 500}, WHOLE[1])
    reason = parse_judgement(text, YES_NO.criteria).verdicts[0].reason
    assert len(reason) <= 300
    assert "\n" not in reason


@pytest.mark.timeout(5)
@pytest.mark.parametrize("text", ["{" * 99_000, '{"a":' * 19_000, "[" * 99_000, '{"' * 49_000, '{"verdicts":[' * 7000])
def test_hostile_replies_are_refused_in_time(text):
    with pytest.raises(JudgeError):
        parse_judgement(text, YES_NO.criteria)


def test_an_object_inside_another_is_not_taken_for_it():
    assert objects_with_key('{"a": {"verdicts": 1}} {"verdicts": 2}') == [{"verdicts": 2}]


def test_errors_survive_the_way_between_processes():
    error = JudgeError("timeout", "Too slow.", retryable=True, usage=Usage(1, 2, 3))
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (twin.code, str(twin), twin.retryable, twin.usage) == ("timeout", "Too slow.", True, Usage(1, 2, 3))


def test_rubrics_cannot_be_changed():
    with pytest.raises(ValidationError):
        YES_NO.criteria[0].weight = 2.0
