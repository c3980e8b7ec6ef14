"""A teacher behind a server: its scores, what it can do, whose tokens it has, and every way in which it fails."""

from __future__ import annotations

import json
import math

import pytest
import scoring_server as served
import torch
from models import save_tiny, tiny_tokenizer

from agents.batch import Batch, Sample
from agents.config import build
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.losses.stream import SparseTeacher
from agents.recipes.tools import StepTools
from agents.report.metrics import read_jsonl
from agents.teachers.reading import read, read_teacher
from agents.teachers.teacher import Teacher, TeacherSettings, make_teacher, make_teachers
from agents.training.trainer import Trainer

ITEMS = [([5, 6, 7, 8], [70, 71, 72]), ([5, 6, 9], [73]), ([1, 40, 41], [90, 91])]
TOKENS = [70, 71, 72, 73, 90, 91]


@pytest.fixture(scope="module")
def other_dir(tmp_path_factory):
    """Another model of the policy's tokenizer, with a wider head."""
    return save_tiny(tmp_path_factory.mktemp("other"), seed=3)


@pytest.fixture(scope="module")
def other(other_dir):
    return HFEngine.load(str(other_dir))


@pytest.fixture
def server(other):
    with served.serve(other) as server:
        yield server


def settings(server, **changes) -> TeacherSettings:
    plain = {"kind": "server", "url": server.url, "retries": 1, "top_k": 5, "timeout_s": 5.0}
    return TeacherSettings(**{**plain, **changes})


# ---- scores


@pytest.mark.parametrize("form", ["ids", "token_ids", "text"])
def test_scores_are_those_of_the_same_model_in_this_process(engine, other, other_dir, form):
    local = Teacher(engine, TeacherSettings(kind="external", model=str(other_dir)))
    logq = local.logits(ITEMS, 1.0).logits(slice(None)).log_softmax(-1)
    with served.serve(other, form) as server:
        scores = make_teacher(engine, settings(server)).score(ITEMS, 1.0)
    sparse = scores.logits
    assert isinstance(sparse, SparseTeacher)
    assert scores.failed == []
    assert sparse.rows == 6
    assert torch.allclose(sparse.target_logprob, logq[range(6), TOKENS], atol=1e-4)
    there = sparse.logprobs > -math.inf
    assert torch.allclose(sparse.logprobs[there], logq.gather(-1, sparse.ids)[there], atol=1e-4)
    if form == "text":  # texts of pieces of characters name no token
        assert there.float().mean() > 0.3
    else:
        likeliest = logq.topk(5)
        assert torch.allclose(sparse.logprobs, likeliest.values, atol=1e-4)
        assert torch.equal(sparse.ids, likeliest.indices)


def test_tokens_beyond_the_policys_outcomes_are_no_outcomes(engine, tmp_path):
    save_tiny(tmp_path, vocab_size=len(tiny_tokenizer()) + 300)
    with served.serve(HFEngine.load(str(tmp_path))) as server:
        sparse = make_teacher(engine, settings(server)).score(ITEMS, 1.0).logits
    assert int(sparse.ids.max()) < len(engine.head().weight)
    assert bool((sparse.logprobs == -math.inf).any()), "none of the likeliest was beyond: the test shows nothing"


def test_an_item_is_asked_for_once_in_a_call_and_once_in_a_run(engine, server):
    teacher = make_teacher(engine, settings(server))
    before = len(server.requests)
    first = teacher.score([*ITEMS, ITEMS[0]], 1.0).logits
    assert len(server.requests) == before + 3
    assert torch.equal(first.ids[:3], first.ids[6:])
    again = teacher.score(ITEMS, 1.0).logits
    assert len(server.requests) == before + 3
    assert torch.equal(again.logprobs, first.logprobs[:6])


