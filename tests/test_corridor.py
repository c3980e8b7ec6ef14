"""The little environment that the tests of many turns share is a proper one."""

from __future__ import annotations

import pytest
from corridor import ID, NOTHING, Corridor, episodes, find, play
from models import tiny_tokenizer

import rfenvs
from agents.chat import Chat
from agents.trajectory import STATE_KEYS

CHAT = Chat(tiny_tokenizer())


@pytest.mark.parametrize("split", ["train", "test"])
def test_it_keeps_the_contract_and_its_plans_win(split):
    assert rfenvs.num_tasks(ID, split) >= 20
    env = Corridor(split)
    for index in range(env.num_tasks(split)):
        _, info = env.reset(options={"task_index": index})
        plan = info["expert_plan"]
        assert 3 <= len(plan) <= 6
        for left in range(len(plan), 0, -1):
            assert info["plan_distance"] == left
            assert info["expert_action"] in info["admissible_commands"]
            _, reward, won, _, info = env.step(info["expert_action"])
        assert (reward, won, info["feedback"], info["expert_action"]) == (1.0, True, [], None)


def test_useless_moves_have_a_reason_and_the_expected_command_is_marked():
    trajectory = play(CHAT, find(start=0, key=1, rooms=3, door=2), ["go left", "go right", "open door", "take key"])
    codes = [[i["data"]["code"] for i in turn.feedback] for turn in trajectory.turns]
    assert codes == [["wall", "expected"], [], ["no_door", "expected"], ["out_of_turns"]]
    assert trajectory.turns[1].messages[-1]["content"] == NOTHING
    assert all(set(turn.before) == set(turn.after) == set(STATE_KEYS) for turn in trajectory.turns)
    assert [turn.before["plan_distance"] for turn in trajectory.turns] == [4, 4, 3, 3]
    quiet = play(CHAT, find(start=0), ["go left"] * 2, leak_level=1, expert=False)
    assert [i["data"]["code"] for i in quiet.turns[1].feedback] == ["wall", "out_of_turns"]
    assert quiet.turns[0].before["expert_plan"] is None


def test_scripts_make_groups_of_the_same_task():
    task = find(plan=3)
    plan = Corridor().gold_actions(Corridor().task("train", task))
    group = episodes(CHAT, task, plan, ["go left"] * 3)
    assert [t.reward for t in group.trajectories] == [1.0, 0.0]
    first, second = (t.turns[0].prompt_ids for t in group.trajectories)
    assert first == second
