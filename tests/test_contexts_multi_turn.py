"""What the teacher sees in episodes of many turns: every source, on the policy's own history, id by id."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from corridor import ID, NOTHING, Corridor, episodes, find
from hypothesis import given, settings
from hypothesis import strategies as st
from models import tiny_tokenizer
from pydantic import ValidationError
from templates import CHATS

import agents
from agents import recipes
from agents.batch import Sample, samples_of
from agents.chat import Chat
from agents.errors import SetupError
from agents.history import RolloutSettings
from agents.recipes.tools import StepTools
from agents.report.metrics import read_jsonl
from agents.teachers.contexts import Context, add_contexts
from agents.trajectory import Group

TOKENIZER = tiny_tokenizer()
CHAT = Chat(TOKENIZER)
CONTROLS = {TOKENIZER.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>", "<|pad|>")}

TASK = find(start=0, key=1, rooms=3, door=2)
PLAN = Corridor().gold_actions(Corridor().task("train", TASK))
WANDER = ["go left", "go right", "go left", "look"]
"""A wall; on plan; astray; no such command."""


def group(**kwargs: Any) -> Group:
    """Attempt 0 wanders and fails, attempt 1 follows the plan."""
    return episodes(CHAT, TASK, WANDER, PLAN, spelt=True, **kwargs)


def taught(context: Context, *groups: Group, limit: int = 1 << 20, seed: str = "0") -> list[Sample]:
    samples = samples_of(groups)
    add_contexts(context, samples, groups, CHAT, limit, seed)
    return samples


def newest(sample: Sample) -> str:
    assert sample.teacher_messages is not None
    return sample.teacher_messages[-1]["content"]


def hints(context: Context, attempt: int = 0, **kwargs: Any) -> list[str | None]:
    """What is added to the newest message of each turn of an attempt, in the paper's wording without its end."""
    found: list[str | None] = []
    for sample in taught(context, group(**kwargs)):
        if sample.attempt == attempt:
            if sample.teacher_messages is None:
                found.append(None)
                continue
            assert sample.teacher_messages[:-1] == sample.messages[:-1]
            added = newest(sample).removeprefix(sample.messages[-1]["content"])
            assert added.endswith("\n\n\nChoose the correct next action.")
            found.append(added.removesuffix("\n\n\nChoose the correct next action.").strip("\n"))
    return found


ALL = ["sibling", "expected", "plan", "rest", "feedback", "sibling+feedback", "plan+rest+feedback"]


@pytest.mark.parametrize("wording", ["paper", "turn", "inline"])
@pytest.mark.parametrize("source", ALL)
def test_the_teacher_branches_off_the_policy_s_own_ids(source, wording):
    groups = [group()]
    context = Context(sources=[source], wording=wording, allow_reference=True)
    samples = taught(context, *groups)
    assert any(s.teacher_ids for s in samples)
    for sample in samples:
        if sample.teacher_ids is None:
            continue
        turn = groups[0].trajectories[sample.attempt].turns[sample.turn]
        assert bool(turn.prefix) == (sample.turn > 0)
        assert sample.teacher_ids[: turn.prefix] == sample.prompt_ids[: turn.prefix]
        assert sample.teacher_ids != sample.prompt_ids
        again = CHAT.encode(sample.teacher_messages)
        assert TOKENIZER.decode(sample.teacher_ids) == TOKENIZER.decode(again)
        assert (sample.teacher_ids != again) == (sample.turn > 0), "sampled ids are not encoded again"
        header = TOKENIZER.encode("<|im_start|>assistant\n", add_special_tokens=False)
        assert sample.teacher_ids[-len(header) :] == header, "the assistant header stays"


def test_the_whole_episode_is_one_tree():
    """Distinct prefixes over all teacher sequences: the trunk once, and a branch a turn."""
    groups = [group()]
    samples = [s for s in taught(Context(sources=["rest"]), *groups) if s.attempt == 0 and s.turn]
    trunk = groups[0].trajectories[0].turns[-1]
    nodes = {tuple(s.teacher_ids[:n]) for s in samples for n in range(1, len(s.teacher_ids) + 1)}
    branches = sum(
        len(s.teacher_ids) - groups[0].trajectories[0].turns[s.turn].prefix for s in samples
    )  # the turn's privileged text
    assert len(nodes) <= len(trunk.prompt_ids) + branches


