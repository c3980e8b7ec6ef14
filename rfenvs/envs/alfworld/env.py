"""`rfenvs/ALFWorld-v0`: household tasks in text, with the reason why nothing happened, and an expert to ask."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from gymnasium.error import ResetNeeded

from rfenvs.env import Action, TextEnv, Verdict, cut_off
from rfenvs.envs.alfworld import engine, notes, planner
from rfenvs.envs.alfworld.engine import Dialect, State
from rfenvs.envs.alfworld.game import Game
from rfenvs.envs.alfworld.progress import Condition, Trail, conditions, state_key, targets
from rfenvs.envs.alfworld.reasons import Seen, explain, forms, see
from rfenvs.envs.alfworld.reply import Reply, read_reply
from rfenvs.envs.alfworld.scenes import Difficulty
from rfenvs.envs.alfworld.sources import Games, games, task_types
from rfenvs.feedback import Item, LeakLevel, Visibility
from rfenvs.tasks import KNOWN_BAD, NO_OP_PASSES, Task

_INSTRUCTIONS = (
    "You act in a house by text commands. Reply with one command; where a reply has several lines, the last one "
    "counts. The commands, where OBJECT, KNIFE and RECEPTACLE are names with their numbers, such as mug 1 and desk 2: "
    "{forms}. You can hold one object at a time."
)
_LIST = "\n\nCommands that do something now:\n"


@dataclass(slots=True)
class Episode:
    """Where an episode is."""

    game: Game
    first: State
    """The game's first state."""
    state: State
    parts: tuple[Condition, ...]
    """Of the goal, in `state`."""
    trail: Trail
    seen: Seen = field(default_factory=Seen)
    won: bool = False
    nothing_happened: int = 0
    """Commands so far that did nothing."""

    def copy(self) -> Episode:
        """One that can go on without changing this one."""
        return replace(self, trail=self.trail.copy())

    @property
    def share(self) -> float:
        """Of the goal's parts, how many are met."""
        return sum(part.met for part in self.parts) / len(self.parts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of an episode, to which any environment made with the same arguments can return, any number of times."""

    task: Task
    task_info: dict[str, Any]
    turn: int
    over: bool
    transcript: tuple[tuple[str, str], ...]
    episode: Episode


class ALFWorldEnv(TextEnv):
    """Put a clean mug on a desk, look at a book under a lamp: ALFWorld's household tasks, played by text commands.

    A native engine says, to the letter, what alfworld 0.4.2 says, and some thousand times faster.

    ## Observation
    One user message: what commands there are, then ALFWorld's own first text, the room and the task. After each
    command ALFWorld's reply. With `admissible=True` the commands that do something follow, one a line, without `help`.

    ## Action
    One command such as `take mug 1 from desk 2`: the last line that is not blank after any `</think>`, inside
    `<action>...</action>` where there is such a tag. A leading `>` or `Action:`, quotes and marks of Markdown around
    it, fences and final full stops are dropped, upper case and superfluous blanks are forgiven, nothing else; the
    official engine forgives blanks around the command alone. `move mug 1 to desk 2` and `put mug 1 in/on desk 2` are
    the same. `think: ...`, as in ReAct, is answered `OK.` and costs a turn. Whatever cannot be done is answered
    `Nothing happens.`, and costs one, too.

    ## Reward
    1.0 for the command that wins, 0 for all others. `info["metrics"]`: `goal_condition_success_rate` (the share of the
    goal's parts that are met), `nothing_happened` (commands so far that did nothing).

    ## End of the episode
    `terminated` when the task is done; `truncated` with `stop_reason="max_turns"` after 50 commands.

    ## Info
    Beside the contract's keys: `admissible_commands` (with `help`, in the official order), `won`,
    `goal_condition_success_rate`, `task_type`, `goal` (the sentence), `state_key` (equal exactly where the states of
    one game are equal), and with `expert=True` `expert_plan` (a shortest plan from here), `expert_action` (its first
    command) and `plan_distance` (its length); these three are None otherwise, and where there is no plan: in
    official games some things, such as a paper towel roll, can be taken but put down nowhere.
    The expert knows what closed doors hide.

    ## Tasks
    By default games that were generated, see `rfenvs.envs.alfworld.generator`; or the official ones. Ids are
    `<task_dir>/<trial>`. `info["task"]["source"]` says which: `procedural` or `file`.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `empty_action`, `truncated` | 0 | the reply is blank, or was cut off |
    | `format_error` | `ignored_commands` | 0 | lines before the last one were commands, too; severity `warning` |
    | `invalid_action` | `several_commands` | 0 | one line holds several |
    | `invalid_action` | `unknown_command` | 0 | no command begins so; the form that may be meant |
    | `invalid_action` | `malformed_command` | 0 | a command begins so, but goes on otherwise; its form |
    | `invalid_action` | `no_such_object` | 0 | no object of this name has been seen; the nearest name that has |
    | `invalid_action` | `no_such_receptacle` | 0 | no receptacle has this name; the nearest one |
    | `invalid_action` | `not_a_receptacle`, `not_an_object` | 0 | an object in place of a receptacle, and the reverse |
    | `invalid_action` | `not_at_receptacle`, `already_here` | 0 | go there first; you are there |
    | `invalid_action` | `closed` | 0 | what is needed is in, or goes into, something closed |
    | `invalid_action` | `not_openable`, `already_open`, `already_closed` | 0 | `open` and `close` |
    | `invalid_action` | `wrong_place` | 0 | `take`: the object is not there; where it was seen last |
    | `invalid_action` | `not_pickupable` | 0 | `take`: the object is fixed |
    | `invalid_action` | `already_holding` | 0 | the hand is full, or holds just what it should take or switch on |
    | `invalid_action` | `not_holding` | 0 | the object, or the knife, is not in the hand |
    | `invalid_action` | `cannot_contain` | 0 | `move`: such things do not go there |
    | `invalid_action` | `wrong_appliance` | 0 | `clean`, `heat`, `cool` with another receptacle; one that does it |
    | `invalid_action` | `cannot_clean`, `cannot_heat`, `cannot_cool` | 0 | the object is nothing to clean, heat, cool |
    | `invalid_action` | `not_here` | 0 | `use`, `slice`: the object is elsewhere |
    | `invalid_action` | `not_toggleable`, `not_sliceable`, `not_a_knife` | 0 | `use`, `slice`: the wrong thing |
    | `invalid_action` | `repeated_command` | 0 | the same command in the same situation; severity `warning` |
    | `hint` | `repeated_state` | 0 | a command led back to an earlier situation; `warning` |
    | `hint` | `no_progress` | 0 | 6 turns, 12, ... without a new situation; `warning` |
    | `success` | `condition_met` | 1 | a part of the goal is reached; `info` |
    | `hint` | `condition_lost` | 1 | a part of the goal is lost; `warning` |
    | `hint` | `open_conditions` | 1 | a failed episode ends: the parts of the goal that are missing |
    | `hint` | `plan_distance` | 2 | each turn: the length of a shortest plan; `info` where it shrank, else `warning` |
    | `hint` | `dead_end` | 2 | instead, once: after this command no plan is left; `error` |
    | `hint` | `target_was` | 2 | a failed episode ends: where at the start the things were that the goal needs |
    | `reference` | `expected` | 3 | each turn: the expert's command; the given one if it was as good, as `info` |
    | `reference` | `expected_plan` | 3 | a failed episode ends: a shortest plan from the start |

    What level 0 says follows from the rules and from what the episode has shown: an object that was never seen is
    spoken of as if there were none. All items are for the teacher, so that observations stay ALFWorld's own;
    `feedback="policy"` shows those of level 0 to the policy, below the reply. The winning command has no items.

    ## Arguments
    Args:
        split: `"train"`, `"valid_seen"` (rooms of train, other games) or `"valid_unseen"` (other rooms).
        data: None or `"generated"`: the generated games. `"official"`: `$RFENVS_DATA_DIR/alfworld`, `$ALFWORLD_DATA` or
            `~/.cache/alfworld`, the first that is there. Else a path: a folder with `json_2.1.1` or one of its splits,
            one `game.tw-pddl`, or rows (`.jsonl`, `.jsonl.xz`). Never official games without being asked.
        max_turns: Commands in an episode; 50 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Most that feedback may give away. From 2 on every turn asks the planner.
        task_type: `"all"`, or names with commas: `pick_and_place_simple` or just `pick`, and so `look`, `clean`,
            `heat`, `cool`, `two`.
        dialect: `"alfworld-0.4"` says "move", `"alfworld-0.3"` "put", as alfworld did before 0.4.0; both take both.
        difficulty: Of generated games: `"easy"`, `"medium"` or `"hard"`.
        instructions: Whether the prompt begins with how to act and the forms of commands; without, it is the official
            text alone, for a system prompt of one's own or a policy that knows the game.
        admissible: Whether observations list the commands that do something.
        expert: Whether `info` holds the expert's plan.
        feedback: `"teacher"`, or `"policy"` to show items of level 0 in the observation.

    ## Version history
    - v0: first release.
    """

    splits = ("train", "valid_seen", "valid_unseen")
    default_max_turns = 50
    one_line = True
    metric_names = ("goal_condition_success_rate", "nothing_happened")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        task_type: str = "all",
        dialect: Dialect = "alfworld-0.4",
        difficulty: Difficulty = "medium",
        instructions: bool = True,
        admissible: bool = False,
        expert: bool = False,
        feedback: Literal["teacher", "policy"] = "teacher",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        for name, value, known in (
            ("dialect", dialect, engine.DIALECTS),
            ("difficulty", difficulty, get_args(Difficulty)),
            ("feedback", feedback, ("teacher", "policy")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}: use one of {', '.join(known)}.")
        self.task_types = task_types(task_type)
        self.dialect: Dialect = dialect
        self.difficulty: Difficulty = difficulty
        self.instructions = instructions
        self.admissible = admissible
        self.expert = expert
        self._to: Visibility = "policy" if feedback == "policy" else "teacher"
        self._episode: Episode | None = None
        self.data_revision = self._games(split).revision

    # Tasks.

    def num_tasks(self, split: str) -> int:
        """Number of games of a split, of the wanted types."""
        return len(self._games(split))

    def task(self, split: str, index: int) -> Task:
        """The game at `index`."""
        source = self._games(split)
        game = source[index]
        state = engine.start(game)
        listed = ", ".join(forms(self.dialect))
        prompt = engine.intro(game, state)
        if self.instructions:
            prompt = f"{_INSTRUCTIONS.format(forms=listed)}\n\n{prompt}"
        return Task(
            id=source.id(index),
            prompt=prompt + self._listed(engine.admissible(game, state, self.dialect)),
            source=source.source,
            flags=_flags(planner.distance(game, state)),
            data={"game": game},
        )

    def task_index(self, split: str, task_id: str) -> int:
        """Find a game by its id, `<task_dir>/<trial>`."""
        return self._games(split).find(task_id)

    def gold_actions(self, task: Task) -> list[str]:
        """A shortest plan."""
        planted: list[str] | None = task.data.get("gold")
        if planted is not None:
            return planted
        game = task.data["game"]
        return list(planner.plan(game, engine.start(game), self.dialect) or ())

    def wrong_answers(self, task: Task) -> list[str]:
        """The plan in one reply, its last step without the others, and commands that only look."""
        plan = self.gold_actions(task)
        return ["\n".join(plan), ", then ".join(plan), *plan[-1:], "look", "inventory", "think: done", "win"]

    def plant(self, task: Task, word: str) -> Task:
        """The same game, where what the goal does not ask for is called `word`, and so is the solution.

        Nothing but going there and looking shows these names.
        """
        game: Game = task.data["game"]
        goal = {game.goal.object_type, game.goal.lamp_type}
        named = zip(game.object_names, game.object_types, strict=True)
        names = [name if type in goal else f"{word} {number}" for number, (name, type) in enumerate(named)]
        planted = replace(game, object_names=tuple(names), tables={})
        return replace(task, data={"game": planted, "gold": [word]})

    # Episodes.

    def begin(self, task: Task) -> None:
        """Set the game up."""
        game: Game = task.data["game"]
        state = engine.start(game)
        self._episode = Episode(game, state, state, conditions(game, state), Trail({state: -1}))

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Carry out the command."""
        episode = self._running()
        game, before = episode.game, episode.state
        reply = read_reply(action)
        if reply.thought:
            text, ran = "OK.", True
        else:
            after, text, outcome = engine.apply(game, before, reply.command, self.dialect)
            ran = outcome.kind is not None
            episode.state = after
            if ran and outcome.command is not None:
                episode.seen = see(game, after, episode.seen, outcome.command)
        episode.nothing_happened += not ran
        parts = episode.parts
        if episode.state != before:
            episode.parts = conditions(game, episode.state)
        won = episode.won = engine.won(game, episode.state)
        items = [] if won else self._items(episode, before, parts, action, reply, ran, turn)
        shown = [text, *(entry["text"] for entry in items if entry["visibility"] == "policy")]
        observation = "\n".join(shown)
        if not won and turn + 1 < self.max_turns and self.admissible:
            observation += self._listed(engine.admissible(game, episode.state, self.dialect))
        return Verdict(
            float(won),
            items,
            success=won,
            metrics={"goal_condition_success_rate": episode.share, "nothing_happened": episode.nothing_happened},
            observation=observation,
        )

    def state_info(self) -> dict[str, Any]:
        """The keys of `info` that are ALFWorld's own; see the class."""
        episode = self._running()
        game, state = episode.game, episode.state
        plan = self.expert_plan() if self.expert else None
        return {
            "admissible_commands": engine.admissible(game, state, self.dialect),
            "won": episode.won,
            "goal_condition_success_rate": episode.share,
            "task_type": game.task_type,
            "goal": game.goal_text,
            "state_key": state_key(state),
            "expert_action": plan[0] if plan else None,
            "expert_plan": plan,
            "plan_distance": None if plan is None else len(plan),
        }

    def snapshot(self) -> Snapshot:
        """This moment of the episode; it does not change as the episode goes on.

        Raises:
            gymnasium.error.ResetNeeded: No episode was started.
        """
        episode, task = self._running(), self._task
        assert task is not None
        return Snapshot(task, self._task_info, self._turn, self._over, tuple(self._transcript), episode.copy())

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of this environment, or of one made with the same arguments."""
        self._task, self._task_info = snapshot.task, snapshot.task_info
        self._turn, self._over = snapshot.turn, snapshot.over
        self._transcript = list(snapshot.transcript)
        self._episode = snapshot.episode.copy()

    def clone(self) -> ALFWorldEnv:
        """Another environment at the same moment of the same episode; neither notices what the other does."""
        twin = copy.copy(self)
        twin._np_random = copy.deepcopy(self._np_random)
        if self._episode is not None:
            twin.restore(self.snapshot())
        return twin

    def expert_plan(self) -> list[str] | None:
        """A shortest plan from here; None where there is none."""
        episode = self._running()
        plan = planner.plan(episode.game, episode.state, self.dialect)
        return None if plan is None else list(plan)

    def _running(self) -> Episode:
        if self._episode is None:
            raise ResetNeeded("The episode has not started: call reset() first.")
        return self._episode

    def _games(self, split: str) -> Games:
        return games(self.data, split, self.task_types, self.difficulty)

    def _listed(self, commands: list[str]) -> str:
        return _LIST + "\n".join(command for command in commands if command != "help") if self.admissible else ""

    def _items(
        self,
        episode: Episode,
        before: State,
        parts: Sequence[Condition],
        action: Action,
        reply: Reply,
        ran: bool,
        turn: int,
    ) -> list[Item]:
        """What is to be said of a turn that did not win."""
        game, state, span, to = episode.game, episode.state, reply.span, self._to
        found: list[Item] = [cut_off(action, to)] if action.finish_reason == "length" else []
        if not ran:
            reason = explain(game, before, episode.seen, reply.command, self.dialect)
            found.append(notes.nothing_happened(reason, span, to))
        if count := sum(engine.parse(game, line) is not None for line in reply.others):
            found.append(notes.ignored(count, span, to))
        since = episode.trail.tried_before(before, reply.command, turn)
        if since is not None and reply.command and not reply.thought:
            found.append(notes.tried_before(since, span, to))
        since = episode.trail.been_before(state, turn)
        if since is not None and state != before:
            found.append(notes.been_before(since, span, to))
        found += notes.stalled(episode.trail.stalled, to)
        last = turn + 1 >= self.max_turns
        if self.leak_level >= 1:
            found += notes.goal_progress(parts, episode.parts)
            found += [notes.open_conditions(episode.parts)] if last else []
        if self.leak_level >= 2:
            found += self._planned(episode, before, reply.command)
            where = targets(game, episode.first)
            found += [notes.target_was(where)] if last and where else []
        if self.leak_level >= 3 and last:
            plan = planner.plan(game, episode.first, self.dialect)
            found += [notes.expected_plan(plan)] if plan else []
        return found

    def _planned(self, episode: Episode, before: State, command: str) -> list[Item]:
        """What the planner has to say of a turn."""
        game = episode.game
        plan = planner.plan(game, before, self.dialect)
        if not plan:
            return []
        left = planner.distance(game, episode.state)
        found = [notes.dead_end() if left is None else notes.plan_distance(len(plan), left)]
        if self.leak_level >= 3:
            nearer = left is not None and left < len(plan)
            asked = engine.parse(game, command) if nearer else None
            given = asked is not None and engine.phrase(game, asked, self.dialect)
            found.append(notes.expected(given or plan[0], given=bool(given)))
        return found


def _flags(length: int | None) -> tuple[str, ...]:
    """What is wrong with a game, by the length of its shortest plan; None where there is none."""
    if length is None:
        return (f"{KNOWN_BAD}: no commands win",)
    return () if length else (f"{NO_OP_PASSES}: the game is won at its start",)
