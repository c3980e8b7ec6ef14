"""The rules of ALFWorld as a specification, on a made-up kitchen, and the real games where they are."""

from __future__ import annotations

import itertools
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfenvs.envs.alfworld.engine import (
    DIALECTS,
    NOTHING,
    Dialect,
    State,
    actions,
    admissible,
    apply,
    intro,
    parse,
    phrase,
    possible,
    start,
    won,
)
from rfenvs.envs.alfworld.files import read_games
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, display_names
from rfenvs.envs.alfworld.pddl import parse_problem, write_problem
from rfenvs.envs.alfworld.progress import conditions
from tests.alfworld_games import CLEAN, COOL, DATA, FETCH_MUG, HEAT, MISSING, WINS, expert_lists, kitchen

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=MISSING)


def play(game: Game, commands: str, dialect: Dialect = "alfworld-0.4") -> tuple[State, str]:
    """The state after some commands, separated by commas, each of which must do something, and the last text."""
    state, text = start(game), ""
    for command in filter(None, commands.split(", ")):
        assert command in admissible(game, state, dialect), command
        state, text, outcome = apply(game, state, command, dialect)
        assert outcome.kind is not None
    return state, text


def met(game: Game, state: State) -> list[bool]:
    return [part.met for part in conditions(game, state)]


def after(commands: str) -> str:
    return play(kitchen(), commands)[1]


TRANSCRIPT = """\
-= Welcome to TextWorld, ALFRED! =-

You are in the middle of a room. Looking quickly around you, you see a countertop 1, a drawer 1, a fridge 1, \
a microwave 1, a shelf 2, a shelf 1, and a sinkbasin 1.

Your task is to: put a hot apple in countertop.
> look
You are in the middle of a room. Looking quickly around you, you see nothing.
> inventory
You are not carrying anything.
> go to drawer 1
You arrive at drawer 1. The drawer 1 is closed.
> use desklamp 1
You turn on the desklamp 1.
> open drawer 1
You open the drawer 1. The drawer 1 is open. In it, you see a butterknife 1, and a desklamp 1.
> take butterknife 1 from drawer 1
You pick up the butterknife 1 from the drawer 1.
> take desklamp 1 from drawer 1
Nothing happens.
> go to countertop 1
You arrive at countertop 1. On the countertop 1, you see a apple 2, a mug 2, a mug 1, and a pan 1.
> go to shelf 1
Nothing happens.
> slice apple 2 with butterknife 1
You sliced the apple 2 with the butterknife 1.
> move butterknife 1 to shelf 2
You move the butterknife 1 to the shelf 2.
> examine shelf 2
On the shelf 2, you see a bowl 1, a butterknife 1, and a egg 1.
> take apple 2 from countertop 1
You pick up the apple 2 from the countertop 1.
> examine apple 2
This is a sliced apple 2.
> inventory
You are carrying: a apple 2.
> go to microwave 1
You arrive at microwave 1. The microwave 1 is closed.
> heat apple 2 with microwave 1
You heat the apple 2 using the microwave 1.
> examine apple 2
This is a hot sliced apple 2.
> go to sinkbasin 1
You arrive at sinkbasin 1. On the sinkbasin 1, you see a pan 1.
> clean apple 2 with sinkbasin 1
You clean the apple 2 using the sinkbasin 1.
> examine apple 2
This is a hot and clean sliced apple 2.
> look
You are facing the sinkbasin 1. Next to it, you see nothing.
> go to countertop 1
You arrive at countertop 1. On the countertop 1, you see a mug 2, a mug 1, and a pan 1.
> look
You are facing the countertop 1, shelf 2, and shelf 1. Next to it, you see nothing.
> move apple 2 to countertop 1
You move the apple 2 to the countertop 1.
"""


def test_a_whole_game_reads_as_the_official_engine_would_tell_it() -> None:
    game = kitchen(3)
    state = start(game)
    told = [intro(game, state)]
    for line in TRANSCRIPT.splitlines():
        if line.startswith("> "):
            assert not won(game, state)
            state, text, _ = apply(game, state, line[2:])
            told += [line, text]
    assert "\n".join(told) + "\n" == TRANSCRIPT
    assert won(game, state)


def test_the_highest_number_goes_to_the_first_id_in_sorted_order() -> None:
    names = display_names(["mug_bar_b", "mug_bar_a", "mug_bar_c", "sink_bar_x", "sink_bar_x_bar_sinkbasin", "agent1"])
    assert [names[f"mug_bar_{x}"] for x in "abc"] == ["mug 3", "mug 2", "mug 1"]
    assert names["sink_bar_x"] == "sink 1"
    assert names["sink_bar_x_bar_sinkbasin"] == "sinkbasin 1"
    assert names["agent1"] == "agent1 "