def test_none_is_the_policy_s_prompt_exactly():
    samples = taught(Context(sources=["none"], wording="turn"), group())
    for sample in samples:
        assert sample.teacher_ids == sample.prompt_ids
        assert sample.teacher_messages == sample.messages
    fallback = taught(Context(sources=["feedback", "none"]), group())
    assert {s.teacher_ids == s.prompt_ids for s in fallback} == {True, False}


def test_feedback_that_followed_with_the_observation_where_it_complains():
    complaint = "The following is feedback on your unsuccessful earlier action at this point:\n\n"
    assert hints(Context(sources=["feedback"])) == [
        f"{complaint}{NOTHING}\nThere is a wall.",
        None,
        f"{complaint}Attic.\nThat led away from the goal.",
        f"{complaint}{NOTHING}\nThere is no such command. Use one of: go left, go right, take key, open door.\n"
        "The episode ended: all 4 turns are used.",
    ]
    assert hints(Context(sources=["feedback"]), leak_level=1)[2] is None, "the environment's leak level holds"
    revealed = hints(Context(sources=["feedback"], allow_reference=True))
    assert revealed[0] == f"{complaint}{NOTHING}\nThere is a wall.\nExpected: go right"


def test_an_observation_is_feedback_where_the_state_stayed_as_it_was():
    groups = [group()]
    for turn in groups[0].trajectories[0].turns:
        turn.feedback = []
    told = [s.teacher_messages and newest(s) for s in taught(Context(sources=["feedback"]), *groups)]
    assert [bool(text and NOTHING in text) for text in told] == [True, False, False, True] + [False] * 4
    assert told[1] is told[2] is None


def test_the_rest_of_the_episode_without_the_action_that_is_scored():
    title = "The following is what came after your earlier action at this point:\n\n"
    assert hints(Context(sources=["rest"])) == [
        f"{title}The attempt failed 3 actions later.\n{NOTHING}\n> go right\nHall. A key is here.\n> go left\nAttic.\n"
        f"> look\n{NOTHING}",
        f"{title}The attempt failed 2 actions later.\nHall. A key is here.\n> go left\nAttic.\n> look\n{NOTHING}",
        f"{title}The attempt failed 1 action later.\nAttic.\n> look\n{NOTHING}",
        f"{title}The attempt failed with this action.\n{NOTHING}",
    ]
    assert (
        hints(Context(sources=["rest"]), attempt=1)[-1]
        == f"{title}The task was solved with this action.\nThe door is open."
    )
    groups = [group()]
    groups[0].trajectories[0].stop_reason = "curriculum"
    assert "The attempt was stopped unfinished 3 actions later." in newest(
        taught(Context(sources=["rest"]), *groups)[0]
    )


def test_a_sibling_is_a_transcript():
    demonstration = (
        "The following attempt at this task succeeded:\n\n> go right\nHall. A key is here.\n> take key\n"
        "You have the key.\n> go right\nStudy. A door is here.\n> open door\nThe door is open."
    )
    assert hints(Context(sources=["sibling"])) == [demonstration] * 4
    assert hints(Context(sources=["sibling"]), attempt=1) == [None] * 4, "there is no other success"


def test_long_observations_of_a_transcript_are_clipped():
    (first, *_) = hints(Context(sources=["sibling"], max_observation=8))
    assert "\nHall. A \n" in first
    assert "A key" not in first


def test_the_plan_from_here_and_the_expected_command():
    plan = hints(Context(sources=["plan"], allow_reference=True))
    assert plan[0] == "Correct actions from here:\n\n" + "\n".join(PLAN)
    assert plan[2] == "Correct actions from here:\n\n" + "\n".join(PLAN[1:])
    expected = hints(Context(sources=["expected"], allow_reference=True))
    assert expected[0] == "Correct next action:\n\ngo right"
    assert expected[2] == "Correct next action:\n\ntake key"
    assert hints(Context(sources=["plan"])) == hints(Context(sources=["expected"])) == [None] * 4
    assert [s.teacher_ids for s in taught(Context(sources=["plan"]), group())] == [None] * 8