def test_what_it_says_is_read_like_any_teacher(engine, server):
    teacher = make_teacher(engine, settings(server))
    samples = [Sample(p, a, None, [], "", 0.0, [], 0, k, 0, teacher_ids=p) for k, (p, a) in enumerate(ITEMS)]
    samples[1].teacher_ids = None
    batch = Batch(samples)
    batch.teacher = teacher.score([ITEMS[0], ITEMS[2]], 1.0).logits
    reading = read_teacher(batch)
    assert [math.isnan(x) for x in reading.logprob.tolist()] == [False] * 3 + [True] + [False] * 2
    assert not bool(reading.agrees[3])
    assert float(reading.confidence[0]) == pytest.approx(float(batch.teacher.logprobs[0, 0].exp()))


def test_the_entropy_of_a_sparse_teacher_is_that_of_its_tokens_and_the_rest():
    q = torch.tensor([[0.5, 0.25, 0.0], [1.0, 0.0, 0.0]])
    reading = read(SparseTeacher(torch.tensor([[7, 8, 0], [3, 0, 0]]), q.log(), q[:, 0].log()), torch.tensor([8, 3]))
    assert reading.entropy.tolist() == pytest.approx([1.5 * math.log(2), 0.0])
    assert reading.confidence.tolist() == pytest.approx([0.5, 1.0])
    assert reading.agrees.tolist() == [False, True]
    full = torch.tensor([0.5, 0.25, 0.2, 0.05])
    assert float(reading.entropy[0]) <= float(-(full * full.log()).sum()), "merging tokens lowers the entropy"


def test_another_temperature_than_the_servers_is_refused(engine, server):
    teacher = make_teacher(engine, settings(server, temperature=1.25))
    assert teacher.score(ITEMS, 0.8).logits is not None
    with pytest.raises(SetupError, match=r"teacher\.temperature=1\.25 beside sampling\.temperature=1 .*1\.25"):
        teacher.score(ITEMS, 1.0)


def test_teachers_with_one_source_ask_one_server_once(engine, server):
    one = settings(server)
    made = make_teachers(engine, {"a": one, "b": one.model_copy(update={"temperature": 2.0})})
    asked = len(server.requests)
    assert made["a"].scoring is made["b"].scoring
    made["a"].score(ITEMS, 1.0)
    made["b"].score(ITEMS, 0.5)
    assert len(server.requests) == asked + 3
    assert made["a"].context_length == 199
    assert made["a"].state_dict() == {}


# ---- answers


@pytest.mark.parametrize("form", ["ids", "text", "none"])
def test_it_answers_as_the_same_model_in_this_process(engine, other, form):
    messages = [{"role": "user", "content": "Is it raining?"}]
    prompt = engine.chat.encode(messages)
    greedy = Sampling(temperature=0.0, max_tokens=6)
    (expected,) = other.generate([prompt], greedy, 0)
    with served.serve(other, form) as server:
        teacher = make_teacher(engine, settings(server))
        (answer,) = teacher.say([messages], greedy, 0)
        (completion,) = teacher.generate([prompt], greedy, 0, [messages])
        assert answer.text == engine.chat.decode(expected.ids)
        if form == "ids":
            assert (completion.ids, completion.finish_reason) == (expected.ids, expected.finish_reason)
            assert completion.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        else:
            assert engine.chat.decode(completion.ids) == answer.text
            assert all(math.isnan(x) for x in completion.logprobs)
        assert len(completion.logprobs) == len(completion.ids)


@pytest.mark.parametrize("form", ["ids", "none"])
def test_recipes_ask_it_like_any_teacher(engine, other, form):
    messages = [{"role": "user", "content": "Is it raining?"}]
    with served.serve(other, form) as server:
        tools = StepTools(engine.chat, engine=engine, teachers={"teacher": make_teacher(engine, settings(server))})
        (reply,) = tools.ask([messages], "teacher", max_tokens=6, temperature=0.0)
        (expected,) = other.generate([engine.chat.encode(messages)], Sampling(temperature=0.0, max_tokens=6), 0)
        assert reply.text == engine.chat.decode(expected.ids)
        paths = [request["path"] for request in server.requests]
        assert paths[-1] == ("/v1/completions" if form == "ids" else "/v1/chat/completions")
        if form == "none":
            with pytest.raises(SetupError, match="no token ids"):
                tools.go_on([[5, 6]], "teacher", max_tokens=2)


