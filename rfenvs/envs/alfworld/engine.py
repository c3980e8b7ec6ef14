"""ALFWorld as pure functions: a game and a state in, the next state and the text out.

The text equals that of the official engine (alfworld 0.4.2) to the letter. States are values, so that a state can be
kept, shared between threads, hashed, and returned to at no cost.

    game = read_games("train.jsonl.xz")[0]
    state = start(game)
    print(intro(game, state))
    while not won(game, state):
        state, text, outcome = apply(game, state, admissible(game, state)[0])
"""

from __future__ import annotations

from typing import NamedTuple

from rfenvs.envs.alfworld.game import Game
from rfenvs.envs.alfworld.lookup import keep, lookup
from rfenvs.envs.alfworld.rules import (
    Command,
    Kind,
    State,
    accessible,
    actions,
    actions_here,
    effect,
    in_reach_of_knife,
    possible,
    start,
    won,
)
from rfenvs.envs.alfworld.wording import DIALECTS, NOTHING, SIMPLE, Dialect, intro, parse, phrase, reply

__all__ = [
    "DIALECTS",
    "NOTHING",
    "Command",
    "Dialect",
    "Kind",
    "Outcome",
    "State",
    "Step",
    "accessible",
    "actions",
    "admissible",
    "apply",
    "intro",
    "parse",
    "phrase",
    "possible",
    "start",
    "won",
]


class Outcome(NamedTuple):
    """What became of a command.

    `kind` is the action that ran, None if nothing happened. `command` is the text understood, None if it names no
    action or no thing of this game. `changed` tells whether the state differs from the one before.
    """

    kind: Kind | None
    command: Command | None
    changed: bool


class Step(NamedTuple):
    """The answer to a command."""

    state: State
    text: str
    outcome: Outcome


def apply(game: Game, state: State, command: str | Command, dialect: Dialect = "alfworld-0.4") -> Step:
    """Do what a command says: the next state, the text of it, and what became of it. Nothing is changed in place."""
    asked = parse(game, command) if isinstance(command, str) else command
    if asked is None or not possible(game, state, asked) or (asked.kind == "help" and dialect == "alfworld-0.3"):
        return Step(state, NOTHING, Outcome(None, asked, False))
    after = effect(game, state, asked)
    return Step(after, reply(game, after, asked, dialect), Outcome(asked.kind, asked, after != state))


def admissible(game: Game, state: State, dialect: Dialect = "alfworld-0.4") -> list[str]:
    """Every command that does or says something now, sorted as strings, as the official engine lists them."""
    find = lookup(game)
    at, hand, contents = state.location, state.hand, state.contents
    here = find.here[at]
    # Walking and asking depend on the location; all else on what is in the hand and before the agent.
    sliced = in_reach_of_knife(game, state) if hand >= 0 and find.knives >> hand & 1 else 0
    key = (dialect, at, hand, sliced, *[contents[r] << 1 | state.opened >> r & 1 for r in here])
    found = find.commands.get(key)
    if found is None:
        commands = actions_here(game, state) + [Command("examine", receptacle=r) for r in here]
        if hand >= 0:
            commands.append(Command("examine", object=hand))
        lines = [*_always(game, at, dialect), *(phrase(game, command, dialect) for command in commands)]
        found = keep(find.commands, key, tuple(sorted(set(lines))))
    return list(found)


def _always(game: Game, location: int, dialect: Dialect) -> tuple[str, ...]:
    go = lookup(game).go
    found = go.get(location)
    if found is None:
        away = [
            name for name, at in zip(game.receptacle_names, game.receptacle_location, strict=True) if at != location
        ]
        found = go[location] = (*(f"go to {name}" for name in away), *SIMPLE)
    return found if dialect == "alfworld-0.4" else tuple(line for line in found if line != "help")
