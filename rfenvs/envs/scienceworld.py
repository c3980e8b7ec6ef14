"""`rfenvs/ScienceWorld-v0`: experiments in a simulated house, by typed commands."""

from __future__ import annotations

import difflib
import re
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict, cut_off
from rfenvs.envs import scienceworld_engine as engine
from rfenvs.envs.scienceworld_engine import POOL, Lease, Scenario, Subgoal
from rfenvs.feedback import Item, LeakLevel, clip, item
from rfenvs.graders.thinking import visible_span
from rfenvs.rows import DataError, read_rows
from rfenvs.tasks import Task, digest

KNOWN_BAD: dict[tuple[str, int, str], str] = {
    ("freeze", 11, ""): "ScienceWorld's own solution ends at 87 of 100",
    ("freeze", 19, ""): "ScienceWorld's own solution ends at 82 of 100",
    ("grow-fruit", 6, ""): "ScienceWorld's own solution ends at 46 of 100",
    ("grow-fruit", 8, ""): "ScienceWorld's own solution ends at 50 of 100",
    ("grow-fruit", 78, ""): "ScienceWorld's own solution ends at 46 of 100",
    ("grow-fruit", 87, ""): "ScienceWorld's own solution ends at 46 of 100",
}
"""Worlds (task, variation, simplification) whose gold commands do not solve them, among those that were tried."""

_COLUMNS = {"task": str, "variation": int}
_SAMPLE = Path(__file__).parent / "samples" / "scienceworld.jsonl"
_LONGEST_COMMAND = 1000
_LONGEST_SOLUTION = 12_000
_QUOTED = 80
_PREFIX = re.compile(r"(?:>\s*|action:\s*)+", re.IGNORECASE)
_SYSTEM = (
    "You are in a simulated house where you do science by typing commands. Reply with one command; where a reply has "
    "several lines, the last one counts. Time passes while you act. When a command could mean several things you are "
    "shown a numbered list: reply with one of its numbers."
)