def test_commands_are_sorted_and_complete() -> None:
    game = kitchen()
    assert admissible(game, start(game)) == [
        "go to countertop 1",
        "go to drawer 1",
        "go to fridge 1",
        "go to microwave 1",
        "go to shelf 1",
        "go to shelf 2",
        "go to sinkbasin 1",
        "help",
        "inventory",
        "look",
    ]
    state, _ = play(game, f"{FETCH_MUG}, go to microwave 1")
    here = [line for line in admissible(game, state) if not line.startswith("go to")]
    assert here == [
        "examine microwave 1",
        "examine mug 1",
        "heat mug 1 with microwave 1",
        "help",
        "inventory",
        "look",
        "open microwave 1",
    ]


FETCH_APPLE = "go to fridge 1, open fridge 1, take apple 1 from fridge 1"


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        ("go to shelf 2, take bowl 1 from shelf 2, examine bowl 1", "This is a normal bowl 1. In it, you see a egg 1."),
        (f"{FETCH_MUG}, examine mug 1", "There's nothing special about mug 1."),
        (f"{FETCH_APPLE}, examine apple 1", "This is a cold apple 1."),
        (f"{FETCH_APPLE}, {CLEAN.format('apple 1')}, examine apple 1", "This is a cool and clean apple 1."),
        (f"{FETCH_APPLE}, {HEAT.format('apple 1')}, examine apple 1", "This is a hot apple 1."),
        ("go to fridge 1, open fridge 1, close fridge 1", "You close the fridge 1."),
        (
            "go to microwave 1, open microwave 1",
            "You open the microwave 1. The microwave 1 is open. In it, you see nothing.",
        ),
    ],
)
def test_what_is_said_of_things(commands: str, says: str) -> None:
    assert after(commands) == says


def test_heating_and_cooling_undo_each_other_and_leave_clean_alone() -> None:
    clean, heat, cool = (text.format("mug 1") for text in (CLEAN, HEAT, COOL))
    assert after(f"{FETCH_MUG}, {clean}, {heat}, {cool}, examine mug 1") == "This is a cool and clean mug 1."
    assert after(f"{FETCH_MUG}, {clean}, {cool}, {heat}, examine mug 1") == "This is a hot and clean mug 1."


def test_an_object_put_down_beside_where_it_was_is_seen_lying_there_too() -> None:
    beside = f"{FETCH_MUG}, move mug 1 to shelf 1"
    assert after(f"{beside}, look").endswith("Next to it, you see a mug 1.")
    twice = f"{beside}, take mug 1 from shelf 1, move mug 1 to shelf 2"
    assert after(f"{twice}, look").endswith("Next to it, you see a mug 1, and a mug 1.")
    back = f"{beside}, take mug 1 from shelf 1, move mug 1 to countertop 1"
    assert after(f"{back}, look").endswith("Next to it, you see a mug 1.")
    away = f"{FETCH_MUG}, go to sinkbasin 1, move mug 1 to sinkbasin 1, go to countertop 1"
    assert after(f"{away}, look").endswith("Next to it, you see nothing.")


def test_an_object_in_two_receptacles_leaves_only_the_one_it_is_taken_from() -> None:
    game = kitchen()
    state, text = play(game, "go to countertop 1, take pan 1 from countertop 1, go to sinkbasin 1")
    assert text.endswith("you see a pan 1.")
    assert not any(line.startswith("take") for line in admissible(game, state)), "the hand is full with the same pan"


def test_a_knife_reaches_through_a_closed_door() -> None:
    knife = "go to drawer 1, open drawer 1, take butterknife 1 from drawer 1, go to fridge 1"
    assert after(f"{knife}, slice apple 1 with butterknife 1") == "You sliced the apple 1 with the butterknife 1."


def test_an_object_in_no_receptacle_has_no_command() -> None:
    game = kitchen()
    for command in ("examine window 1", "take window 1 from countertop 1", "use window 1"):
        assert apply(game, start(game), command).text == NOTHING


