"""A judge over HTTP, against a real server on loopback that fails in every way a server can."""

from __future__ import annotations

import copy
import email.utils
import json
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import judge_server as model
import pytest

from rfenvs.graders.judge_http import HTTPJudge
from rfenvs.graders.judge_prompt import judge_messages, reply_schema
from rfenvs.graders.judging import Settings, judge
from rfenvs.graders.rubric import JudgeError, parse_judgement, read_rubric
from rfenvs.servers import Usage

RUBRIC = read_rubric(
    [{"name": "a", "text": "It is short."}, {"name": "b", "text": "How good?", "choices": ["1", "2", "3"]}]
)
CRITERIA = RUBRIC.criteria


@pytest.fixture
def server():
    with model.serve() as server:
        yield server


def client(server, **settings) -> HTTPJudge:
    return HTTPJudge(server.url, "m", **{"key_env": None, "backoff_s": 0.001, "retries": 2, **settings})


def ask(client: HTTPJudge, answer: str = "An answer.", timeout: float = 5.0):
    messages = judge_messages(CRITERIA, prompt="A task.", answer=answer)
    return client.complete(messages, schema=reply_schema(CRITERIA), temperature=0.0, seed=7, timeout=timeout)


def test_a_call_sends_the_question_and_brings_back_text_and_cost(server):
    reply = ask(client(server))
    assert parse_judgement(reply.text, CRITERIA).verdicts[1].verdict == "3"
    assert (reply.usage, reply.finish_reason) == (Usage(1, 100, 10), "stop")
    (request,) = server.requests
    assert (request["model"], request["temperature"], request["seed"], request["max_tokens"]) == ("m", 0.0, 7, 2048)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["response_format"]["json_schema"]["schema"] == reply_schema(CRITERIA)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (model.fails(500), "server"), (model.fails(503), "server"), (model.fails(429), "rate_limited"),
        (model.resets, "connection"), (model.breaks_off, "connection"), (model.raw("<html>"), "malformed"),
        (model.raw('{"choices": []}'), "malformed"), (model.raw("[]"), "malformed"),
        (model.raw('{"choices": [{"message": {"content": 5}}]}'), "malformed"),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_what_does_not_pass_is_an_error(server, fault, code):
    server.script = [fault, fault]
    assert ask(client(server)).text
    assert len(server.requests) == 3
    server.default = fault
    with pytest.raises(JudgeError) as raised:
        ask(client(server))
    assert (raised.value.code, raised.value.retryable, len(server.requests)) == (code, True, 6)


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_what_will_not_pass_is_not_tried_again(server, status):
    server.default = model.fails(status, '{"error": "no such model"}')
    with pytest.raises(JudgeError, match=f"answered {status}: .*no such model") as raised:
        ask(client(server))
    assert (raised.value.code, raised.value.retryable, len(server.requests)) == ("http", False, 1)


@pytest.mark.parametrize("slow", [model.sleeps(2.0), model.drips])
def test_a_slow_server_is_left_in_time(server, slow):
    server.default = slow
    start = time.monotonic()
    with pytest.raises(JudgeError, match=r"did not answer within 0\.2 s") as raised:
        ask(client(server, retries=1), timeout=0.2)
    assert (raised.value.code, raised.value.retryable, len(server.requests)) == ("timeout", True, 2)
    assert time.monotonic() - start < 1.5


def test_nobody_at_the_address(server):
    server.server_close()
    with pytest.raises(JudgeError) as raised:
        ask(client(server, retries=1))
    assert (raised.value.code, raised.value.retryable) == ("connection", True)


@pytest.mark.parametrize("when", ["0.3", "date"])
def test_a_server_says_how_long_to_wait(server, when):
    later = email.utils.formatdate(time.time() + 2, usegmt=True)
    server.script = [model.fails(429, Retry_After=later if when == "date" else when)]
    ask(client(server))
    first, second = server.times
    assert second - first >= (0.3 if when == "0.3" else 0.9)


def test_waits_double(server):
    server.script = [model.fails(500)] * 3
    ask(client(server, retries=3, backoff_s=0.05))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert gaps[0] >= 0.05
    assert gaps[1] >= 0.1
    assert gaps[2] >= 0.2


# What the server can be held to.


def modes(server) -> list[str]:
    return [request.get("response_format", {"type": "text"})["type"] for request in server.requests]


@pytest.mark.parametrize(
    ("behaviour", "tried"),
    [
        (model.knows("json_schema", "json_object", "text"), ["json_schema"]),
        (model.knows("json_object", "text"), ["json_schema", "json_object"]),
        (model.knows("text"), ["json_schema", "json_object", "text"]),
        (model.empty_unless_text, ["json_schema", "json_object", "text"]),
    ],
)
def test_the_mode_is_found_out_once_for_all_judges_of_a_server(server, behaviour, tried):
    server.default = behaviour
    for _ in range(3):
        assert parse_judgement(ask(client(server)).text, CRITERIA)
    assert modes(server) == [*tried, tried[-1], tried[-1]]