class ScienceWorldEnv(TextEnv):
    """Elementary science in a text world: boil water, grow fruit, find out whether a thing conducts electricity.

    ## Observation
    A system turn that asks for one command a reply and lists the forms of commands, then the task and what is to be
    seen. After each command: ScienceWorld's reply, and the items for the policy, where there are any, below it.

    ## Action
    One command such as `open door to kitchen`: the last line of the reply that is not blank, after any `</think>`,
    without a leading `>` or `Action:`.

    ## Reward
    What the command adds to the score, which rises from 0 to 1 as subgoals are reached: the return is the final score.
    A command that makes the task impossible, such as focusing on the wrong thing, takes back all that was earned: the
    return is 0, and the reward of that step may be negative. Success is a score of 1.
    `info["metrics"]`: `score` (from -1 to 1, as ScienceWorld counts it), `subgoals` (share of the steps done).

    ## End of the episode
    `terminated` on success and when the task has become impossible; `truncated` with `stop_reason="max_turns"` after
    300 commands by default: the longest solution among 642 worlds that were tried takes 193. ScienceWorld's own limit,
    and that of published results, is `max_turns=100`.

    ## Tasks
    30 tasks with 10 to 1386 variations, 7207 in all. The first half of the variations is for train, the next quarter
    for dev, the rest for test. The tasks take turns, so that the first 30 indices are one of each. Ids are
    `<task>-<variation>`, and `-<simplification>` where there is one. Same commands, same text: see
    `rfenvs.envs.scienceworld_engine` for what that took.

    ## Feedback
    | kind | `data["code"]` | leak level | to | said when |
    |---|---|---|---|---|
    | `format_error` | `no_command`, `truncated` | 0 | policy | the reply is blank, or was cut off |
    | `invalid_action` | `unknown_command` | 0 | policy | no form of command fits; the nearest form |
    | `invalid_action` | `unknown_object` | 0 | policy | a form fits, but the thing is not here |
    | `invalid_action` | `ambiguous` | 0 | policy | a numbered list was shown |
    | `invalid_action` | `no_choice` | 0 | policy | neither was one of its numbers the reply |
    | `invalid_action` | `repeated` | 0 | policy | the same command had the same reply just before |
    | `success` | `subgoal` | 1 | teacher | a subgoal was reached; severity `info` |
    | `wrong_answer` | `impossible` | 0 | policy | the command made the task impossible |
    | `hint` | `progress` | 1 | teacher | a failed episode ends: how many steps of the task were done |
    | `hint` | `open_subgoals` | 2 | teacher | the same: which steps were not |
    | `reference` | `expected` | 3 | teacher | the same, with `leak_level=3`: commands that solve the task |

    ## Arguments
    Args:
        split: `"train"`, `"dev"` or `"test"`.
        data: Worlds of your own choice, a row each: `task`, `variation`, and if you like `simplification` and `split`;
            without `split` a row is in every split. `"sample"`: nine short ones.
        max_turns: Commands in an episode; 300 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Most that feedback may give away. With 3 the end of a failed episode waits for ScienceWorld to
            solve the task: mostly a second, but 7 to 40 for `mendelian-genetics`.
        task: Name, names with commas, or `"all"`.
        simplification: Names with commas of `teleportAction`, `selfWateringFlowerPots`, `openContainers`, `openDoors`,
            `noElectricalAction`, or `"easy"` for ScienceWorld's choice of them.
        commands: Whether the prompt lists the forms of commands.
        hints: Whether the policy sees the `invalid_action` and `truncated` items; with False only the teacher does, and
            observations are ScienceWorld's to the letter.

    Needs `pip install "rfenvs[scienceworld]"`, and Java 8 or newer. Each environment that plays has a Java process of
    300 to 500 MB; `close` gives it back.

    ## Version history
    - v0: first release; measured with scienceworld 1.2.3.
    """

    splits = ("train", "dev", "test")
    default_max_turns = 300
    one_line = True
    metric_names = ("score", "subgoals")
    blocking = True

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        task: str = "all",
        simplification: str = "",
        commands: bool = True,
        hints: bool = True,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        self.data_revision = f"scienceworld {engine.package().__version__}"
        engine.java()
        self.names = _names(task)
        engine.check_simplification(simplification, self.names)
        self.simplification = simplification
        self.commands = commands
        self.hints = hints
        self._worlds: dict[str, tuple[Scenario, ...]] = {}
        self._source = "scienceworld"
        if data is not None:
            self._worlds = _read(_SAMPLE if data == "sample" else Path(data), simplification, self.splits)
            self._source = "sample" if data == "sample" else "file"
            self.data_revision += f", {self._source}:{digest(self._worlds)}"
        self._lease: Lease | None = None
        self._score = 0
        self._subgoals: tuple[Subgoal, ...] = ()
        self._last = ("", "")

    def num_tasks(self, split: str) -> int:
        """Number of variations of the tasks in a split, or of rows in `data`."""
        return len(self._scenarios(split))

    def task(self, split: str, index: int) -> Task:
        """The task at `index`: one variation of one task."""
        scenario = self._scenarios(split)[index]
        opening = engine.opening(scenario)
        forms = f"\nCommands, where OBJ stands for a thing: {', '.join(opening.commands)}." if self.commands else ""
        reason = KNOWN_BAD.get(scenario)
        return Task(
            id=_id(scenario),
            messages=(
                {"role": "system", "content": _SYSTEM + forms},
                {"role": "user", "content": f"{opening.description}\n\n{opening.look}"},
            ),
            source=self._source,
            flags=(f"known_bad: {reason}",) if reason else (),
            data={"scenario": scenario, "commands": opening.commands},
        )

    def task_index(self, split: str, task_id: str) -> int:
        """Find a world by its id, without starting any."""
        if split not in self._ids:
            self._ids[split] = {_id(scenario): i for i, scenario in enumerate(self._scenarios(split))}
        return self._ids[split][task_id]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode; see `TextEnv.reset`. The running one, if any, ends even where the options are refused."""
        self._over = True
        if self._lease is not None:
            self._lease.release()
        return super().reset(seed=seed, options=options)

    def begin(self, task: Task) -> None:
        """Load the world into this environment's engine."""
        if self._lease is None:
            self._lease = POOL.join()
            weakref.finalize(self, self._lease.close)
        held = self._lease.take()
        try:
            held.load(task.data["scenario"])
            self._subgoals = held.progress()
        except BaseException:
            self._lease.discard()
            raise
        self._score = 0
        self._last = ("", "")

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Carry out the command."""
        lease = self._lease
        if lease is None or lease.engine is None or not lease.engine.usable:
            raise RuntimeError("The Java process of this episode is gone, or belongs to a parent process.")
        command, span = parse_command(action)
        try:
            reply = lease.engine.step(command[:_LONGEST_COMMAND])
            subgoals = lease.engine.progress()
        except BaseException:
            lease.discard()
            raise
        success = reply.score >= 100
        lost = reply.score < 0 or (reply.completed and not success)
        reward = (max(reply.score, 0) - self._score) / 100
        feedback = [] if success else self._complaints(task, command, span, reply.text)
        if not success and action.finish_reason == "length":
            feedback.insert(0, cut_off(action, "policy" if self.hints else "teacher"))
        shown = [reply.text, *(entry["text"] for entry in feedback if entry["visibility"] == "policy")]
        if lost:
            text = "With this command the task has become impossible, and the episode ends."
            feedback.append(item("wrong_answer", text, source="env", leak_level=0, data={"code": "impossible"}))
            shown.append(text)
        if not success:
            feedback += _reached(self._subgoals, subgoals)
        self._score = max(reply.score, 0)
        self._subgoals = subgoals
        self._last = (command, reply.text)
        if success or lost or turn + 1 >= self.max_turns:
            lease.release()
            if not success:
                feedback += self._post_mortem(task)
        steps = [goal for goal in subgoals if goal.sequential]
        return Verdict(
            reward,
            feedback,
            success=success,
            metrics={
                "score": reply.score / 100,
                "subgoals": sum(goal.done for goal in steps) / len(steps) if steps else 0.0,
            },
            done=success or lost,
            observation=reply.text if len(shown) == 1 else "\n".join([reply.text.rstrip("\n"), *shown[1:]]),
        )

    def gold_actions(self, task: Task) -> list[str]:
        """Commands that solve the task, by ScienceWorld's own agent; it takes a while the first time."""
        planted: list[str] | None = task.data.get("gold")
        return list(engine.gold(task.data["scenario"])) if planted is None else planted

    def wrong_answers(self, task: Task) -> list[str]:
        """Commands that change nothing, one that spoils many tasks, and the last step without the others."""
        return ["reset task", "focus on agent", self.gold_actions(task)[-1]]

    def plant(self, task: Task, word: str) -> Task:
        """The same world with `word` for its solution, the only thing that is hidden in a task."""
        return replace(task, data={**task.data, "gold": [word]})

    def close(self) -> None:
        """Give the Java process back; closing twice does no harm."""
        if self._lease is not None:
            self._over = True
            self._lease.close()
            self._lease = None
        super().close()

    def _scenarios(self, split: str) -> tuple[Scenario, ...]:
        if split not in self._worlds:
            counts = engine.variations()
            lists = {name: engine.split_variations(counts[name], split) for name in self.names}
            self._worlds[split] = tuple(
                Scenario(name, numbers[turn], self.simplification)
                for turn in range(max(map(len, lists.values())))
                for name, numbers in lists.items()
                if turn < len(numbers)
            )
        return self._worlds[split]

    def _complaints(self, task: Task, command: str, span: tuple[int, int], text: str) -> list[Item]:
        """What is wrong with a command, as far as the simulator's reply shows it."""
        found = _complaint(task.data["commands"], command, span, text)
        if found is None and self._last == (command, text) and not command.lower().startswith("wait"):
            said = "The same command had the same reply just before."
            found = _invalid("repeated", said, span, severity="warning")
        if found is None:
            return []
        return [found if self.hints else {**found, "visibility": "teacher"}]

    def _post_mortem(self, task: Task) -> list[Item]:
        """What to say to the teacher when an episode has failed."""
        steps = [goal for goal in self._subgoals if goal.sequential]
        missing = [goal.description for goal in steps if not goal.done]
        done = len(steps) - len(missing)
        said = [_at_the_end("progress", f"{done} of the {len(steps)} steps of the task were done.", 1)]
        if missing:
            said.append(_at_the_end("open_subgoals", f"Steps that were not done: {'; '.join(missing)}.", 2))
        if self.leak_level >= 3:
            gold = self.gold_actions(task)
            said.append(
                item(
                    "reference",
                    "Commands that solve the task:\n" + "\n".join(gold),
                    source="env",
                    scope="episode",
                    turn=-1,
                    visibility="teacher",
                    leak_level=3,
                    data={"code": "expected", "commands": gold},
                    limit=_LONGEST_SOLUTION,
                )
            )
        return said


