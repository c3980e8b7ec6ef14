"""`rfenvs play`: a person answers an environment's tasks in the terminal, and reads what a policy would read."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.screen import Screen
from rfenvs.feedback import visible

HELP = """\
:e        write the answer in $EDITOR; it opens with your last one
:f FILE   answer with a file
:s        show the task again
:t        what a teacher is told about your last attempt, hidden tests included
:r        show a reference; that gives the task up
:a        what can be done now, in games that can tell
:x        what an expert would do now, in games that have one
:n        another task
:q        leave (Ctrl-D and Ctrl-C do, too, where nothing is typed)"""
_CODE = (
    "Type or paste a program; Ctrl-D on a line of its own hands it in. :e opens an editor, :f FILE reads one, :h helps."
)
_TEXT = "An empty line hands an answer in. :e opens an editor, :h helps."
_LINE = (
    "Enter hands a line in, Tab completes it. :t says why nothing happened, :a what can be done, :x hints, :h helps."
)
_NO_REFERENCE = "The data hold no reference for this task."
_PYTHON = re.compile(r"^```python[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_AROUND = 2


class Command(NamedTuple):
    """A line that is not an answer: `:f notes.py` is `Command("f", "notes.py")`."""

    name: str
    argument: str = ""


class Line(NamedTuple):
    """A line of an answer, to be shown beside a complaint about it."""

    number: int
    """From 1; inside a fenced block, the line of the program."""
    text: str
    marked: tuple[int, int] | None
    """The blamed columns, where this line is blamed."""


class Player:
    """One sitting: tasks, attempts and the score.

    Args:
        env: An environment of this package, or another one with text for observations and actions.
        task: Index of the first task; None: random ones.
        screen: Where everything is shown.
    """

    def __init__(self, env: Any, task: int | None, screen: Screen) -> None:
        self.env, self.screen = env, screen
        self.task = task
        self.played = self.solved = 0
        self.observation = self.last = ""
        self.over = True
        self.about: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self.one_line = bool(getattr(env.unwrapped, "one_line", False))

    def run(self) -> None:
        """Play until the person leaves."""
        with contextlib.suppress(EOFError):
            while True:
                self._play_task()
                self.task = None if self.task is None else (self.task + 1) % self._num_tasks()
        self.screen.say(f"{self.solved} of {self.played} tasks solved.")

    def _play_task(self) -> None:
        seed = random.randrange(2**31)
        self._reset(seed)
        self._show_task()
        code = wants_code(self.observation)
        self.screen.say(_CODE if code else _LINE if self.one_line else _TEXT, style="dim")
        tried = done = False
        while not done:
            entry = read_entry(code, self._prompt() if self.one_line else None)
            answer = self._obey(entry) if isinstance(entry, Command) else entry
            if answer is None:
                break
            if answer:
                self.played += not tried
                tried = True
                done = self._attempt(answer, seed)
        self.solved += done
        if done:
            there_is = hasattr(self.env.unwrapped, "get_task")
            if self._pause(":r shows a reference, " if there_is else "") == ":r":
                self.screen.text(self._reference() or _NO_REFERENCE)
                self._pause("")

    def _pause(self, choice: str) -> str:
        """Wait, so that nothing scrolls away unread."""
        line = input(f"{choice}Enter goes on, :q leaves: ").strip()
        if line == ":q":
            raise EOFError
        return line

    def _attempt(self, answer: str, seed: int) -> bool:
        """Hand an answer in, and show what comes of it; whether the task is solved."""
        if self.over:
            self._reset(seed)
            if self.one_line:
                self.screen.say("From the start again.", style="dim")
        self.last = answer
        observation, reward, terminated, truncated, self.info = self.env.step(answer)
        self.over = terminated or truncated
        scored = self.info.get("scored", True)
        said = visible(self.info.get("feedback", []), "policy" if scored else "log")
        for item in said:
            self._complain(item)
        if not self.over and not any(item["text"] in observation for item in said):
            self.screen.text(observation)
        if not scored:
            self.screen.say("This answer could not be judged, and does not count.", style="yellow")
        elif self.over and reward >= 1.0:
            if self.one_line:
                self.screen.text(observation)
            self.screen.say(f"Solved: reward {reward:g}.", style="bold green")
            return True
        elif self.one_line:
            if self.over:
                self.screen.text(observation)
                self.screen.say(f"Over: reward {reward:g}. A command starts it again; :t, :r, :n.", style="bold")
            elif any(item not in said and item["severity"] != "info" for item in self.info.get("feedback", [])):
                self.screen.say(":t says more.", style="dim")
        else:
            what = "or :t, :r, :n" if self.over else f"turn {self.info['turn'] + 1}"
            self.screen.say(f"Reward {reward:g}. Answer again ({what}).", style="bold")
        return False

    def _complain(self, item: dict[str, Any]) -> None:
        """An item, with the lines it blames where there are several."""
        self.screen.complaint(item["kind"], item["text"], [] if self.one_line else pointed(self.last, item["span"]))

    def _prompt(self) -> str:
        """Which turn it is."""
        if self.over:
            return "again > "
        return f"{self.info['turn'] + 1}/{getattr(self.env.unwrapped, 'max_turns', '?')} > "

    def _obey(self, command: Command) -> str | None:
        """Do what a command says: a text is an answer, an empty one none, None ends the task."""
        match command.name:
            case "q":
                raise EOFError
            case "n":
                return None
            case "e":
                return self._edited()
            case "f":
                return self._read(command.argument)
            case "s":
                self._show_task()
            case "t":
                self._show_teacher()
            case "a":
                commands = self.completions()
                self.screen.text("\n".join(commands) if commands else "This game does not say what can be done.")
            case "x":
                self._show_expert()
            case "r" if reference := self._reference():
                self.screen.text(reference)
                self._pause("")
                return None
            case "r":
                self.screen.say(_NO_REFERENCE)
            case _:
                self.screen.say(HELP)
        return ""

    def _edited(self) -> str:
        code = wants_code(self.observation)
        suffix = ".py" if code else ".txt"
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        before = unfenced(self.last) if code and self.last else self.last or starter(self.observation)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"answer{suffix}"
            path.write_text(before, encoding="utf-8")
            try:
                subprocess.run([*shlex.split(editor), str(path)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                self.screen.say(f"The editor {editor!r} failed ({error}): set EDITOR, or use :f FILE.", style="yellow")
                return ""
            text = path.read_text(encoding="utf-8", errors="replace")
        if not text.strip() or text == before:
            self.screen.say("Nothing was changed, so nothing is handed in.")
            return ""
        return fenced(text) if code else text

    def _read(self, name: str) -> str:
        try:
            text = Path(name).expanduser().read_text(encoding="utf-8", errors="replace")
        except (OSError, RuntimeError) as error:
            self.screen.say(f":f {name}: {error}", style="yellow")
            return ""
        return fenced(text) if wants_code(self.observation) else text

    def _reset(self, seed: int) -> None:
        options = None if self.task is None else {"task_index": self.task}
        self.observation, self.info = self.env.reset(seed=seed, options=options)
        self.about = dict(self.info.get("task") or {})
        self.over = False

    def _show_task(self) -> None:
        if self.about:
            about = self.about
            self.screen.rule(f"{about['env_id']}, {about['split']} task {about['index']}: {about['id']}")
        self.screen.text(self.observation)

    def _show_teacher(self) -> None:
        policy = visible(self.info.get("feedback", []), "policy")
        more = [item for item in visible(self.info.get("feedback", []), "teacher") if item not in policy]
        for item in more:
            self._complain(item)
        if not more:
            self.screen.say("Nothing beside what you have read." if self.last else "There is no attempt yet.")

    def _show_expert(self) -> None:
        expert = getattr(self.env.unwrapped, "expert_plan", None)
        plan = expert() if expert is not None and not self.over else None
        self.screen.say(f"{plan[0]} (the first of {len(plan)})" if plan else "There is no expert to ask here and now.")

    def completions(self) -> list[str]:
        """What could be typed now, where the environment says so."""
        return [] if self.over else list(self.info.get("admissible_commands", []))

    def _reference(self) -> str:
        bare = self.env.unwrapped
        if not hasattr(bare, "get_task"):
            return ""
        task = bare.get_task(self.about["index"])
        return str(task.reference) or "\n".join(bare.gold_actions(task))

    def _num_tasks(self) -> int:
        bare = self.env.unwrapped
        return int(bare.num_tasks(bare.split)) if hasattr(bare, "num_tasks") else sys.maxsize


def read_entry(code: bool, prompt: str | None = None) -> str | Command:
    """Read an answer or a command. Ctrl-C drops what was typed.

    Args:
        code: An answer is a program: it may hold empty lines, ends with the end of input, and is put into a fence.
        prompt: What asks for the line of a game where an answer is one line, and ends with it.

    Raises:
        EOFError: The end of input, or Ctrl-C, where nothing was typed.
    """
    lines: list[str] = []
    while True:
        try:
            line = input(prompt or "> " if not lines else "| ")
        except EOFError:
            print()
            if not "".join(lines).strip():
                raise
            break
        except KeyboardInterrupt:
            print()
            if not lines:
                raise EOFError from None
            lines.clear()
            continue
        if not lines and (command := re.fullmatch(r":([a-z])(?:\s+(.*?))?\s*", line)):
            return Command(command[1], command[2] or "")
        if line or (code and lines):
            lines.append(line)
            if prompt:
                break
        elif lines:
            break
    text = "\n".join(lines)
    return fenced(text) if code else text


def wants_code(observation: str) -> bool:
    """Whether the task asks for a Python program: it shows a block of Python to fill in."""
    return _PYTHON.search(observation) is not None


def starter(observation: str) -> str:
    """The last block of Python that the task shows."""
    blocks = _PYTHON.findall(observation)
    return str(blocks[-1]) if blocks else ""


def fenced(program: str) -> str:
    """A program as an answer; one that already holds a fence stays as it is.

    >>> fenced("print(1)")
    '```python\\nprint(1)\\n```'
    """
    stripped = program.rstrip("\n")
    return program if "```" in program else f"```python\n{stripped}\n```"


def unfenced(answer: str) -> str:
    """The program in an answer that `fenced` made; any other answer as it is."""
    match = re.fullmatch(r"```python\n(.*)\n```", answer, re.DOTALL)
    return match[1] + "\n" if match and "```" not in match[1] else answer


def pointed(answer: str, span: Sequence[int] | None) -> list[Line]:
    """The blamed lines of an answer and a few around them; empty where there is nothing to point at.

    >>> [line for line in pointed("```python\\na = 1\\nb = a[0]\\n```", (16, 24)) if line.marked]
    [Line(number=2, text='b = a[0]', marked=(0, 8))]
    """
    if span is None or not answer.strip():
        return []
    start, end = span
    lines = list(_with_offsets(answer))
    blamed = [
        k for k, (offset, text) in enumerate(lines) if offset <= max(end - 1, start) and start <= offset + len(text)
    ]
    fences = [k for k in range(blamed[0]) if "```" in lines[k][1]]
    opening = fences[-1] if fences else -1
    shown = range(max(opening + 1, blamed[0] - _AROUND), min(len(lines), blamed[-1] + _AROUND + 1))
    return [
        Line(k - opening, text, (max(start - offset, 0), min(end - offset, len(text))) if k in blamed else None)
        for k in shown
        for offset, text in [lines[k]]
        if k in blamed or "```" not in text
    ]


def _with_offsets(text: str) -> Iterator[tuple[int, str]]:
    offset = 0
    for line in text.split("\n"):
        yield offset, line
        offset += len(line) + 1


def edit_lines(player: Player) -> None:
    """Let `input` edit its line and remember earlier ones. Tab completes where the game knows what could be typed;
    elsewhere it stays a tab, as in pasted code."""
    with contextlib.suppress(ImportError):
        import readline

        if not player.one_line:
            readline.parse_and_bind("tab: self-insert")
            return
        readline.set_completer_delims("")
        readline.set_completer(lambda text, n: completion(player.completions(), text, n))
        readline.parse_and_bind("tab: complete")


def completion(commands: Sequence[str], text: str, number: int) -> str | None:
    """The `number`-th way to go on with `text`, a word at a time where several begin alike, as readline asks for them.

    >>> completion(["open door", "open drawer 1", "look"], "op", 0)
    'open '
    >>> completion(["open door", "open drawer 1", "look"], "open do", 0)
    'open door'
    """
    found: dict[str, None] = {}
    for command in commands:
        if command.startswith(text):
            end = command.find(" ", len(text))
            found[command if end < 0 else command[: end + 1]] = None
    fitting = list(found)
    return fitting[number] if number < len(fitting) else None
