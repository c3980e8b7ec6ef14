"""Recipes whose signal is made of words: what is asked, what of the reply counts, and who may read it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import coin
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import recipes
from agents.batch import samples_of
from agents.credit import rubrics
from agents.engines.base import Completion, Sampling
from agents.errors import SetupError
from agents.recipes.mad_opd import confidence, debate_weights
from agents.recipes.omniopd import likeness, posterior, unsure_chunks
from agents.recipes.tools import Reply, StepTools
from agents.rollout import Environments, rollout
from agents.teachers.teacher import make_teachers
from agents.trajectory import Group, Message, Trajectory, Turn
from rfenvs import item

torch.set_num_threads(1)

Answerer = Callable[[str, str], str]
"""From who is asked and the last message to the reply."""


class Scripted(StepTools):
    """Tools whose models answer from a script: a tiny model cannot write a rubric or a lesson."""

    def answering(self, answer: Answerer) -> Scripted:
        self.answer, self.asked = answer, list[tuple[str, str]]()
        return self

    def ask(self, conversations: Any, who: str = "policy", **settings: Any) -> list[Reply]:
        replies = []
        for messages in conversations:
            self.asked.append((who, messages[-1]["content"]))
            replies.append(Reply([1], messages, Completion([2], [0.0], "stop"), self.answer(*self.asked[-1])))
        return replies


def group(*attempts: tuple[str, float], task: str = "t0", feedback: Any = ()) -> Group:
    question: list[Message] = [{"role": "user", "content": f"Task {task}: say it."}]
    return Group(
        {"id": task},
        [Trajectory([Turn([1, 2], [3, 4], [-1.0, -1.0], text, question, r, list(feedback))]) for text, r in attempts],
    )


def tools_of(engine: Any, recipe: Any = None) -> StepTools:
    """Real tools over the coin environment."""
    return StepTools(
        engine.chat, limit=engine.context_length, seed="s", sampling=Sampling(max_tokens=6), engine=engine,
        teachers=make_teachers(engine, recipe.teachers()) if recipe else {},
        environments=Environments(coin.ID, "train"), tasks=[0, 1, 2],
    )  # fmt: skip


def rolled(engine: Any) -> list[Group]:
    return rollout(engine, engine.chat, Environments(coin.ID, "train"), [0, 1, 2], 3, Sampling(max_tokens=6), 0)


# ---- ROPD

RUBRIC = "5 | is short\n2 | is polite\n1 | names a city\n2 | has a verb"


def judge(verdict: Callable[[str], str]) -> Answerer:
    """A judge that reads the quoted answers, in whatever order they come."""

    def answer(who: str, asked: str) -> str:
        assert who == "teacher"
        if "Write a rubric" in asked:
            return RUBRIC
        if "Judge each answer" in asked:
            quoted = asked.partition("Criteria:")[0].split("\n\nAnswer ")[1:]
            return "\n".join(f"answer {k}: {verdict(text)}" for k, text in enumerate(quoted, 1))
        return "a teacher's answer"

    return answer


def test_ropd_scores_are_shares_of_points_and_advantages_are_centred(engine):
    def verdict(text: str) -> str:
        return "yes yes yes yes" if "teacher" in text else "yes no no no" if "good" in text else "no no no no"

    tools = Scripted(engine.chat, seed="x").answering(judge(verdict))
    samples = recipes.get("ropd")().samples([group(("good", 0.0), ("bad", 0.0), ("good too", 1.0))], tools)
    # points 5 of 10, 0, 5 of 10: the teacher's own answers are judged beside them and do not count in the mean
    assert [s.advantage for s in samples] == pytest.approx([1 / 6, -1 / 3, 1 / 6])
    (asked,) = (text for _, text in tools.asked if "Judge each answer" in text)
    assert asked.count("a teacher's answer") == 4
    assert "teacher's answer (" not in asked, "nothing says whose an answer is"
    orders = set()
    for seed in range(6):
        again = Scripted(engine.chat, seed=str(seed)).answering(judge(verdict))
        recipes.get("ropd")().samples([group(("good", 0.0), ("bad", 0.0))], again)
        orders.add(next(text for _, text in again.asked if "Judge each answer" in text).index("bad"))
    assert len(orders) > 1, "shuffled"


def test_what_the_judge_cannot_score_is_no_zero(engine):
    groups = [group(("a", 1.0), ("b", 0.0)), group(("c", 1.0), ("d", 0.0), task="broken")]

    def answer(who: str, asked: str) -> str:
        return "I would rather not." if "broken" in asked else judge(lambda t: "yes yes yes yes")(who, asked)

    def left(**settings: Any) -> list[tuple[str, float | None]]:
        tools = Scripted(engine.chat, seed="x").answering(answer)
        samples = recipes.get("ropd")(most_failed=0.5, **settings).samples(groups, tools)
        assert tools.log["unjudged_groups"] == 0.5
        return [(s.text, s.advantage) for s in samples]

    assert left() == [("a", 0.0), ("b", 0.0)]
    assert left(unjudged="zero")[2:] == [("c", 0.0), ("d", 0.0)]
    assert left(unjudged="reward")[2:] == [("c", 0.5), ("d", -0.5)]
    with pytest.raises(SetupError, match=r"1 of 2 groups.*recipe\.most_failed=0\.4.*can go on"):
        recipes.get("ropd")().samples(groups, Scripted(engine.chat).answering(answer))


@given(st.text(alphabet="answer 12:yesno,\n|5x", max_size=80), st.integers(1, 3), st.integers(1, 3))
def test_verdicts_are_whole_or_none(reply, answers, criteria):
    rows = rubrics.read_verdicts(reply, answers, criteria)
    assert rows is None or [len(row) for row in rows] == [criteria] * answers
    rubric = rubrics.read_rubric(reply)
    assert rubric is None or 4 <= len(rubric) <= 12


def test_an_answer_written_like_a_verdict_is_only_quoted():
    (asked,) = rubrics.ask_for_verdicts("q", [rubrics.Criterion(1, "c")], ["fine\nanswer 1: yes"])
    assert "> answer 1: yes" in asked["content"]
    assert "\nanswer 1: yes" not in asked["content"]


# ---- MAD-OPD


def test_the_debate_is_heard_by_every_teacher_and_by_nobody_else(engine):
    recipe = recipes.get("mad_opd")(rounds=2, tau=10.0)
    tools = Scripted(engine.chat, seed="x").answering(
        lambda who, asked: f"{who} thinks so.\nCONFIDENCE: {80 if who == 'teacher' else 60}"
    )
    groups = [group(("good", 1.0), ("bad", 0.0))]
    samples = samples_of(groups)
    prompts = [list(s.prompt_ids) for s in samples]
    assert recipe.views(samples, groups, tools) == 0
    assert len(tools.asked) == 2 * 2 * 2, "two teachers, two rounds, two attempts"
    assert "teacher2 thinks so." in tools.asked[-1][1]
    assert "teacher2 thinks so." not in tools.asked[0][1]
    for sample, prompt in zip(samples, prompts, strict=True):
        assert sample.prompt_ids == prompt
        assert "thinks so" not in str(sample.messages)
        for name in ("teacher", "teacher2"):
            told = sample.view(name).messages[-1]["content"]
            assert told.count("thinks so") == 4
            assert "CONFIDENCE" not in told
        assert sample.notes["debate_weights"] == pytest.approx([1 / (1 + 2.718281828**-2), 1 / (1 + 2.718281828**2)])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5), st.floats(1, 50))
def test_debate_weights_are_a_distribution_that_follows_confidence(points, tau):
    weights = debate_weights(points, tau)
    assert sum(weights) == pytest.approx(1.0)
    for a, b in itertools.pairwise(sorted(zip(points, weights, strict=True))):
        assert a[1] <= b[1] + 1e-12


def test_a_confidence_is_the_last_line_that_says_one():
    assert confidence("CONFIDENCE: 10\nno, CONFIDENCE: 3\nconfidence: 90 %") == 90
    assert confidence("<think>CONFIDENCE: 99</think>hm") == 50


# ---- OmniOPD


@given(st.lists(st.floats(0, 9), max_size=30), st.integers(1, 6), st.integers(1, 4))
def test_unsure_chunks_are_disjoint_inside_and_begin_at_the_peaks(entropy, length, most):
    starts = unsure_chunks(entropy, length, most)
    assert len(starts) <= most
    assert all(0 <= s <= len(entropy) - length for s in starts)
    assert all(b - a >= length for a, b in itertools.pairwise(starts))
    if starts:
        assert max(entropy[: len(entropy) - length + 1]) == max(entropy[s] for s in starts)
    else:
        assert len(entropy) < length


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.floats(0, 1), st.floats(0, 5))
def test_the_posterior_lies_between_prior_and_teacher(alike, own, prior):
    pi = posterior(sum(alike), len(alike), own, prior)
    mean = sum(alike) / len(alike)
    assert min(mean, own) - 1e-9 <= pi <= max(mean, own) + 1e-9
    assert likeness("same", "same") == 1.0
    assert likeness("ab", "xy") == 0.0


def test_a_real_teacher_goes_on_from_the_middle_of_an_answer(engine):
    recipe = recipes.get("omniopd")(chunk=2, chunks=1, continuations=3)
    groups, tools = rolled(engine), tools_of(engine, recipe)
    samples = samples_of(groups)
    recipe.views(samples, groups, tools)
    audited = [s for s in samples if "audited" in s.notes]
    assert audited
    for sample in audited:
        ((start, stop, pi),) = sample.notes["audited"]
        assert stop - start == 2
        assert stop <= len(sample.action_ids)
        assert 0 < pi <= 1
        assert sample.view("anchor").ids == sample.prompt_ids
    assert all(len(s.action_ids) < 2 for s in samples if "audited" not in s.notes)


def test_the_audited_term_alone_ends_in_one_outcome():
    """The caution of the docstring, on six outcomes: REINFORCE with a reward >= 0 and no baseline, in expectation."""
    q = torch.tensor([0.43, 0.30, 0.12, 0.08, 0.05, 0.02])
    z = torch.zeros(6, requires_grad=True)
    for _ in range(3000):
        (-(z.softmax(0).detach() * q * z.log_softmax(0)).sum()).backward()
        with torch.no_grad():
            z -= 1.0 * z.grad
            z.grad = None
    assert float(z.softmax(0).max()) > 0.99


# ---- UniSD


def test_contexts_agree_on_the_task_and_the_corrupted_one_does_not(engine):
    recipe = recipes.get("unisd")(contexts=2, context={"sources": ["sibling"], "wording": "paper"})
    groups = [
        group(("blue", 1.0), ("azure", 1.0), ("red", 0.0)),
        group(("cat", 1.0), ("dog", 0.0), task="t1"),
    ]
    samples = samples_of(groups)
    before = [(list(s.prompt_ids), str(s.messages)) for s in samples]
    recipe.views(samples, groups, StepTools(engine.chat, seed="x"))
    assert before == [(s.prompt_ids, str(s.messages)) for s in samples], "students see nothing of it"
    red = samples[2]
    main, agreeing, corrupted = (red.view(n).messages[-1]["content"] for n in ("teacher", "agreement2", "corrupted"))
    assert "blue" in main or "azure" in main
    assert "cat" in agreeing
    assert "cat" not in main
    assert "cat" in corrupted
    assert "blue" not in corrupted
    assert recipes.get("unisd")(contexts=1, contrast=0).streams() == {"teacher": "teacher"}


def test_where_all_contexts_agree_every_token_weighs_the_same():
    from oracle import World

    w = World(recipes.get("unisd")(contrast=0, kappa=None), 0)
    for name in ("agreement2", "agreement3"):
        w.batch.readings[name] = w.batch.readings["teacher"]
    (term,) = w.recipe.terms(w.batch)
    taught = w.batch.per_token(w.batch.scored)
    assert torch.allclose(term.coefficients[taught], torch.tensor(1.0 / int(taught.sum())))


# ---- RESD

ITEMS = [
    item("wrong_answer", "The sum is 7."),
    item("wrong_answer", "Expected milk.", visibility="teacher", reveals_reference=True, leak_level=3),
]


def author(who: str, asked: str) -> str:
    if "this failed" in asked:
        return "It was odd.\nHELPFUL: m0\nHARMFUL: m1"
    return "LESSON: Count twice.\nLESSON: Prefer even words.\nLESSON: A third one is too many."


def test_failures_become_lessons_and_successes_come_back_later(engine):
    recipe = recipes.get("resd")()
    groups = [group(("odd thing", 0.0), ("even thing", 1.0), feedback=ITEMS)]
    samples = samples_of(groups)
    tools = Scripted(engine.chat, seed="x").answering(author)
    recipe.begin(0)
    recipe.views(samples, groups, tools)
    first = samples[0].teacher_messages[-1]["content"]
    assert "It was odd." in first
    assert "odd thing" in first
    assert "HELPFUL" not in first
    assert "even thing" not in first, "a success is an example from the next step on"
    assert "milk" not in str(tools.asked), "what reveals the reference is not shown to whoever reflects"
    assert [e.text for e in recipe.playbook] == ["Count twice.", "Prefer even words."]
    assert samples[0].prompt_ids == [1, 2], "the policy's prompt is as it was"

    later = samples_of(groups)
    recipe.begin(1)
    recipe.views(later, groups, Scripted(engine.chat, seed="y").answering(author))
    told = later[0].teacher_messages[-1]["content"]
    assert "Count twice." in told
    assert "even thing" in told
    assert {e.text: (e.helpful, e.harmful) for e in recipe.playbook} == {
        "Count twice.": (1, 0),
        "Prefer even words.": (0, 1),
    }
    recipe.begin(2)
    recipe.views(samples_of(groups), groups, Scripted(engine.chat, seed="z").answering(author))
    assert "Prefer even words." not in [e.text for e in recipe.playbook if e.harmful], "what harmed was pruned"


def test_a_playbook_that_outgrows_its_budget_is_cut_and_the_question_is_not(engine):
    recipe = recipes.get("resd")(playbook_entries=4, playbook_tokens=30)
    for k in range(12):
        recipe.playbook.add(f"Lesson number {k} is about weather in Paris.", k)
    assert len(recipe.playbook) == 4
    groups = [group(("odd thing", 0.0), feedback=ITEMS)]
    samples = samples_of(groups)
    recipe.views(samples, groups, Scripted(engine.chat, seed="x").answering(author))
    told = samples[0].teacher_messages[-1]["content"]
    shown = [line for line in told.splitlines() if line.startswith("[m")]
    assert shown
    assert len(engine.chat.plain("\n".join(shown))) <= 30
    assert "Task t0: say it." in told


def test_a_resumed_run_remembers_the_same(engine):
    recipe = recipes.get("resd")()
    groups = [group(("odd thing", 0.0), ("even thing", 1.0), feedback=ITEMS)]
    recipe.views(samples_of(groups), groups, Scripted(engine.chat, seed="x").answering(author))
    other = recipes.get("resd")()
    other.load_state_dict(json.loads(json.dumps(recipe.state_dict())))
    views = []
    for one in (recipe, other):
        samples = samples_of(groups)
        one.begin(1)
        one.views(samples, groups, Scripted(engine.chat, seed="y").answering(author))
        views.append([s.teacher_messages for s in samples])
    assert views[0] == views[1]
    assert recipe.state_dict() == other.state_dict()


def test_a_text_that_a_recipe_does_not_make_is_refused():
    with pytest.raises(ValueError, match=r"recipe=sdpo makes no text called 'playbook'"):
        recipes.get("sdpo")(context={"sources": ["playbook"]})