def parse_command(action: str) -> tuple[str, tuple[int, int]]:
    """The command in a reply, with the place where it stands.

    >>> parse_command("<think>a door</think>I leave.\\n> open door")
    ('open door', (32, 41))
    """
    end = len(action)
    start, visible = visible_span(action)
    lines = [
        line for line in re.finditer(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+", action[start:visible]) if line[0].strip()
    ]
    if not lines:
        return "", (end, end)
    line = lines[-1][0].rstrip()
    left = len(line) - len(line.lstrip())
    prefix = _PREFIX.match(line, left)
    left = left if prefix is None else prefix.end()
    first = start + lines[-1].start() + left
    return line[left:], (first, first + len(line) - left)


def _complaint(commands: tuple[str, ...], command: str, span: tuple[int, int], text: str) -> Item | None:
    quoted = clip(command, _QUOTED)
    if not command:
        return item("format_error", "The reply holds no command.", source="env", span=span, data={"code": "no_command"})
    if text.startswith("Ambiguous request"):
        said = "Reply with one of these numbers alone; anything else cancels the command."
        return _invalid("ambiguous", said, span, severity="warning")
    if text.startswith("Unknown action"):
        said = f'"{quoted}" is not one of the numbers of the list, and the command before it is cancelled.'
        return _invalid("no_choice", said, span)
    if not text.startswith("No known action"):
        return None
    for form in commands:
        if "OBJ" in form and re.fullmatch(re.escape(form).replace("OBJ", ".+"), command, re.IGNORECASE):
            said = f'"{quoted}" has the form "{form}", but does not name something that is here.'
            return _invalid("unknown_object", said, span)
    form = nearest_form(command, commands)
    return _invalid("unknown_command", f'There is no command "{quoted}"; the nearest form is "{form}".', span)


def nearest_form(command: str, commands: tuple[str, ...]) -> str:
    """The form of command that is most like `command`, by its words without the things.

    >>> nearest_form("pikc up the jar", ("open OBJ", "pick up OBJ", "wait"))
    'pick up OBJ'
    """
    words = command.lower().split()[:6]

    def likeness(form: str) -> float:
        verb = form.partition(" OBJ")[0]
        start = " ".join(words[: len(verb.split())])
        return difflib.SequenceMatcher(None, start, verb).ratio()

    return max(commands, key=likeness)


def _invalid(code: str, text: str, span: tuple[int, int], severity: Any = "error") -> Item:
    return item("invalid_action", text, severity=severity, source="env", span=span, data={"code": code})


def _reached(before: tuple[Subgoal, ...], now: tuple[Subgoal, ...]) -> list[Item]:
    """Items for the subgoals that a command reached."""
    open_before = {(goal.sequential, goal.number) for goal in before if not goal.done}
    return [
        item(
            "success",
            f"Reached: {goal.description}.",
            severity="info",
            source="env",
            visibility="teacher",
            leak_level=1,
            data={"code": "subgoal", "step": goal.sequential, "number": goal.number},
        )
        for goal in now
        if goal.done and (goal.sequential, goal.number) in open_before
    ]


def _at_the_end(code: str, text: str, leak_level: LeakLevel) -> Item:
    return item(
        "hint",
        text,
        severity="warning",
        source="env",
        scope="episode",
        turn=-1,
        visibility="teacher",
        leak_level=leak_level,
        data={"code": code},
    )


def _id(scenario: Scenario) -> str:
    return "-".join(
        [scenario.task, str(scenario.variation), *filter(None, [scenario.simplification.replace(",", "+")])]
    )


def _names(task: str) -> tuple[str, ...]:
    known = engine.task_names()
    names = known if task == "all" else tuple(dict.fromkeys(name.strip() for name in task.split(",")))
    for name in names:
        if name not in known:
            raise ValueError(f"task={name!r}: use 'all', or names of {', '.join(known)}.")
    return names


def _read(path: Path, simplification: str, splits: tuple[str, ...]) -> dict[str, tuple[Scenario, ...]]:
    """The worlds of each split in a file, every row checked."""
    known = engine.task_names()
    found: dict[str, dict[Scenario, int]] = {split: {} for split in splits}
    for row in read_rows(path, _COLUMNS):
        where = f"{path.name}, line {row.line}"
        name, variation = row.values["task"], row.values["variation"]
        own, split = row.values.get("simplification", simplification), row.values.get("split")
        if name not in known:
            raise DataError(f"{where}: there is no task {name!r}; use {', '.join(known)}.")
        if not 0 <= variation < (count := engine.variations()[name]):
            raise DataError(f"{where}: {name} has variations 0 to {count - 1}, not {variation}.")
        if split is not None and split not in splits:
            raise DataError(f"{where}: there is no split {split!r}; use {', '.join(splits)}, or none for all of them.")
        try:
            engine.check_simplification(own, (name,))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        scenario = Scenario(name, variation, own)
        for here in [split] if split else splits:
            if scenario in found[here]:
                raise DataError(f"{where} is the same as line {found[here][scenario]}: keep one of them.")
            found[here][scenario] = row.line
    return {split: tuple(worlds) for split, worlds in found.items()}
