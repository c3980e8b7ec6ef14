"""The numbers of a training step: what counts as a repeated or a failed turn, as flat, as success; what alarms."""

from __future__ import annotations

from typing import Any

import pytest

from agents.training.alarms import alarms
from agents.training.metrics import failed, repeated, step_metrics
from agents.trajectory import Group, Trajectory, Turn


def turn(text: str, reply: str = "", state: object = None, **fields: Any) -> Turn:
    before = {} if state is None else {"state_key": state}
    return Turn([1], [2, 3], [-1.0, -1.0], text, [], reply=reply, before=before, **fields)


def said(severity: str, scope: str = "span") -> dict[str, Any]:
    return {"kind": "invalid_action", "severity": severity, "scope": scope, "source": "env", "text": "No."}


def group(*rewards: float | None) -> Group:
    episodes = [
        Trajectory([turn("x", reward=reward or 0.0)], stop_reason="completed", scored=reward is not None)
        for reward in rewards
    ]
    return Group({"id": "t"}, episodes)


def metrics(*groups: Group) -> dict[str, Any]:
    return step_metrics(groups, [], [])


def test_a_turn_repeats_an_earlier_one_in_the_same_state_or_with_the_same_reply():
    episode = Trajectory(
        [
            turn("look", "A room.", "s0"),
            turn("go to desk 1", "A desk.", "s0"),
            turn("<think>again?</think> look ", "A desk, from near.", "s1"),  # another state, another reply
            turn("look", "A desk, from near.", "s2"),  # another state, the reply of the turn before
            turn("go  to desk 1", "Nothing happens.", "s0"),  # the state of turn 2, another reply
        ]
    )
    assert repeated(episode) == [False, False, False, True, True]


def test_without_states_and_replies_nothing_repeats():
    assert repeated(Trajectory([turn("look"), turn("look")])) == [False, False]


def test_the_expert_is_remembered_but_not_counted():
    episode = Trajectory([turn("look", "A room.", source="expert"), turn("look", "A room.")])
    assert repeated(episode) == [True]
    assert metrics(Group({}, [episode]))["repeated_turns"] == 1.0


def test_a_state_may_be_of_any_type():
    assert repeated(Trajectory([turn("look", state=[1, {"a": 2}]), turn("look", state=[1, {"a": 2}])])) == [False, True]


@pytest.mark.parametrize(
    ("items", "expected"),
    [([], False), ([said("warning")], False), ([said("error")], True), ([said("warning"), said("fatal")], True),
     ([said("error", scope="episode")], False)],
)  # fmt: skip
def test_a_turn_failed_if_an_error_is_about_it_and_not_about_the_episode(items, expected):
    assert failed(turn("x", feedback=items)) is expected


def test_shares_are_over_the_policys_turns_and_lengths_over_episodes():
    first = Trajectory(
        [turn("a", feedback=[said("error")]), turn("b", source="expert", feedback=[said("error")]), turn("c")],
        stop_reason="max_turns",
    )
    second = Trajectory([turn("a"), turn("b", reward=1.0)], stop_reason="completed")
    got = metrics(Group({}, [first, second]))
    assert got["failed_turns"] == 1 / 4
    assert got["turns"] == 2.5
    assert (got["length"], got["turn_length"]) == (4.0, 2.0)
    assert got["stop_reasons"] == {"max_turns": 1, "completed": 1}


def test_success_is_full_reward_and_no_mean():
    got = metrics(group(0.5, 1.0, 0.75, None))
    assert (got["reward"], got["success"]) == (0.75, 1 / 3)


@pytest.mark.parametrize(
    ("groups", "share"),
    [
        ([group(0.0), group(1.0)], None),  # one attempt a task: opd, dagger
        ([group(0.0, 0.0), group(0.0, 1.0)], 0.5),
        ([group(0.0, None), group(0.0, 1.0)], 0.0),  # one could be scored: nothing to differ from
        ([group(None, None)], None),
    ],
)
def test_groups_are_flat_only_where_there_are_attempts_to_compare(groups, share):
    assert metrics(*groups)["zero_variance"] == share


def test_single_attempts_raise_no_alarm_about_equal_rewards():
    assert alarms([metrics(group(0.0), group(0.0)) for _ in range(9)]) == []
    assert [a.name for a in alarms([metrics(group(0.0, 0.0)) for _ in range(9)])] == ["zero_variance"]


def test_longer_episodes_are_no_longer_answers():
    def step(turns: int) -> dict[str, Any]:
        return metrics(Group({}, [Trajectory([turn(f"{k}") for k in range(turns)])] * 2)) | {"zero_variance": None}

    assert alarms([step(1)] * 5 + [step(30)]) == []
    assert alarms([step(30)] * 5 + [step(1)]) == []


def test_the_first_turns_of_the_policy_are_the_baseline_however_late_they_come():
    expert = {"turn_length": None, "entropy": None}
    policy = {"turn_length": 20.0, "entropy": 1.5}
    assert alarms([expert] * 9 + [policy] * 9) == []
    assert [a.name for a in alarms([expert] * 9 + [policy] * 9 + [{"turn_length": 90.0, "entropy": 1.5}])] == ["length"]
    assert alarms([expert] * 9 + [policy] * 9 + [expert]) == []