def test_a_local_teacher_says_what_it_generates_and_goes_on_where_it_was_left(engine):
    teacher, greedy = Teacher.live(engine), Sampling(temperature=0.0, max_tokens=4)
    messages = [{"role": "user", "content": "Is it raining?"}]
    (answer,) = teacher.say([messages], greedy, 0)
    assert answer.ids == engine.generate([engine.chat.encode(messages)], greedy, 0)[0].ids
    begun = [*messages, {"role": "assistant", "content": "weather"}]
    (more,) = teacher.say([begun], greedy, 0)
    prompt = engine.chat.encode(messages) + engine.chat.plain("weather")
    assert more.ids == engine.generate([prompt], greedy, 0)[0].ids


# ---- before the first step


def test_a_server_without_log_probabilities_is_a_black_box(engine, other):
    with served.serve(other, "none") as server:
        teacher = make_teacher(engine, settings(server))
        assert teacher.abilities == {"generate"}
        with pytest.raises(SetupError, match="text alone"):
            teacher.score(ITEMS, 1.0)


def test_a_server_that_gives_fewer_tokens_says_so_at_once(engine, server):
    server.most = 3
    with pytest.raises(SetupError, match=r"recipe\.teacher\.top_k=5 is more than .* lower it"):
        make_teacher(engine, settings(server))
    assert make_teacher(engine, settings(server, top_k=3)).score(ITEMS, 1.0).logits.ids.shape == (6, 3)


@pytest.mark.parametrize("how", ["tokenize", "ids", "text"])
def test_another_tokenizer_is_refused(engine, other, how):
    shifted = tiny_tokenizer()
    decode, encode = shifted.decode, shifted.__call__

    class Shifted:
        """A tokenizer whose words have other ids."""

        def decode(self, ids):
            return decode([i + 1 for i in ids])

        def __call__(self, text, **options):
            return {"input_ids": [i + 1 for i in encode(text, **options)["input_ids"]]}

    form = "ids" if how == "tokenize" else how
    with served.serve(other, form, tokenizer=Shifted()) as server:
        server.tokenizes = how == "tokenize"
        with pytest.raises(SetupError, match=r"recipe\.teacher\.url=.*same id in both"):
            make_teacher(engine, settings(server))


def test_the_same_tokenizer_is_taken_where_the_server_tells_it(engine, server):
    server.tokenizes = True
    assert make_teacher(engine, settings(server)).scoring.form == "prompt_logprobs"
    assert any(request["path"] == "/tokenize" for request in server.requests)


def test_nobody_at_the_address(engine, server):
    server.server_close()
    with pytest.raises(SetupError, match=r"recipe\.teacher\.url=.*connection .*broke"):
        make_teacher(engine, settings(server, retries=0))


