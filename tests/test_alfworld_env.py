"""ALFWorld as a Gymnasium environment: official text, rich info, feedback by level, and moments to return to."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import gymnasium
import pytest
from alfworld_rooms import kitchen
from hypothesis import given, settings
from hypothesis import strategies as st

from rfenvs import Action
from rfenvs.envs.alfworld import engine, planner
from rfenvs.envs.alfworld.env import ALFWorldEnv
from rfenvs.envs.alfworld.game import Game, Goal
from rfenvs.envs.alfworld.progress import conditions

ID = "rfenvs/ALFWorld-v0"
INTRO = """\
-= Welcome to TextWorld, ALFRED! =-

You are in the middle of a room. Looking quickly around you, you see a cabinet 2, a cabinet 1, a countertop 1, \
a desk 1, a fridge 1, a microwave 1, a shelf 1, and a sinkbasin 1.

Your task is to: put a hot mug in desk."""
PLAN = [
    "go to countertop 1", "take mug 2 from countertop 1", "go to microwave 1", "heat mug 2 with microwave 1",
    "go to desk 1", "move mug 2 to desk 1",
]  # fmt: skip


class Kitchen(ALFWorldEnv):
    """One game, made by hand."""

    games = (kitchen(),)

    class Source:
        source, revision = "by hand", "1"

        def __init__(self, games: tuple[Game, ...]) -> None:
            self.games = games

        def __len__(self) -> int:
            return len(self.games)

        def __getitem__(self, index: int) -> Game:
            return self.games[index]

        def id(self, index: int) -> str:
            return self.games[index].id

        def find(self, id: str) -> int:
            return [game.id for game in self.games].index(id)

    def _games(self, split: str) -> Source:  # type: ignore[override]
        return self.Source(self.games)


def play(*commands: str, **kwargs) -> list[tuple]:
    env = Kitchen(**kwargs)
    env.reset(options={"task_index": 0})
    return [env.step(command) for command in commands]


def codes(info: dict) -> list[str]:
    return [entry["data"]["code"] for entry in info["feedback"]]


def said(info: dict, code: str) -> dict:
    (found,) = [entry for entry in info["feedback"] if entry["data"]["code"] == code]
    return found


# Observations, actions, rewards.


def test_the_prompt_is_one_message_that_ends_with_the_official_text():
    observation, info = Kitchen().reset(seed=0)
    (message,) = info["messages"]
    assert message == {"role": "user", "content": observation}
    assert observation.endswith("\n\n" + INTRO)
    assert "Reply with one command" in observation
    assert "move OBJECT to RECEPTACLE" in observation
    assert "put OBJECT in/on RECEPTACLE" in Kitchen(dialect="alfworld-0.3").reset(seed=0)[0]


def test_a_shortest_plan_wins_with_official_replies():
    results = play(*PLAN)
    assert [observation for observation, *_ in results] == [
        "You arrive at countertop 1. On the countertop 1, you see a knife 1, a mug 2, a statue 1, and a tomato 1.",
        "You pick up the mug 2 from the countertop 1.",
        "You arrive at microwave 1. The microwave 1 is closed.",
        "You heat the mug 2 using the microwave 1.",
        "You arrive at desk 1. On the desk 1, you see a book 1, and a desklamp 1.",
        "You move the mug 2 to the desk 1.",
    ]
    assert [reward for _, reward, *_ in results] == [0, 0, 0, 0, 0, 1]
    assert [terminated for _, _, terminated, *_ in results] == [False] * 5 + [True]
    info = results[-1][-1]
    assert info["feedback"] == []
    assert info["won"]
    assert info["goal_condition_success_rate"] == info["metrics"]["goal_condition_success_rate"] == 1.0


def test_both_wordings_are_understood_and_the_dialect_answers():
    for dialect, answer in (("alfworld-0.4", "You move the mug 2 to"), ("alfworld-0.3", "You put the mug 2 in/on")):
        for last in ("move mug 2 to desk 1", "put mug 2 in/on desk 1"):
            assert play(*PLAN[:-1], last, dialect=dialect)[-1][0].startswith(answer)


def test_a_thought_is_answered_ok_and_costs_a_turn():
    observation, reward, terminated, truncated, info = play("> think: first a mug.", max_turns=2)[0]
    assert (observation, reward, terminated, truncated, info["turn"]) == ("OK.", 0, False, False, 1)
    assert info["feedback"] == []


def test_the_episode_is_cut_off_at_the_last_turn():
    *_, truncated, info = play("look", "look", max_turns=2)[-1]
    assert truncated
    assert info["stop_reason"] == "max_turns"
    assert Kitchen().max_turns == 50


def test_admissible_commands_follow_the_reply_without_help():
    env = Kitchen(admissible=True)
    observation, info = env.reset(seed=0)
    shown = [command for command in info["admissible_commands"] if command != "help"]
    assert observation.endswith("desk.\n\nCommands that do something now:\n" + "\n".join(shown))
    observation, *_, info = env.step("go to desk 1")
    assert observation.endswith("\n".join(c for c in info["admissible_commands"] if c != "help"))
    assert "take book 1 from desk 1" in info["admissible_commands"]
    assert "help" in info["admissible_commands"]


# Info.


def test_every_info_has_the_same_keys_and_types():
    for expert in (False, True):
        env = Kitchen(expert=expert)
        _, first = env.reset(seed=0)
        infos = [env.step(text)[-1] for text in (*PLAN[:2], "xyzzy", "", "think: a")]
        assert {tuple(info) for info in infos} == {tuple(first)}
        for info in infos:
            assert {key: type(value) for key, value in info.items()} == {k: type(v) for k, v in first.items()}


def test_the_expert_is_in_info_where_it_is_asked_for():
    env = Kitchen(expert=True)
    _, info = env.reset(seed=0)
    assert info["expert_plan"] == PLAN == env.expert_plan()
    assert info["expert_action"] == PLAN[0]
    assert info["plan_distance"] == 6
    for left, command in zip(reversed(range(6)), PLAN, strict=True):
        *_, info = env.step(command)
        assert info["plan_distance"] == left
    assert (info["expert_plan"], info["expert_action"]) == ([], None)
    _, info = Kitchen().reset(seed=0)
    assert [info[key] for key in ("expert_plan", "expert_action", "plan_distance")] == [None] * 3


def test_state_keys_are_equal_exactly_where_states_are():
    env = Kitchen()
    rng = random.Random(0)
    keys: dict[str, engine.State] = {}
    states: dict[engine.State, str] = {}
    for _ in range(5):
        _, info = env.reset(seed=0)
        for _ in range(40):
            *_, over, _, info = env.step(rng.choice(info["admissible_commands"]))
            state = env.snapshot().episode.state
            assert keys.setdefault(info["state_key"], state) == state
            assert states.setdefault(state, info["state_key"]) == info["state_key"]
            if over:
                break
    assert len(keys) > 50


def test_the_goal_is_counted_in_parts():
    shares = [info["goal_condition_success_rate"] for *_, info in play(*PLAN)]
    assert shares == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])


GOALS = [
    Goal("pick_and_place_simple", "Mug", "Desk"), Goal("look_at_obj_in_light", "Mug", lamp_type="DeskLamp"),
    Goal("pick_clean_then_place_in_recep", "Mug", "Desk"), Goal("pick_heat_then_place_in_recep", "Mug", "Desk"),
    Goal("pick_cool_then_place_in_recep", "Mug", "Shelf"), Goal("pick_two_obj_and_place", "Mug", "Desk"),
]  # fmt: skip


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.task_type)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_all_parts_of_a_goal_are_met_exactly_where_the_game_is_won(goal: Goal, seed: int):
    game, rng = kitchen(goal), random.Random(seed)
    state = engine.start(game)
    for turn in range(40):
        plan = planner.plan(game, state)
        assert plan
        command = plan[0] if turn % 2 else rng.choice(engine.admissible(game, state))
        state = engine.apply(game, state, command).state
        parts = conditions(game, state)
        assert len({part.name for part in parts}) == len(parts)
        assert all(part.met for part in parts) == engine.won(game, state)
        if engine.won(game, state):
            break


# Feedback.


def test_nothing_happens_keeps_its_text_and_says_why_to_the_teacher():
    observation, *_, info = play("take mug 2 from desk 1")[-1]
    assert observation == "Nothing happens."
    entry = said(info, "no_such_object")
    assert (entry["kind"], entry["visibility"], entry["leak_level"]) == ("invalid_action", "teacher", 0)
    assert entry["span"] == [0, 22]
    assert info["metrics"]["nothing_happened"] == 1


def test_the_policy_may_be_shown_why():
    observation, *_, info = play("open fridge 1", feedback="policy")[-1]
    assert observation == 'Nothing happens.\nYou are not at fridge 1: "go to fridge 1" first.'
    assert said(info, "not_at_receptacle")["visibility"] == "policy"


def test_the_reason_blames_the_command_within_the_reply():
    reply = "<think>warm?</think>I try.\nAction: open fridge 1."
    *_, info = play(reply)[-1]
    start, end = said(info, "not_at_receptacle")["span"]
    assert reply[start:end] == "open fridge 1"


def test_commands_before_the_last_line_are_counted():
    observation, *_, info = play("go to desk 1\nThen:\nlook\ngo to fridge 1")[-1]
    assert observation.startswith("You arrive at fridge 1.")
    assert said(info, "ignored_commands")["data"]["ignored"] == 2
    *_, info = play("go to desk 1\nthink: then look")[-1]
    assert said(info, "ignored_commands")["text"] == (
        "Only the last line of a reply counts: 1 command before it was not carried out."
    )
    *_, info = play("<action>go to desk 1</action> <action>look</action>")[-1]
    assert said(info, "ignored_commands")["data"]["ignored"] == 1


def test_a_reply_that_was_cut_off_is_told_so_where_reasons_are_shown():
    reply = Action("I go to", finish_reason="length")
    observation, *_, info = play(reply)[-1]
    assert observation == "Nothing happens."
    assert said(info, "truncated")["visibility"] == "teacher"
    observation, *_, info = play(reply, feedback="policy")[-1]
    assert observation.split("\n")[1] == said(info, "truncated")["text"]
    assert said(info, "truncated")["visibility"] == "policy"


def test_the_command_that_loses_the_game_for_good_is_named():
    """Official games let some things be taken that no receptacle takes back."""
    game = kitchen()
    stuck = replace(game, can_contain=frozenset(p for p in game.can_contain if p[1] != "Book"), tables={})
    env = Kitchen(leak_level=3, expert=True)
    env.games = (stuck,)
    env.reset(options={"task_index": 0})
    env.step("go to desk 1")
    *_, info = env.step("take book 1 from desk 1")
    assert (said(info, "dead_end")["severity"], said(info, "dead_end")["leak_level"]) == ("error", 2)
    assert said(info, "expected")["data"]["expected"] == "go to countertop 1"
    assert [info[key] for key in ("expert_plan", "expert_action", "plan_distance")] == [None] * 3
    *_, info = env.step("look")
    assert info["feedback"] == []


def test_repetitions_are_noted():
    *_, info = play("look", "look")[-1]
    assert said(info, "repeated_command")["data"]["since"] == 0
    *_, info = play("go to desk 1", "go to fridge 1", "go to desk 1")[-1]
    assert codes(info) == ["repeated_state"]
    assert "as it was after turn 1." in said(info, "repeated_state")["text"]
    *_, info = play("", "")[-1]
    assert codes(info) == ["empty_action"]


def test_standing_still_is_noted_every_six_turns():
    turns = [turn for turn, (*_, info) in enumerate(play(*["look"] * 13), 1) if "no_progress" in codes(info)]
    assert turns == [6, 12]
    explorer = [f"go to {place} 1" for place in ("desk", "fridge", "cabinet", "countertop", "sinkbasin", "microwave")]
    assert all(info["feedback"] == [] for *_, info in play(*explorer))


def test_parts_of_the_goal_are_reached_and_lost():
    results = play(PLAN[0], PLAN[1], "move mug 2 to countertop 1")
    entry = said(results[1][-1], "condition_met")
    assert (entry["kind"], entry["severity"], entry["leak_level"]) == ("success", "info", 1)
    assert entry["text"] == "A part of the task is reached: a mug is held or in place."
    assert said(results[2][-1], "condition_lost")["severity"] == "warning"
    assert codes(play(PLAN[0], PLAN[1], leak_level=0)[-1][-1]) == []


def test_the_planner_measures_every_turn_from_level_2_on():
    near, far, same = (play(command, leak_level=2)[0][-1] for command in (PLAN[0], "go to shelf 1", "look"))
    assert (said(near, "plan_distance")["severity"], said(near, "plan_distance")["data"]["after"]) == ("info", 5)
    assert said(far, "plan_distance")["severity"] == said(same, "plan_distance")["severity"] == "warning"
    assert said(far, "plan_distance")["text"] == "A shortest plan now needs 6 commands: no nearer than before."


def test_the_expert_speaks_at_level_3_alone():
    *_, info = play("go to shelf 1", leak_level=3)[0]
    entry = said(info, "expected")
    assert (entry["kind"], entry["reveals_reference"], entry["visibility"]) == ("reference", True, "teacher")
    assert entry["data"]["expected"] == PLAN[0]
    *_, info = play("Go to cabinet 2.", leak_level=3)[0]
    assert said(info, "expected")["severity"] == "warning", "one door more"
    *_, info = play(*PLAN[:-2], "go to shelf 1", leak_level=3)[-1]
    entry = said(info, "expected")
    assert (entry["severity"], entry["data"]["expected"]) == ("info", "go to shelf 1"), "as near as the desk"
    for level in (0, 1, 2):
        for *_, info in play("go to shelf 1", "xyzzy", max_turns=2, leak_level=level):
            assert not any(entry["reveals_reference"] for entry in info["feedback"])


def test_the_end_of_a_failed_episode_says_what_was_missing():
    by_level = [codes(play(*PLAN[:2], max_turns=2, leak_level=level)[-1][-1]) for level in (0, 1, 2, 3)]
    ends = [set(found) & {"open_conditions", "target_was", "expected_plan"} for found in by_level]
    assert ends == [
        set(),
        {"open_conditions"},
        {"open_conditions", "target_was"},
        {"open_conditions", "target_was", "expected_plan"},
    ]
    *_, info = play(*PLAN[:2], max_turns=2, leak_level=3)[-1]
    assert said(info, "open_conditions")["text"] == (
        "1 of 3 parts of the task were reached. Missing: a mug is hot; a hot mug is in or on a desk."
    )
    assert said(info, "target_was")["text"] == (
        "At the start, mug 2 was in or on countertop 1; mug 1 was in or on cabinet 2."
    )
    assert said(info, "expected_plan")["data"]["commands"] == PLAN


def test_the_table_of_feedback_lists_every_code():
    from typing import get_args

    from rfenvs.envs.alfworld.reasons import Code

    table = ALFWorldEnv.__doc__ or ""
    notes = (
        "ignored_commands repeated_command repeated_state no_progress condition_met condition_lost open_conditions "
        "plan_distance dead_end target_was expected expected_plan truncated"
    )
    for code in (*get_args(Code), *notes.split()):
        assert f"`{code}`" in table


# Moments.


def test_a_clone_goes_its_own_way():
    env = Kitchen(render_mode="ansi", expert=True, leak_level=3)
    env.reset(seed=0)
    for command in PLAN[:3]:
        env.step(command)
    twin, before = env.clone(), env.render()
    ends = [[other.step(command) for command in PLAN[3:]] for other in (twin, env)]
    assert ends[0] == ends[1]
    assert twin.render() == env.render()
    assert env.render().startswith(before)
    assert twin.reset(seed=5)[1]["turn"] == 0
    assert env.snapshot().over
    assert twin.np_random is not env.np_random


def test_a_snapshot_can_be_returned_to_again_and_again():
    env, other = Kitchen(leak_level=2), Kitchen(leak_level=2)
    env.reset(seed=0)
    env.step(PLAN[0])
    moment = env.snapshot()
    tries = []
    for player in (env, env, other):
        player.restore(moment)
        tries.append([player.step(command) for command in ("look", "look", *PLAN[1:])])
    assert tries[0] == tries[1] == tries[2]
    assert tries[0][-1][2]


def test_before_the_first_episode_there_is_no_moment():
    with pytest.raises(gymnasium.error.ResetNeeded):
        Kitchen().snapshot()
    Kitchen().clone().reset(seed=0)


def test_environments_in_threads_do_not_disturb_each_other():
    def run(seed: int) -> list:
        env, rng = Kitchen(leak_level=3, expert=True), random.Random(seed)
        found = [env.reset(seed=seed)]
        for _ in range(30):
            found.append(env.step(rng.choice(found[-1][-1]["admissible_commands"])))
            if found[-1][2]:
                break
        return found

    alone = [run(seed) for seed in range(8)]
    together: list = [None] * 8
    threads = [
        threading.Thread(target=lambda seed=seed: together.__setitem__(seed, run(seed))) for seed in range(8)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


# Tasks and arguments.


def test_bad_settings_say_what_to_do():
    for kwargs, message in (
        ({"task_type": "bake"}, "task_type='bake': use 'all', or names with commas of pick"),
        ({"task_type": ["pick"]}, r"task_type=\['pick'\]: use 'all', or names with commas of pick"),
        ({"task_type": ""}, "task_type='': use 'all'"),
        ({"dialect": "alfworld-1"}, "dialect='alfworld-1': use one of alfworld-0.4, alfworld-0.3"),
        ({"difficulty": "extreme"}, "difficulty='extreme': use one of easy, medium, hard"),
        ({"feedback": "log"}, "feedback='log': use one of teacher, policy"),
        ({"split": "test"}, "split='test': use one of train, valid_seen, valid_unseen"),
    ):
        with pytest.raises(ValueError, match=message):
            ALFWorldEnv(**kwargs)


def test_a_canary_hides_in_all_that_was_not_seen():
    env = Kitchen()
    task = env.get_task(0)
    planted = env.plant(task, "zqx")
    assert env.gold_actions(planted) == ["zqx"]
    shown = engine.apply(planted.data["game"], engine.start(planted.data["game"]), "go to countertop 1").text
    assert "zqx" in shown
    assert replace(planted, data=task.data) == task
