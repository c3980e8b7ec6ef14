"""`tests/Corridor-v0`: the smallest environment of many turns, with a planner, and episodes that follow a script.

Rooms in a row; a key lies in one of them, a locked door is in the first or the last. Take the key, open the door.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import gymnasium

from agents.chat import Chat
from agents.engines.base import Completion, Sampling
from agents.history import RolloutSettings
from agents.rollout import Environments, rollout
from agents.trajectory import Group, Trajectory
from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.feedback import Item, LeakLevel, item
from rfenvs.graders.thinking import visible_span
from rfenvs.tasks import Task

ID = "tests/Corridor-v0"
NOTHING = "Nothing happens."
COMMANDS = ("go left", "go right", "take key", "open door")
ROOMS = ("Attic", "Hall", "Study", "Porch", "Cellar")
_TASKS = sorted(
    (rooms, start, key, door)
    for rooms in range(2, len(ROOMS) + 1)
    for start in range(rooms)
    for key in range(rooms)
    for door in (0, rooms - 1)
    if 3 <= abs(start - key) + abs(key - door) + 2 <= 6
)
random.Random(0).shuffle(_TASKS)
_HALF = len(_TASKS) // 2


class Corridor(TextEnv):
    """Actions: `COMMANDS`; the last line of a reply counts. Reward 1 for the opened door. Shortest plans: 3 to 6.

    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `invalid_action` | `unknown_command`, `wall`, `no_key`, `no_door`, `locked` | 0 | nothing happened; why |
    | `hint` | `astray` | 2 | the way to the goal grew longer |
    | `reference` | `expected` | 3 | the planner's command for the state *before* this action was another |

    Only the teacher sees these. ``expert=False``: the planner's three keys of `info` are None.
    """

    default_max_turns = 8

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 3,
        expert: bool = True,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        self.expert = expert
        self.rooms = self.at = self.key = self.door = 0
        self.holding = self.won = False

    def num_tasks(self, split: str) -> int:
        return _HALF

    def task(self, split: str, index: int) -> Task:
        world = _TASKS[index + (_HALF if split == "test" else 0)]
        _, start, key, door = world
        prompt = f"Open the door. Commands: {', '.join(COMMANDS)}.\n{_look(start, key, door)}"
        return Task(prompt=prompt, reference=" ".join(_plan(start, key, door)), data={"world": world})

    def gold_actions(self, task: Task) -> list[str]:
        _, start, key, door = task.data["world"]
        return _plan(start, key, door)

    def begin(self, task: Task) -> None:
        self.rooms, self.at, self.key, self.door = task.data["world"]
        self.holding = self.won = False

    def state_info(self) -> dict[str, Any]:
        plan = self._plan() if self.expert else None
        return {
            "state_key": f"{self.at}{'k' if self.holding else ''}{'w' if self.won else ''}",
            "admissible_commands": [c for c in COMMANDS if not self._fault(c)],
            "expert_action": plan[0] if plan else None,
            "expert_plan": plan,
            "plan_distance": None if plan is None else len(plan),
            "won": self.won,
        }

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        plan, command = self._plan(), _command(action)
        items: list[Item] = []
        if fault := self._fault(command):
            code, why = fault
            items.append(_note("invalid_action", why, code, 0))
        else:
            self._do(command)
        if len(self._plan()) > len(plan):
            items.append(_note("hint", "That led away from the goal.", "astray", 2))
        if not len(self._plan()) < len(plan):
            data = {"code": "expected", "expected": plan[0]}
            items.append(item("reference", f"Expected: {plan[0]}", source="env", visibility="teacher",
                              reveals_reference=True, data=data))  # fmt: skip
        seen = NOTHING if fault else self._seen(command)
        return Verdict(float(self.won), [] if self.won else items, success=self.won, observation=seen)

    def _plan(self) -> list[str]:
        if self.won:
            return []
        return _plan(self.at, None if self.holding else self.key, self.door)

    def _fault(self, command: str) -> tuple[str, str] | None:
        """Why a command does nothing, as code and sentence."""
        if self.won or command not in COMMANDS:
            return "unknown_command", f"There is no such command. Use one of: {', '.join(COMMANDS)}."
        if command in COMMANDS[:2] and self.at == {"go left": 0, "go right": self.rooms - 1}[command]:
            return "wall", "There is a wall."
        if command == "take key" and (self.holding or self.at != self.key):
            return "no_key", "There is no key here."
        if command == "open door" and self.at != self.door:
            return "no_door", "There is no door here."
        if command == "open door" and not self.holding:
            return "locked", "The door is locked, and you have no key."
        return None

    def _do(self, command: str) -> None:
        self.at += {"go left": -1, "go right": 1}.get(command, 0)
        self.holding = self.holding or command == "take key"
        self.won = command == "open door"

    def _seen(self, command: str) -> str:
        done = {"take key": "You have the key.", "open door": "The door is open."}
        return done.get(command) or _look(self.at, None if self.holding else self.key, self.door)


def _look(at: int, key: int | None, door: int) -> str:
    return f"{ROOMS[at]}.{' A key is here.' if at == key else ''}{' A door is here.' if at == door else ''}"


def _plan(at: int, key: int | None, door: int) -> list[str]:
    """The shortest plan; there is only one. ``key`` is None once it is held."""
    if key is None:
        return [*_walk(at, door), "open door"]
    return [*_walk(at, key), "take key", *_plan(key, None, door)]


def _walk(start: int, end: int) -> list[str]:
    return ["go left" if end < start else "go right"] * abs(end - start)


def _command(action: str) -> str:
    start, end = visible_span(action)
    lines = [line.strip() for line in action[start:end].splitlines() if line.strip()]
    return lines[-1].lower().rstrip(".") if lines else ""


def _note(kind: Any, text: str, code: str, leak: LeakLevel) -> Item:
    return item(kind, text, source="env", visibility="teacher", leak_level=leak, data={"code": code})


class Script:
    """An engine that says given actions, one a call, to every prompt.

    ``spelt``: letter by letter, in ids that no encoding of the text gives again.
    """

    def __init__(
        self, chat: Chat, actions: Sequence[str], context_length: int = 1 << 20, *, spelt: bool = False
    ) -> None:
        self.chat, self.actions, self.context_length, self.spelt = chat, list(actions), context_length, spelt

    def generate(self, prompts: list[list[int]], sampling: Sampling, seed: int) -> list[Completion]:
        text = self.actions.pop(0)
        pieces = text if self.spelt else [text]
        ids = [*(i for piece in pieces for i in self.chat.plain(piece)), min(self.chat.stop_ids())]
        return [Completion(list(ids), [-1.0] * len(ids), "stop") for _ in prompts]


def play(chat: Chat, task: int, actions: Sequence[str], split: str = "train", **kwargs: Any) -> Trajectory:
    """The episode of these actions, which must be as many as the episode takes."""
    return episodes(chat, task, actions, split=split, **kwargs).trajectories[0]


def episodes(
    chat: Chat,
    task: int,
    *scripts: Sequence[str],
    split: str = "train",
    settings: RolloutSettings | None = None,
    spelt: bool = False,
    **kwargs: Any,
) -> Group:
    """A group: one episode of the same task for each script. Episodes longer than a script are cut by ``max_turns``."""
    groups = []
    for script in scripts:
        environments = Environments(ID, split, {"max_turns": len(script), **kwargs})
        engine = Script(chat, script, spelt=spelt)
        groups += rollout(engine, chat, environments, [task], 1, Sampling(), 0, settings=settings)
        environments.close()
    return Group(groups[0].task, [g.trajectories[0] for g in groups])


def find(split: str = "train", **wanted: int) -> int:
    """Index of the first task with these of ``rooms``, ``start``, ``key``, ``door``, ``plan`` (its length)."""
    env = Corridor(split)
    for index in range(env.num_tasks(split)):
        task = env.task(split, index)
        known = {**dict(zip(("rooms", "start", "key", "door"), task.data["world"], strict=True)),
                 "plan": len(env.gold_actions(task))}  # fmt: skip
        if all(known[name] == value for name, value in wanted.items()):
            return index
    raise LookupError(f"no task with {wanted}")


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=Corridor)