def test_the_key_is_sent_and_a_missing_one_is_named(engine, server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    make_teacher(engine, settings(server, api_key_variable="MY_KEY"))
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(SetupError, match="MY_KEY"):
        make_teacher(engine, settings(server, api_key_variable="MY_KEY"))


# ---- faults


def nan(choice):
    choice["prompt_logprobs"][-1] = {i: {"logprob": math.nan} for i in choice["prompt_logprobs"][-1]}


def shorter(choice):
    choice["prompt_logprobs"].pop()


def strangers(choice):
    choice["prompt_logprobs"][-1] = {"3": {"logprob": -1.0}}


def heavy(choice):
    choice["prompt_logprobs"][-1] = {i: {"logprob": -0.1} for i in choice["prompt_logprobs"][-1]}


FAULTS = {
    "500": served.status(500),
    "429": served.status(429, Retry_After="0.05"),
    "timeout": served.sleeps(2.0),
    "too few tokens": served.edits(shorter),
    "nan": served.edits(nan),
    "other tokens": served.edits(strangers),
    "more than 1": served.edits(heavy),
    "no completion": lambda body, answer: {"choices": []},
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_tried_again(engine, server, name):
    teacher = make_teacher(engine, settings(server, timeout_s=1.0 if name == "timeout" else 10.0, concurrency=1))
    server.faults = [FAULTS[name]]
    asked = len(server.requests)
    scores = teacher.score(ITEMS, 1.0)
    assert scores.failed == []
    assert len(server.requests) == asked + 4


@pytest.mark.parametrize("name", FAULTS)
def test_what_still_fails_leaves_its_item_out(engine, server, name):
    teacher = make_teacher(engine, settings(server, timeout_s=1.0 if name == "timeout" else 10.0, concurrency=1))
    server.faults = [None, FAULTS[name], FAULTS[name]]
    scores = teacher.score(ITEMS, 1.0)
    assert scores.failed == [1]
    assert scores.logits.rows == 5
    whole = teacher.score(ITEMS, 1.0)
    assert whole.failed == [], "a failure is not remembered"
    assert torch.equal(whole.logits.ids[[0, 1, 2, 4, 5]], scores.logits.ids)


def test_too_many_failures_stop_the_run_with_one_error(engine, server):
    teacher = make_teacher(engine, settings(server, retries=0, concurrency=1))
    server.always = served.status(503)
    items = [([5, 6], [70 + k]) for k in range(8)]
    asked = len(server.requests)
    with pytest.raises(SetupError, match=r"max_failed=0\.5: 5 of 8 requests .*server 5.*503.*checkpoint"):
        teacher.score(items, 1.0)
    assert len(server.requests) == asked + 5, "the rest is not asked for"
    with pytest.raises(SetupError, match="max_failed"):
        teacher.say([[{"role": "user", "content": "a"}]], Sampling(max_tokens=2), 0)


def test_a_server_that_drops_half_of_its_replies_teaches_the_rest(engine, server):
    teacher = make_teacher(engine, settings(server, retries=0, concurrency=1))
    server.faults = [served.status(500), None] * 4
    scores = teacher.score([([5, 6], [70 + k]) for k in range(8)], 1.0)
    assert scores.failed == [0, 2, 4, 6]
    assert scores.logits.rows == 4


def test_all_may_fail_where_that_is_allowed(engine, server):
    teacher = make_teacher(engine, settings(server, retries=0, max_failed=1.0))
    server.always = served.status(500)
    scores = teacher.score(ITEMS, 1.0)
    assert (scores.logits, scores.failed) == (None, [0, 1, 2])
    (answer,) = teacher.say([[{"role": "user", "content": "a"}]], Sampling(max_tokens=2), 0)
    assert (answer.text, answer.finish_reason) == ("", "failed")


# ---- cache


def test_a_folder_outlives_the_process_and_a_broken_file_is_asked_for_again(engine, server, tmp_path):
    here = settings(server, cache=str(tmp_path / "scores"))
    first = make_teacher(engine, here).score(ITEMS, 1.0).logits
    asked = len([r for r in server.requests if r["path"] == "/v1/completions"])
    teacher = make_teacher(engine, here)
    probes = len([r for r in server.requests if r["path"] == "/v1/completions"]) - asked
    again = teacher.score(ITEMS, 1.0).logits
    assert torch.equal(first.logprobs, again.logprobs)
    assert len([r for r in server.requests if r["path"] == "/v1/completions"]) == asked + probes
    for path in sorted((tmp_path / "scores").rglob("*.npz"))[:1]:
        path.write_bytes(path.read_bytes()[:40])
    once_more = make_teacher(engine, here).score(ITEMS, 1.0).logits
    assert torch.allclose(first.logprobs, once_more.logprobs, atol=1e-5)
    assert len([r for r in server.requests if r["path"] == "/v1/completions"]) == asked + 2 * probes + 1


def test_the_scores_of_another_teacher_are_refused(engine, server, tmp_path):
    folder = tmp_path / "scores"
    theirs = make_teacher(engine, settings(server, cache=str(folder))).score(ITEMS, 1.0).logits
    files = sorted(folder.rglob("*.npz"))
    server.engine = engine  # other weights behind the same address and name
    with pytest.warns(UserWarning, match=r"recipe\.teacher\.cache=.*another teacher .*nats.*neither read nor written"):
        teacher = make_teacher(engine, settings(server, cache=str(folder)))
    assert not torch.allclose(teacher.score(ITEMS, 1.0).logits.logprobs, theirs.logprobs, atol=1e-2)
    teacher.score([([5, 6], [88])], 1.0)
    assert sorted(folder.rglob("*.npz")) == files
    with pytest.warns(UserWarning, match="other settings"):
        make_teacher(engine, settings(server, cache=str(folder), top_k=4))


# ---- a run


def run_settings(server, tiny_dir, directory, recipe=None, **teacher):
    return {
        "recipe": {
            "name": "opd", "support": "teacher",
            "teacher": {"kind": "server", "url": server.url, "top_k": 5, "retries": 0, **teacher}, **(recipe or {}),
        },
        "model": {"name": str(tiny_dir)}, "env": {"id": "rfenvs/ToolCall-v0"}, "sampling": {"max_tokens": 4},
        "batch": {"tasks": 2, "attempts": 2}, "eval": {"tasks": 0}, "steps": 2, "check_teacher": 2,
        "run_dir": str(directory),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["support", "sampled"])
def test_the_policy_is_distilled_from_a_server(tiny_dir, server, tmp_path, form):
    server_recipe = {} if form == "support" else {"form": "sampled", "support": "student"}
    server.always = None
    trainer = Trainer(build(run_settings(server, tiny_dir, tmp_path, server_recipe)))
    run = trainer.run()
    rows = [row for row in read_jsonl(run.directory / "metrics.jsonl") if row["kind"] == "train"]
    assert [(row["optimizer_steps"], row["taught"], row["teacher_failed"]) for row in rows] == [(1, 1.0, 0)] * 2
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)


def test_a_run_goes_on_without_what_a_server_did_not_score(tiny_dir, server, tmp_path):
    trainer = Trainer(build(run_settings(server, tiny_dir, tmp_path) | {"check_teacher": 0}))
    server.faults = [served.status(500)]
    rows = [row for row in read_jsonl(trainer.run().directory / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["teacher_failed"] for row in rows] == [1, 0]
    assert [row["taught"] for row in rows] == [0.75, 1.0]
    assert [row["optimizer_steps"] for row in rows] == [1, 1]


def test_a_run_that_a_server_stops_can_be_resumed(tiny_dir, server, tmp_path):
    config = run_settings(server, tiny_dir, tmp_path) | {"check_teacher": 0, "save_every": 1}
    trainer = Trainer(build(config))
    server.faults = [None] * 4
    server.always = served.status(500)
    with pytest.raises(SetupError, match="max_failed"):
        trainer.run()
    server.always = None
    run = Trainer(build(config)).run()
    rows = [row for row in read_jsonl(run.directory / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [0, 1]


def test_logits_are_refused_from_a_server_by_the_names_of_both_settings(tiny_dir, server, other, tmp_path):
    with pytest.raises(SetupError, match=r"sampling\.temperature=0\.7 asks for the teacher at temperature 0\.7"):
        build(run_settings(server, tiny_dir, tmp_path) | {"sampling": {"temperature": 0.7}})
    with pytest.raises(SetupError, match=r"recipe\.top_k=7 .*recipe\.teacher\.top_k=5 tokens; give both the same"):
        build(run_settings(server, tiny_dir, tmp_path, {"top_k": 7}))
    config = run_settings(server, tiny_dir, tmp_path, {"support": "student"})
    with pytest.raises(
        SetupError,
        match=r"recipe\.top_k=0 needs the teacher's full logits, but recipe\.teacher\.kind="
        r"'server' gives the 5 likeliest tokens: set recipe\.support=teacher and recipe\.top_k=5",
    ):
        build(config)
    with pytest.raises(SetupError, match=r"support='teacher' needs .*recipe\.teacher\.top_k=0 gives text alone"):
        build(run_settings(server, tiny_dir, tmp_path, top_k=0))
    with served.serve(other, "none") as box, pytest.raises(SetupError, match="offers no log-probabilities"):
        Trainer(build(run_settings(box, tiny_dir, tmp_path)))
    assert not json.dumps(server.requests).count("prompt_logprobs"), "nobody was asked before the settings were read"