def test_an_expected_answer_is_that_of_the_state_not_of_the_turn():
    """Attempt 1 is somewhere else at the same turn: the answer to another state must not reach it."""
    groups = [episodes(CHAT, TASK, ["go left", "go left"], ["go right", "take key"])]
    told = [
        s.teacher_messages and newest(s) for s in taught(Context(sources=["expected"], allow_reference=True), *groups)
    ]
    assert "go right" in told[0].split("action:")[1]
    assert "go right" in told[1].split("action:")[1]
    assert "go right" in told[2].split("action:")[1], "the same state as attempt 0's"
    assert told[3] is None


def test_the_answer_as_an_earlier_turn_and_in_brackets():
    sample = taught(Context(sources=["plan+feedback"], wording="turn", allow_reference=True), group())[2]
    *history, asked, shown, again = sample.teacher_messages
    assert history == sample.messages[:-1]
    assert asked["content"] == "Hall. A key is here.\n\n(An example of the correct next action:)"
    assert shown == {"role": "assistant", "content": "take key"}
    assert again["content"] == (
        "Hall. A key is here.\n\n(Feedback on an earlier action at this point: Attic.\nThat led away from the goal.\n"
        "Expected: take key)\n\n(After take key: go right, open door)"
    )
    inline = taught(Context(sources=["plan"], wording="inline", allow_reference=True), group())[2]
    assert newest(inline) == "Hall. A key is here. (answer: take key; then: go right, open door)"


def test_a_missing_plan_is_an_error_that_says_where_plans_come_from():
    with pytest.raises(SetupError, match=r"holds 'plan'.*env.kwargs='\{expert: true\}'"):
        taught(Context(sources=["plan"], allow_reference=True), group(expert=False))


def test_actions_of_an_expert_are_references():
    groups = [group()]
    for turn in (groups[0].trajectories[1].turns[0], groups[0].trajectories[0].turns[2]):
        turn.source = "expert"
    for source in ("sibling", "rest"):
        shut = [s.teacher_ids is not None for s in taught(Context(sources=[source]), *groups)]
        opened = [s.teacher_ids is not None for s in taught(Context(sources=[source], allow_reference=True), *groups)]
        assert sum(opened) > sum(shut)
    assert not taught(Context(sources=["sibling"]), *groups)[0].teacher_ids
    told = [s.teacher_ids is not None for s in taught(Context(sources=["rest"]), *groups) if s.attempt == 0]
    assert told == [False, False, True], "only behind the expert's last turn"


# ---- one hint at the head


@pytest.mark.parametrize("wording", ["paper", "turn", "inline"])
@pytest.mark.parametrize("source", ["sibling", "plan", "feedback", "sibling+feedback"])
def test_one_hint_at_the_head_makes_the_episode_one_sequence(source, wording):
    groups = [group()]
    context = Context(sources=[source], wording=wording, allow_reference=True, placement="head")
    samples = [s for s in taught(context, *groups) if s.attempt == 0]
    turns = groups[0].trajectories[0].turns
    whole = samples[-1].teacher_ids + samples[-1].action_ids
    assert len(samples) == len(turns)
    for sample in samples:
        assert whole[: len(sample.teacher_ids) + len(sample.action_ids)] == sample.teacher_ids + sample.action_ids
        first = len(turns[0].prompt_ids)
        assert sample.teacher_ids == samples[0].teacher_ids + sample.prompt_ids[first:]
        assert sample.teacher_messages[len(samples[0].teacher_messages) :] == sample.messages[1:]
        assert sample.teacher_messages[: len(samples[0].teacher_messages)] == samples[0].teacher_messages
    assert "Correct" in newest(samples[0]) or wording != "paper"


