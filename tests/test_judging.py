"""Judges in this process, several opinions, recorded replies, and the conformance kit of faults."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest

from rfenvs.graders.judge_prompt import judge_messages, reply_schema
from rfenvs.graders.judges import (
    HARMLESS,
    CallableJudge,
    Fault,
    FaultyJudge,
    JudgeClient,
    JudgeReply,
    KeywordJudge,
    ReplayJudge,
    ScriptedJudge,
    question_hash,
)
from rfenvs.graders.judging import Settings, judge
from rfenvs.graders.rubric import CANARY, JudgeError, read_rubric
from rfenvs.rows import DataError
from rfenvs.servers import Usage

RUBRIC = read_rubric(
    [
        {
            "name": "cats",
            "text": "It speaks of cats.",
            "weight": 3,
            "rule": {"all": ["cat"], "hint": "What about pets?"},
        },
        {"name": "both", "text": "Pets named.", "choices": ["0", "1", "2"], "rule": {"all": ["cat", "dog"]}},
    ]
)
KEYWORD = KeywordJudge(RUBRIC.criteria)


def ask(client: JudgeClient, answer: str = "A cat.", **settings):
    return judge(client, RUBRIC, prompt="Name pets.", answer=answer, settings=Settings(**settings))


def opinions(*ranks: tuple[str, str], canary: str = "no") -> CallableJudge:
    """A judge whose opinion depends on the seed."""

    def call(messages, *, temperature, seed):
        given = zip(("cats", "both", CANARY.name), (*ranks[seed % len(ranks)], canary), strict=True)
        return json.dumps({"verdicts": [{"name": n, "reason": f"Opinion {seed}.", "verdict": v} for n, v in given]})

    return CallableJudge(call)


# One opinion.


def test_rules_decide_and_menus_are_climbed_by_points():
    judged = ask(KEYWORD)
    assert [(r.rank, r.share, r.met) for r in judged.results] == [(1, 1.0, True), (1, 0.5, False)]
    assert judged.score == (3 + 0.5) / 4
    assert ask(KEYWORD, "A bird.").results[0].reason == "What about pets?"
    assert ask(KEYWORD, "A bird.").results[1].reason == "0 of 2 points that count here are met."


def test_a_criterion_without_a_rule_is_not_guessed():
    with pytest.raises(JudgeError, match="has no rule"):
        judge(KeywordJudge(read_rubric(["?"]).criteria), read_rubric(["?"]), prompt="", answer="x")


def test_a_function_is_given_fresh_messages_and_its_errors_are_its_own():
    def meddling(messages, *, temperature, seed):
        messages[0]["content"] = "Say yes."
        raise MemoryError("engine")

    with pytest.raises(MemoryError):
        ask(CallableJudge(meddling))
    assert ask(KEYWORD).score == 3.5 / 4


def test_a_script_knows_what_it_was_written_for():
    messages = judge_messages((*RUBRIC.criteria, CANARY), prompt="Name pets.", answer="A cat.")
    reply = KEYWORD.complete(
        messages, schema=reply_schema((*RUBRIC.criteria, CANARY)), temperature=0, seed=0, timeout=1
    )
    scripted = ScriptedJudge({question_hash(messages): reply.text})
    assert ask(scripted).score == ask(KEYWORD).score
    with pytest.raises(JudgeError) as raised:
        ask(scripted, "A dog.")
    assert (raised.value.code, raised.value.retryable) == ("not_recorded", False)


# Several.


def test_the_median_counts_and_the_worse_one_of_two():
    judge_of_three = opinions(("yes", "2"), ("no", "2"), ("yes", "0"))
    judged = ask(judge_of_three, samples=3)
    assert [result.rank for result in judged.results] == [1, 2]
    assert [result.agreement for result in judged.results] == [2 / 3, 2 / 3]
    assert judged.results[1].reason == "Opinion 0."
    assert judged.usage.calls == 3
    assert [result.rank for result in ask(judge_of_three, samples=2).results] == [0, 2]


def test_confidence_is_low_where_opinions_differ():
    judged = ask(opinions(("yes", "0"), ("yes", "1"), ("yes", "2"), ("yes", "2")), samples=4)
    assert [result.low_confidence for result in judged.results] == [False, True]
    assert judged.agreement == (1 + 0.25) / 2


def test_one_opinion_is_the_likeliest_and_several_differ():
    seen = []

    def call(messages, *, temperature, seed):
        seen.append((temperature, seed))
        return opinions(("yes", "2")).call(messages, temperature=temperature, seed=seed)

    ask(CallableJudge(call), seed=5)
    ask(CallableJudge(call), samples=2, seed=5)
    assert seen == [(0.0, 5), (0.7, 5), (0.7, 6)]


def test_an_answer_that_speaks_to_its_grader_is_worth_nothing_whatever_it_does_for_the_task():
    judged = ask(opinions(("yes", "2"), canary="yes"))
    assert (judged.score, judged.gate.code) == (0.0, "addresses_grader")


def test_one_call_a_criterion_asks_for_each_alone():
    seen = []

    def call(messages, *, temperature, seed):
        seen.append(messages[1]["content"])
        names = [name for name in ("cats", "both", CANARY.name) if f'- "{name}"' in seen[-1]]
        (name,) = names
        verdict = {"cats": "yes", "both": "2", CANARY.name: "no"}[name]
        return json.dumps({"verdicts": [{"name": name, "reason": "", "verdict": verdict}]})

    judged = ask(CallableJudge(call), per_criterion=True)
    assert (judged.score, judged.usage.calls, len(seen)) == (1.0, 3, 3)


@pytest.mark.parametrize("parallel", [1, 4])
def test_the_result_does_not_depend_on_how_many_are_asked_at_a_time(parallel):
    judged = ask(opinions(("yes", "2"), ("no", "1"), ("no", "0")), samples=3, parallel=parallel)
    assert [(r.rank, r.reason) for r in judged.results] == [(0, "Opinion 1."), (1, "Opinion 1.")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("samples", 0), ("samples", 1.5), ("attempts", 0), ("parallel", 0), ("timeout_s", 0.0), ("temperature", -1.0),
     ("low_agreement", 2.0), ("min_characters", -1), ("timeout_s", float("nan"))],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"{setting}="):
        Settings(**{setting: value})


def test_several_opinions_without_chance_are_refused():
    with pytest.raises(ValueError, match="samples=3 with temperature=0"):
        Settings(samples=3, temperature=0.0)


# Faults.


@pytest.mark.parametrize("fault", get_args(Fault))
@pytest.mark.parametrize("per_criterion", [False, True])
def test_a_fault_leaves_the_right_verdict_or_none(fault, per_criterion):
    faulty = FaultyJudge(KEYWORD, [fault])
    if fault in HARMLESS:
        assert ask(faulty, per_criterion=per_criterion).score == ask(KEYWORD).score
    else:
        with pytest.raises(JudgeError):
            ask(faulty, per_criterion=per_criterion)


@pytest.mark.parametrize("fault", sorted(set(get_args(Fault)) - HARMLESS - {"timeout", "refusal"}))
def test_what_cannot_be_read_is_asked_for_once_more(fault):
    judged = ask(FaultyJudge(KEYWORD, [fault, "ok"]))
    assert (judged.score, judged.usage.calls) == (ask(KEYWORD).score, 2)


def test_the_cost_of_failures_is_told():
    spoiled = CallableJudge(lambda messages, **_: JudgeReply("no JSON", Usage(1, 50, 5)))
    with pytest.raises(JudgeError) as raised:
        ask(spoiled, attempts=3)
    assert raised.value.usage == Usage(3, 150, 15)


@pytest.mark.parametrize("client", [KEYWORD, ScriptedJudge({}), FaultyJudge(KEYWORD), ReplayJudge("x.jsonl")])
def test_judges_can_be_copied_and_pickled(client):
    assert isinstance(client, JudgeClient)
    assert copy.deepcopy(client) == client
    assert pickle.loads(pickle.dumps(client)) == client


# Recorded replies.


def test_what_was_recorded_is_replayed_without_the_judge(tmp_path):
    path = tmp_path / "replies.jsonl"
    asked = []

    def call(messages, **settings):
        asked.append(settings["seed"])
        return opinions(("yes", "2"), ("no", "1")).call(messages, **settings)

    recording = ReplayJudge(path, record=CallableJudge(call))
    first = ask(recording, samples=2)
    assert ask(recording, samples=2) == first
    assert asked == [0, 1]
    assert len(path.read_text().splitlines()) == 2
    twin = tmp_path / "copy.jsonl"
    twin.write_bytes(path.read_bytes())
    assert ask(ReplayJudge(twin), samples=2) == first


@pytest.mark.parametrize("change", [{"seed": 9}, {"temperature": 0.5}])
def test_another_question_is_not_answered(tmp_path, change):
    ask(ReplayJudge(tmp_path / "replies.jsonl", record=KEYWORD))
    with pytest.raises(JudgeError, match=r"replies\.jsonl has no reply.*record=") as raised:
        ask(ReplayJudge(tmp_path / "replies.jsonl"), **change)
    assert not raised.value.retryable
    with pytest.raises(JudgeError):
        ask(ReplayJudge(tmp_path / "replies.jsonl"), "A dog.")


def test_recording_from_many_threads_keeps_lines_whole(tmp_path):
    path = tmp_path / "replies.jsonl"
    recording = ReplayJudge(path, record=KEYWORD)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ask(recording, f"Cat {i % 20}."), range(100)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == 20


def test_a_recording_that_was_killed_in_a_line_can_be_continued(tmp_path):
    path = tmp_path / "replies.jsonl"
    ask(ReplayJudge(path, record=KEYWORD))
    ask(ReplayJudge(path, record=KEYWORD), "A dog.")
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(path.read_bytes()[:-20])
    assert ask(ReplayJudge(torn, record=KEYWORD)) == ask(KEYWORD)
    ask(ReplayJudge(torn, record=KEYWORD), "A bird.")
    lines = torn.read_text().splitlines()
    assert [len(lines), json.loads(lines[-1])["messages"][0]["role"]] == [3, "system"]


def test_a_file_of_something_else_is_named_with_its_line(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text('{"key": 1}\n{"key": 2}\n')
    with pytest.raises(DataError, match=r"replies\.jsonl, line 1"):
        ask(ReplayJudge(path))
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        ask(ReplayJudge(tmp_path / "none.jsonl"))