@pytest.mark.parametrize(
    "junk",
    ["", "go", "go to", "go to nowhere 1", "Look", "look around", "take mug 1", "take mug 1 from", "examine", "use",
     "examine loc 1", "open mug 1", "go to  drawer 1", "move mug 1 in/on shelf 1", "put mug 1 to shelf 1", "\x00", "é"],
)  # fmt: skip
def test_anything_else_does_nothing(junk: str) -> None:
    game = kitchen()
    state = start(game)
    assert apply(game, state, junk) == (state, "Nothing happens.", (None, None, False))


def test_blanks_around_a_command_are_dropped() -> None:
    game = kitchen()
    assert apply(game, start(game), "  look\n").outcome.kind == "look"


def test_both_wordings_are_understood_in_both_dialects() -> None:
    game = kitchen()
    state, _ = play(game, FETCH_MUG)
    for dialect, says in (
        ("alfworld-0.4", "You move the mug 1 to the shelf 1."),
        ("alfworld-0.3", "You put the mug 1 in/on the shelf 1."),
    ):
        for command in ("move mug 1 to shelf 1", "put mug 1 in/on shelf 1"):
            assert apply(game, state, command, dialect).text == says


def test_the_older_wording() -> None:
    game = kitchen()
    state = start(game)
    assert "help" not in admissible(game, state, "alfworld-0.3")
    assert apply(game, state, "help", "alfworld-0.3").text == NOTHING
    assert apply(game, state, "help").text.startswith("Available commands:\n  look:")
    there = apply(game, state, "go to drawer 1", "alfworld-0.3")
    assert there.text == "You arrive at loc 2. The drawer 1 is closed."
    state, _ = play(game, FETCH_MUG, "alfworld-0.3")
    assert "put mug 1 in/on shelf 1" in admissible(game, state, "alfworld-0.3")


PROGRESS = {
    0: [0, 0, 1, 1, 1, 2],
    1: [0, 0, 1, 1, 2],
    2: [1, 1, 1, 1, 2, 2, 3],
    3: [1, 1, 1, 1, 2, 2, 3],
    4: [1, 1, 1, 1, 2, 2, 3],
    5: [0, 0, 1, 2, 3, 4],
}


@pytest.mark.parametrize("task", range(6))
def test_each_task_is_won_by_its_last_step_and_progress_counts_its_parts(task: int) -> None:
    game = kitchen(task)
    commands = WINS[task].split(", ")
    states = [play(game, ", ".join(commands[:n]))[0] for n in range(len(commands) + 1)]
    assert [won(game, state) for state in states] == [False] * (len(states) - 1) + [True]
    assert [sum(met(game, state)) for state in states] == PROGRESS[task]
    assert len(met(game, states[-1])) == PROGRESS[task][-1]


def test_two_in_different_receptacles_of_the_type_do_not_win() -> None:
    game = kitchen(5)
    state, _ = play(game, WINS[5].replace("move mug 2 to shelf 1", "move mug 2 to shelf 2"))
    assert not won(game, state)
    assert met(game, state) == [True, True, False, False]


def test_the_lamp_counts_only_where_the_agent_is() -> None:
    game = kitchen(1)
    first = "go to drawer 1, use desklamp 1, go to shelf 2, take egg 1 from shelf 2"
    assert not won(game, play(game, first)[0])
    assert won(game, play(game, f"{first}, go to drawer 1")[0])