def test_feedback_at_the_head_is_that_of_the_whole_episode():
    sample = taught(Context(sources=["feedback"], placement="head"), group())[0]
    assert newest(sample).endswith(
        f"Action 1: {NOTHING}\nThere is a wall.\nAction 3: Attic.\nThat led away from the goal.\nAction 4: {NOTHING}\n"
        "There is no such command. Use one of: go left, go right, take key, open door.\n"
        "The episode ended: all 4 turns are used.\n\n\nCorrectly solve the task, one action at a time."
    )


@pytest.mark.parametrize("source", ["rest", "expected"])
def test_sources_of_a_turn_cannot_stand_at_the_head(source):
    with pytest.raises(ValidationError, match=f"placement='head' has one hint for all turns.*'{source}'"):
        Context(sources=[f"sibling+{source}"], placement="head")


def test_a_row_that_started_anew_cannot_have_a_head():
    groups = [group(settings=RolloutSettings(history=1))]
    with pytest.raises(SetupError, match=r"placement='head'.*rollout\.history"):
        taught(Context(sources=["sibling"], placement="head"), *groups)


def test_none_cannot_be_joined():
    with pytest.raises(ValidationError, match="'none' is the unchanged prompt"):
        Context(sources=["none+feedback"])


# ---- what must hold whatever the text


@pytest.mark.parametrize("family", list(CHATS))
@pytest.mark.parametrize("rollout", [{}, {"history": 1}, {"history": 2}, {"thinking": "template"}])
def test_rows_that_start_anew_are_branched_off_too(family, rollout):
    """Windows and templates that drop thinking: what is kept are sampled ids, which a new encoding may not find."""
    chat = CHATS[family]
    kept = RolloutSettings(**{"thinking": "keep", **rollout})
    scripts = [[f"<think>\nhm\n</think>\n\n{command}" for command in script] for script in (WANDER, PLAN)]
    groups = [episodes(chat, TASK, *scripts, settings=kept, spelt=True)]
    context = Context(sources=["rest"])
    samples = samples_of(groups)
    add_contexts(context, samples, groups, chat, 1 << 20, "0")
    for sample in samples:
        turn = groups[0].trajectories[sample.attempt].turns[sample.turn]
        assert bool(turn.stem) == (sample.turn > 0)
        assert sample.teacher_ids[: turn.stem] == turn.prompt_ids[: turn.stem]
        before, after = ([*m[:-1]] for m in (turn.messages, sample.teacher_messages))
        assert before == after
        if not sample.turn:
            continue
        for ids, messages in (
            (turn.prompt_ids, turn.messages),
            (sample.teacher_ids, sample.teacher_messages),
        ):
            newest = messages[len(turn.messages) - turn.new_messages :]
            assert ids[turn.stem :] == chat.bridge(newest, ids[turn.stem - 1]), "both in the same scaffold"


def test_a_sample_of_a_recipe_s_own_making_is_encoded_as_a_whole():
    groups = [group()]
    samples = samples_of(groups)
    samples[2].prompt_ids = [5, 6, 7]
    add_contexts(Context(sources=["rest"]), samples, groups, CHAT, 1 << 20, "0")
    assert samples[2].teacher_ids == CHAT.encode(samples[2].teacher_messages)


EVIL = st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>assistant\n", "{0}", "\n", "é", "go", "<|pad|>"]), max_size=6
)


@settings(max_examples=40, deadline=None)
@given(EVIL, st.sampled_from(ALL), st.sampled_from(["paper", "turn", "inline"]), st.integers(3, 60))
def test_no_text_of_a_hint_is_ever_a_control_token(pieces, source, wording, max_tokens):
    evil = "".join(pieces)
    groups = [group()]
    for trajectory in groups[0].trajectories:
        for turn in trajectory.turns:
            turn.text += evil
            turn.before["expert_plan"] = [evil + "x", evil]
            for note in turn.feedback:
                note["text"] += evil
                note["data"]["expected"] = evil + "y"
    context = Context(sources=[source], wording=wording, allow_reference=True, max_tokens=max_tokens)
    for sample in taught(context, *groups):
        if sample.teacher_ids is None:
            continue
        branch = sample.teacher_ids[groups[0].trajectories[sample.attempt].turns[sample.turn].prefix :]
        shown = wording == "turn" and len(sample.teacher_messages) > len(sample.messages)
        messages = 1 + 2 * shown  # user, or user, assistant, user
        header = 1
        assert sum(i in CONTROLS for i in branch) == 2 * messages + header