def test_replies_of_no_use_are_paid_for_and_counted(server):
    server.default = model.empty_unless_text
    judge_of_it = client(server)
    assert ask(judge_of_it).usage == Usage(3, 300, 30)
    assert judge_of_it.usage == Usage(3, 300, 30)


def test_many_threads_find_it_out_once(server):
    server.default = model.knows("text")
    one = client(server)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ask(one, f"Answer {i}."), range(8)))
    assert sorted(modes(server)) == ["json_object", "json_schema", *["text"] * 8]


def test_a_request_that_no_mode_mends_is_refused_with_what_the_server_said(server):
    server.default = model.fails(400, '{"error": "seed must be positive"}')
    with pytest.raises(JudgeError, match=r"400.*seed must be positive"):
        ask(client(server))
    assert modes(server) == ["json_schema", "json_object", "text"]
    server.default = model.says(model.best)
    ask(client(server))
    assert modes(server)[3:] == ["json_schema"], "nothing was learnt from the failure"


def test_a_given_mode_is_not_left(server):
    server.default = model.knows("text")
    with pytest.raises(JudgeError, match='mode="text"'):
        ask(client(server, mode="json_object"))
    assert modes(server) == ["json_object"]


# Limits, keys, copies.


def test_calls_at_a_time_are_limited_over_all_judges_of_a_server(server):
    server.default = model.sleeps(0.05)
    ask(client(server, concurrency=2))
    judges = [client(server, concurrency=2) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, judges))
    assert server.busiest == 2


def test_the_key_is_sent_and_appears_nowhere_else(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret\n")
    judge_of_it = client(server, key_env="MY_KEY")
    ask(judge_of_it)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(judge_of_it) + json.dumps(server.requests)
    server.default = model.fails(401, "the key sk-secret is not valid")
    with pytest.raises(JudgeError) as raised:
        ask(judge_of_it)
    assert "sk-secret" not in str(raised.value)
    assert "[key]" in str(raised.value)


def test_a_missing_key_is_named_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ValueError, match=r"key_env='MY_KEY'.*key_env=None"):
        ask(client(server, key_env="MY_KEY"))
    assert not server.requests


def test_fields_can_be_added_changed_and_left_out(server):
    ask(client(server, extra={"max_tokens": None, "max_completion_tokens": 9, "temperature": 1}))
    request = server.requests[0]
    assert "max_tokens" not in request
    assert (request["max_completion_tokens"], request["temperature"]) == (9, 1)


def test_a_judge_can_be_copied_and_pickled(server):
    original = client(server)
    ask(original)
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert twin == original
        ask(twin)
    assert original.usage.calls == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [("base_url", "localhost:8000"), ("mode", "yaml"), ("retries", -1), ("concurrency", 0), ("max_tokens", 0),
     ("backoff_s", -1.0)],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(setting, value):
    arguments = {"base_url": "http://x/v1", "model": "m", setting: value}
    with pytest.raises(ValueError, match=f"{setting}="):
        HTTPJudge(**arguments)


def test_httpx_is_asked_for_by_the_name_of_the_extra():
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "from rfenvs.graders.judge_http import HTTPJudge\n"
        "try: HTTPJudge('http://127.0.0.1:9/v1', 'm', key_env=None).complete([], schema={}, temperature=0, seed=0, "
        "timeout=1)\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "rfenvs[judge]"' in said


# A whole judgement.


def test_a_refusal_is_no_verdict(server):
    server.default = model.refuses
    with pytest.raises(JudgeError) as raised:
        judge(client(server), RUBRIC, prompt="A task.", answer="An answer.")
    assert (raised.value.code, raised.value.retryable, raised.value.usage) == ("refusal", False, Usage(1, 100, 10))


def test_a_reply_cut_off_is_asked_for_again_with_another_seed_and_then_given_up(server):
    server.default = model.says(lambda body: model.best(body)[:40], "length")
    with pytest.raises(JudgeError, match="max_tokens") as raised:
        judge(client(server), RUBRIC, prompt="A task.", answer="An answer.", settings=Settings(attempts=3))
    assert (raised.value.code, raised.value.usage) == ("truncated", Usage(3, 300, 30))
    assert len({request["seed"] for request in server.requests}) == 3


def test_opinions_are_gathered_at_a_time(server):
    server.default = model.sleeps(0.3)
    one = client(server)
    ask(one)
    start = time.monotonic()
    judged = judge(one, RUBRIC, prompt="A task.", answer="An answer.", settings=Settings(samples=8, parallel=8))
    assert time.monotonic() - start < 1.5, "one after the other they take 2.4 s"
    assert (judged.score, judged.usage) == (1.0, Usage(8, 800, 80))


def test_after_a_failure_the_opinions_not_yet_asked_for_are_left_out(server):
    one = client(server)
    ask(one)
    started = threading.Event()

    def first_fails(handler, body):
        if not started.is_set():
            started.set()
            model.refuses(handler, body)
        else:
            model.sleeps(0.1)(handler, body)

    server.default = first_fails
    with pytest.raises(JudgeError, match="refused"):
        judge(one, RUBRIC, prompt="A task.", answer="An answer.", settings=Settings(samples=20, parallel=2))
    assert len(server.requests) < 8
