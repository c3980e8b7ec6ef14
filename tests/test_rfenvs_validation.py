"""`rfenvs.validate` finds what is wrong with an environment: each defect planted, each found by name."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import gymnasium
import pytest

import rfenvs
from rfenvs import Action, Task, TextEnv, Verdict, item
from rfenvs.tasks import KNOWN_BAD, NO_OP_PASSES


class Sound(TextEnv):
    """Say the secret word of the task."""

    def num_tasks(self, split: str) -> int:
        return 3

    def task(self, split: str, index: int) -> Task:
        return Task(prompt=f"Say word {index}.", reference=f"secret{index}", data={"word": f"secret{index}"})

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        if str(action) == task.data["word"]:
            return Verdict(1.0)
        return Verdict(0.0, [self.complain(task)])

    def complain(self, task: Task) -> dict:
        return item("wrong_answer", "Another word.")

    def plant(self, task: Task, word: str) -> Task:
        return replace(super().plant(task, word), data={"word": f"{task.data['word']} {word}"})


class PaysJunk(Sound):
    def grade(self, task, action, turn):
        return Verdict(1.0) if action.strip() == "" else super().grade(task, action, turn)


class RejectsGold(Sound):
    def grade(self, task, action, turn):
        return Verdict(0.0, [self.complain(task)])


class Crashes(Sound):
    def grade(self, task, action, turn):
        if "word word" in action:
            raise RuntimeError("broken")
        return super().grade(task, action, turn)


class Leaks(Sound):
    def grade(self, task, action, turn):
        verdict = super().grade(task, action, turn)
        verdict.observation = f"It was {task.data['word']}." if verdict.reward < 1 else ""
        return verdict


class Mislabels(Sound):
    def complain(self, task):
        return item("hint", f"The word is {task.data['word']}.", visibility="teacher", leak_level=1)


class HidesInData(Sound):
    def complain(self, task):
        return item("wrong_answer", "Another word.", visibility="log", data={"expected": task.data["word"]})


class Reveals(Sound):
    """Nothing wrong: the item says that it reveals the reference."""

    def complain(self, task):
        return item("reference", f"The word is {task.data['word']}.", visibility="teacher", leak_level=3)


class Praises(Sound):
    def grade(self, task, action, turn):
        verdict = super().grade(task, action, turn)
        return replace(verdict, feedback=[self.complain(task)])


class Wanders(Sound):
    def prompt_messages(self, task):
        return [{"role": "user", "content": f"{task.prompt} {self.np_random.integers(1000)}"}]


class TwoTurns(Sound):
    """Say the word twice."""

    default_max_turns: ClassVar[int] = 3

    def begin(self, task):
        self.said = 0

    def gold_actions(self, task):
        return [task.reference, task.reference]

    def grade(self, task, action, turn):
        self.said += str(action) == task.data["word"]
        if self.said == 2:
            return Verdict(1.0)
        return Verdict(0.0, [self.complain(task)])


class Flagged(RejectsGold):
    def task(self, split, index):
        return replace(super().task(split, index), flags=(f"{KNOWN_BAD}: no one can say it",))


class Free(PaysJunk):
    def task(self, split, index):
        return replace(super().task(split, index), flags=(NO_OP_PASSES,))


def validated(kind: type[TextEnv]) -> rfenvs.Report:
    id = f"tests/{kind.__name__}-v0"
    if id not in gymnasium.registry:
        gymnasium.register(id, entry_point=kind)
    return rfenvs.validate(id, "train")


@pytest.mark.parametrize("kind", [Sound, Reveals, TwoTurns])
def test_a_sound_environment_passes(kind):
    report = validated(kind)
    assert report.ok, report
    assert report.answers > 20


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (PaysJunk, "a wrong answer earns 1.0"),
        (RejectsGold, "the reference earns 0.0 instead of 1; feedback: Another word."),
        (Crashes, "could not be scored"),
        (Leaks, "the policy sees the reference"),
        (Leaks, "the policy sees a canary from a hidden field"),
        (Mislabels, "an item quotes a hidden field, and does not say so"),
        (HidesInData, "an item quotes a hidden field, and does not say so"),
        (Praises, "the reference is complained about"),
        (Wanders, "two resets on it show different prompts"),
    ],
)
def test_every_defect_is_found(kind, said):
    report = validated(kind)
    assert not report.ok
    assert any(said in problem for problem in report.problems), report


def test_flagged_tasks_are_counted_and_excused():
    for kind in (Flagged, Free):
        report = validated(kind)
        assert report.ok, report
        assert report.flagged == 3
        assert "3 flagged" in str(report)


def test_the_flag_reaches_the_info():
    validated(Flagged)
    _, info = gymnasium.make("tests/Flagged-v0").reset(seed=0)
    assert info["task"]["flags"] == ["known_bad: no one can say it"]


# Leak levels.


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ({"kind": "format_error"}, 0),
        ({"kind": "wrong_answer"}, 1),
        ({"kind": "hint", "leak_level": 2}, 2),
        ({"kind": "hint", "visibility": "teacher", "reveals_reference": True}, 3),
        ({"kind": "reference", "visibility": "teacher", "leak_level": 3}, 3),
    ],
)
def test_an_item_has_a_leak_level(arguments, level):
    entry = item(text="x", **arguments)
    assert (entry["leak_level"], entry["reveals_reference"]) == (level, level == 3)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="visibility='policy'"):
        item("reference", "42", leak_level=3)
    with pytest.raises(ValueError, match="has leak_level=3, not 1"):
        item("hint", "42", visibility="teacher", leak_level=1, reveals_reference=True)


class Ladder(Sound):
    """One item of every level."""

    def __init__(self, split="train", data=None, max_turns=None, render_mode=None, leak_level=1):
        super().__init__(split, data, max_turns, render_mode, leak_level)

    def grade(self, task, action, turn):
        if str(action) == task.reference:
            return Verdict(1.0)
        seen = "teacher"
        return Verdict(0.0, [item("hint", f"level {n}", visibility=seen, leak_level=n) for n in self.levels])

    levels = (0, 1, 2, 3)


class OnlyHigh(Ladder):
    levels = (2, 3)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_items_above_the_level_are_dropped(level):
    env = Ladder(leak_level=level)
    env.reset(seed=0)
    *_, info = env.step("no")
    assert [entry["leak_level"] for entry in info["feedback"]] == list(range(level + 1))


def test_a_failure_keeps_a_word_when_everything_is_dropped():
    env = OnlyHigh(leak_level=1)
    env.reset(seed=0)
    *_, info = env.step("no")
    assert [entry["text"] for entry in info["feedback"]] == ["The answer is not correct."]
    assert info["feedback"][0]["leak_level"] == 0


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="leak_level=4: use 0, 1, 2 or 3"):
        Ladder(leak_level=4)


# What could not be scored.


class Judged(Sound):
    propagates: ClassVar[tuple[type[Exception], ...]] = (ConnectionError,)

    def grade(self, task, action, turn):
        raise ConnectionError("no judge") if action == "lost" else RuntimeError("broken")


def test_only_declared_exceptions_reach_the_caller():
    env = Judged()
    env.reset(seed=0)
    with pytest.raises(ConnectionError, match="no judge"):
        env.step("lost")
    _, reward, terminated, truncated, info = env.step("anything")
    assert (reward, terminated, truncated, info["scored"]) == (0.0, False, True, False)