@pytest.mark.parametrize("task", range(6))
def test_a_problem_written_is_the_same_game_when_read(task: int) -> None:
    game = kitchen(task)
    assert parse_problem(write_problem(game), id=game.id, split=game.split, goal_text=game.goal_text) == game


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        ("(define (problem x))", "no \\(:init"),
        ("(:init (atLocation agent1 loc_bar_1)) (:goal (isDirty ?o))", "none of the six"),
        ("(:init) (:goal (inReceptacle ?o ?r))", "places 0 agents"),
        (
            "(:init (atLocation a l_bar_1) (inReceptacle Mug_bar_1 Desk_bar_1)) (:goal (inReceptacle ?o ?r))",
            "desk_bar_1",
        ),
        ("(:init (atLocation agent1)) (:goal (inReceptacle ?o ?r))", "the fact .atLocation agent1. has 1 arguments"),
        ("(:init (atLocation a l_bar_1) (isHot)) (:goal (inReceptacle ?o ?r))", "the fact .isHot. has 0 arguments"),
    ],
)
def test_a_problem_of_another_kind_is_refused(problem: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_problem(problem)


class TestAnyPlay:
    """What holds after any commands whatever."""

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 5), st.sampled_from(DIALECTS), st.lists(st.integers(0, 10**6), max_size=40))
    def test_rules_that_never_break(self, task: int, dialect: Dialect, choices: list[int]) -> None:
        game = kitchen(task)
        state = start(game)
        for choice in choices:
            before = hash(state)
            lines = admissible(game, state, dialect)
            assert lines == sorted(set(lines))
            line = lines[choice % len(lines)]
            step = apply(game, state, line, dialect)
            assert hash(state) == before, "apply changed a state in place"
            assert step == apply(game, state, line, dialect)
            assert step.outcome.kind is not None
            assert step.text != NOTHING
            assert step.outcome.changed == (step.state != state)
            assert all(met(game, step.state)) == won(game, step.state)
            state = step.state

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 5), st.sampled_from(DIALECTS), st.lists(st.integers(0, 10**6), max_size=25))
    def test_what_is_not_listed_does_nothing(self, task: int, dialect: Dialect, choices: list[int]) -> None:
        game = kitchen(task)
        state = start(game)
        for choice in choices:
            lines = admissible(game, state, dialect)
            state = apply(game, state, lines[choice % len(lines)], dialect).state
        listed = {parse(game, line) for line in admissible(game, state, dialect)}
        assert all(phrase(game, command, dialect) in admissible(game, state, dialect) for command in listed if command)
        for line in every_line(game, dialect):
            command = parse(game, line)
            assert command is not None
            runs = apply(game, state, line, dialect).outcome.kind is not None
            assert runs == (command in listed)
            assert phrase(game, command, dialect) == line

    def test_a_planner_is_offered_what_changes_something(self) -> None:
        game = kitchen()
        rng, state = random.Random(0), start(game)
        for _ in range(300):
            offered = actions(game, state)
            assert all(possible(game, state, command) for command in offered)
            asking = ("look", "inventory", "help", "examine")
            assert {phrase(game, c) for c in offered} == {
                x for x in admissible(game, state) if not x.startswith(asking)
            }
            state = apply(game, state, rng.choice(offered)).state


def every_line(game: Game, dialect: Dialect) -> list[str]:
    """Every command that names things of the game, possible or not."""
    objects, places = game.object_names, game.receptacle_names
    put, to = ("move", "to") if dialect == "alfworld-0.4" else ("put", "in/on")
    lines = [f"{verb} {place}" for verb in ("go to", "open", "close", "examine") for place in places]
    lines += [f"{verb} {thing}" for verb in ("use", "examine") for thing in objects]
    lines += [f"slice {a} with {b}" for a, b in itertools.product(objects, objects)]
    pairs = (("take", "from"), (put, to), ("clean", "with"), ("heat", "with"), ("cool", "with"))
    lines += [f"{verb} {a} {word} {b}" for (verb, word), a, b in itertools.product(pairs, objects, places)]
    return [*lines, "look", "inventory", *(["help"] if dialect == "alfworld-0.4" else [])]


def test_threads_share_a_game() -> None:
    game = kitchen(3)
    told: dict[int, list[str]] = {}

    def run(number: int) -> None:
        rng, state, texts = random.Random(7), start(game), []
        for _ in range(400):
            state, text, _ = apply(game, state, rng.choice(admissible(game, state)))
            texts.append(text)
        told[number] = texts

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert all(texts == told[0] for texts in told.values())


@needs_data
class TestRealGames:
    """The official games, 3,553 to train and 140 of seen rooms."""

    def test_counts_of_each_type(self) -> None:
        for split, counts in (("train", (790, 308, 650, 459, 533, 813)), ("valid_seen", (35, 13, 27, 16, 25, 24))):
            rows = read_games(DATA / f"alfworld_{split}.jsonl.xz").rows
            assert tuple(sum(row.task_type == task_type for row in rows) for task_type in TASK_TYPES) == counts

    def test_every_published_list_of_actions_wins(self) -> None:
        games = read_games(DATA / "alfworld_train.jsonl.xz")
        number = {row.id: index for index, row in enumerate(games.rows)}
        won_lists = 0
        for row in expert_lists():
            index = number[f"{row['task_dir']}/{row['trial']}"]
            game = games.rows[index].game()
            assert game.task_type == games.rows[index].task_type
            state = start(game)
            for action in row["actions"]:
                assert not won(game, state)
                state = apply(game, state, action).state
            won_lists += won(game, state)
        assert won_lists == 3432

    def test_problems_come_back_as_they_were_written(self) -> None:
        for game in read_games(DATA / "alfworld_valid_seen.jsonl.xz")[::7]:
            assert parse_problem(write_problem(game), id=game.id, split=game.split, goal_text=game.goal_text) == game