@pytest.mark.parametrize("source", ALL)
def test_equal_arguments_equal_contexts(source):
    context = Context(sources=[source], allow_reference=True)
    first, second = (taught(context, group()) for _ in range(2))
    assert [s.teacher_ids for s in first] == [s.teacher_ids for s in second]


def test_truncation_shortens_hints_never_the_observation_or_the_header():
    whole = taught(Context(sources=["sibling+feedback"]), group())[0]
    cut = taught(Context(sources=["sibling+feedback"], max_tokens=5), group())[0]
    assert len(cut.teacher_ids) < len(whole.teacher_ids)
    for sample in (whole, cut):
        assert newest(sample).startswith(sample.messages[-1]["content"])
        assert newest(sample).endswith("Choose the correct next action.")


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f511"])
def test_the_limit_is_in_tokens_also_where_a_letter_takes_several(letter):
    """A byte-level tokenizer spends up to four tokens on one character."""

    def added(repeats: int, max_tokens: int) -> str:
        groups = [group()]
        for note in (note for turn in groups[0].trajectories[0].turns for note in turn.feedback):
            note["text"] = letter * repeats
        sample = taught(Context(sources=["feedback"], max_tokens=max_tokens), *groups)[2]
        return newest(sample).split("point:\n\n")[1].split("\n\n\n")[0].removeprefix("Attic.\n")

    assert added(200, 1000) == letter * 200
    short = added(200, 150)
    assert set(short) == {letter}
    assert 140 < len(CHAT.plain(f"Attic.\n{short}")) <= 150


@pytest.mark.parametrize("rollout", [{}, {"history": 1}])
@pytest.mark.parametrize("wording", ["paper", "turn", "inline"])
@pytest.mark.parametrize("source", [*ALL, "none"])
def test_what_the_policy_saw_is_never_touched(source, wording, rollout):
    """The privileged text is in the teacher's copies only, whatever is done to them."""
    groups = [group(settings=RolloutSettings(**rollout))]
    for t in (t for trajectory in groups[0].trajectories for t in trajectory.turns):
        t.advice = t.before["expert_action"]
    before = copy.deepcopy(groups)
    context = Context(sources=[source], wording=wording, allow_reference=True)
    samples = taught(context, *groups)
    recipes.get("dagger")(hinted=1, context=context).samples(groups, StepTools(CHAT))
    assert groups == before
    for sample in samples:
        own = groups[0].trajectories[sample.attempt].turns[sample.turn]
        assert (sample.prompt_ids, sample.messages) == (own.prompt_ids, own.messages)


def test_turns_that_do_not_fit_are_counted_and_the_others_taught():
    groups = [group()]
    samples = samples_of(groups)
    longest = max(len(s.prompt_ids) for s in samples)
    overlong = add_contexts(Context(sources=["none"]), samples, groups, CHAT, longest - 20, "0")
    assert 0 < overlong < len(samples)
    assert overlong == sum(s.teacher_ids is None for s in samples)


@pytest.mark.parametrize("placement", ["turn", "head"])
def test_a_run_teaches_every_turn_of_its_episodes(placement, tiny_dir, tmp_path):
    context = {"sources": ["plan"], "placement": placement, "wording": "inline", "allow_reference": True}
    run = agents.train(
        {"name": "sdpo", "context": context}, env=ID, model=str(tiny_dir), steps=1, batch={"tasks": 1, "attempts": 2},
        sampling={"max_tokens": 4}, eval={"tasks": 0}, run_dir=str(tmp_path), check_teacher=0, save_final=False,
        env_kwargs={"max_turns": 3},
    )  # fmt: skip
    attempts = read_jsonl(run.directory / "trajectories.jsonl")
    turns = [turn for attempt in attempts for turn in attempt["turns"]]
    assert len(turns) == 6
    assert all("answer: " in turn["teacher_messages"][0 if placement == "head" else -1]["content"] for turn in turns)
