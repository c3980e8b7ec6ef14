"""`rfenvs play` as a person meets it: keys go into a pseudo-terminal, and the screen is read back."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.play import fenced, pointed, read_entry, starter, unfenced, wants_code

CODE = ["rfenvs/LiveCodeBench-v6", "--task", "0", "--kwargs", "{data: sample}"]
TOOL = ["rfenvs/ToolCall-v0", "--split", "test", "--task", "0"]
END = "\x04"
SOLUTION = """\
inside = best = at = 0

for event in range(1, int(input()) + 1):
    sign, k = input().split()
    inside += int(k) if sign == "+" else -int(k)
    if inside > best:
        best, at = inside, event
print(best, at)
"""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, arguments: list[str], **environment: str) -> None:
        self._raw, self._unread = b"", ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": os.getcwd(), **environment})
            os.execv(sys.executable, [sys.executable, "-m", "rfenvs", "play", *arguments])

    def until(self, wanted: str, seconds: float = 60) -> str:
        """The screen from where the last call ended up to and including ``wanted``, without colours."""
        deadline = time.monotonic() + seconds
        while wanted not in self._unread:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            try:
                data = os.read(self._fd, 1 << 16) if ready else b""
            except OSError:  # the program has ended
                data = b""
            assert data, f"{wanted!r} did not come; the screen: {self._unread}"
            self._raw += data
            self._unread = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\r", b"", self._raw).decode(errors="replace")
        seen, _, self._unread = self._unread.partition(wanted)
        self._raw = self._unread.encode()
        return seen + wanted

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def status(self) -> int:
        """How it ended; the rest of the screen is dropped."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([self._fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(self._fd, 1 << 16)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("it did not end")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@pytest.fixture
def play() -> Iterator[object]:
    terminals: list[Terminal] = []

    def start(arguments: list[str], **environment: str) -> Terminal:
        terminals.append(Terminal(arguments, **environment))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def test_a_program_is_pasted_blamed_corrected_and_rewarded(play):
    terminal = play(CODE)
    screen = terminal.until("\n> ")
    assert "Print the largest number of people" in screen
    assert "Ctrl-D on a line of its own hands it in" in screen
    terminal.type("n = int(input())\n\nprint(n[0])\n")
    terminal.until("print(n[0])\n| ")
    terminal.type(END)
    screen = terminal.until("Answer again (or :t, :r, :n).")
    assert "[runtime_error] Runtime error on public test 1, line 3 `print(n[0])`: TypeError" in screen
    assert "      2 | \n  >   3 | print(n[0])\n" in screen
    terminal.until("\n> ")
    terminal.type(SOLUTION)
    terminal.until("print(best, at)\n| ")
    terminal.type(END)
    terminal.until("Solved: reward 1.")
    terminal.until(":r shows a reference, Enter goes on, :q leaves: ")
    terminal.type(":r\n")
    assert "inside = best = at = 0" in terminal.until("Enter goes on, :q leaves: ")
    terminal.type("\n")
    assert "train task 1: sample_ledger" in terminal.until("\n> ")
    terminal.type(END)
    terminal.until("1 of 1 tasks solved.")
    assert terminal.status() == 0


def test_hidden_tests_are_shown_only_to_who_asks_for_them(play):
    by_heart = "import sys\nprint({4: '4 3', 5: '2 1'}.get(int(input()), 'no'))\n"
    terminal = play(CODE)
    terminal.until("\n> ")
    terminal.type(by_heart)
    terminal.until("'no'))\n| ")
    terminal.type(END)
    screen = terminal.until("Answer again")
    assert "Wrong answer on a hidden test" in screen
    assert "Expected" not in screen
    terminal.until("\n> ")
    terminal.type(":t\n")
    assert "Expected" in terminal.until("\n> ")
    terminal.type(":q\n")
    terminal.until("0 of 1 tasks solved.")


def test_files_and_editors_bring_programs(play, tmp_path: Path):
    program = tmp_path / "solution.py"
    program.write_text("print(1)\n")
    editor = tmp_path / "editor.sh"
    editor.write_text(f'#!/bin/sh\ncat "$1" > {tmp_path}/before\ncp {tmp_path}/after "$1"\n')
    editor.chmod(0o755)
    (tmp_path / "after").write_text(SOLUTION)
    terminal = play(CODE, EDITOR=str(editor), VISUAL="")
    terminal.until("\n> ")
    terminal.type(f":f {tmp_path}/nowhere.py\n")
    terminal.until("No such file")
    terminal.type(f":f {program}\n")
    assert "[wrong_answer]" in terminal.until("Answer again")
    terminal.type(":e\n")
    terminal.until("Solved")
    assert (tmp_path / "before").read_text() == "print(1)\n", "the editor opens with the last answer"


def test_a_missing_editor_is_said(play):
    terminal = play(CODE, EDITOR="no-such-editor", VISUAL="")
    terminal.until("\n> ")
    terminal.type(":e\n")
    assert "set EDITOR, or use :f FILE" in terminal.until("\n> ")


def test_a_line_and_an_empty_one_answer_a_tool_call(play):
    terminal = play(TOOL)
    assert "An empty line hands an answer in." in terminal.until("\n> ")
    terminal.type('weather(town="Austin")\n\n')
    screen = terminal.until("Answer again")
    assert 'there is no "town"' in screen
    assert re.search(r'  >   1 \| weather\(town="Austin"\)\n +\| +\^+\n', screen), "the argument is underlined"
    terminal.until("\n> ")
    terminal.type('weather(city="Austin")\n\n')
    terminal.until("Solved: reward 1.")


def test_several_turns_show_the_reply_once(play):
    terminal = play([*TOOL, "--kwargs", "{max_turns: 3}"])
    terminal.until("\n> ")
    terminal.type("temperature()\n\n")
    screen = terminal.until("Answer again (turn 2).")
    assert screen.count('there is no tool "temperature"') == 1


def test_interrupts_drop_what_was_typed_and_then_leave(monkeypatch):
    # Not in a terminal: a key that arrives between readline's prompt and its wait is seen with the next one.
    keys = iter(["nonsense", KeyboardInterrupt, "sense", "", KeyboardInterrupt])

    def read(prompt: str) -> str:
        key = next(keys)
        if isinstance(key, str):
            return key
        raise key

    monkeypatch.setattr("builtins.input", read)
    assert read_entry(code=False) == "sense"
    with pytest.raises(EOFError):
        read_entry(code=False)


def test_a_game_of_one_line_commands(play):
    terminal = play(["rfenvs/ALFWorld-v0", "--task", "0", "--kwargs", "{difficulty: easy, task_type: heat}"])
    screen = terminal.until("1/50 > ")
    assert "Your task is to: " in screen
    assert "Enter hands a line in, Tab completes it" in screen
    terminal.type("open the door\n")
    assert "Nothing happens.\n\n:t says more." in terminal.until("2/50 > ")
    terminal.type(":t\n")
    assert "[invalid_action] There is no receptacle" in terminal.until("2/50 > ")
    terminal.type(":a\n")
    assert "inventory" in terminal.until("2/50 > ")
    terminal.type("inv\t\n")
    assert "You are not carrying anything." in terminal.until("3/50 > ")
    for turn in range(3, 20):
        terminal.type(":x\n")
        hint, _, left = terminal.until(f")\n{turn}/50 > ").splitlines()[-2].rpartition(" (the first of ")
        terminal.type(f"{hint}\n")
        if left == "1)":
            break
        assert "You " in terminal.until(f"{turn + 1}/50 > ")
    assert "Solved: reward 1." in terminal.until("Enter goes on, :q leaves: ")
    terminal.type(":r\n")
    assert "heat " in terminal.until("Enter goes on, :q leaves: ")


def test_a_lost_game_starts_again(play):
    terminal = play(["rfenvs/ALFWorld-v0", "--task", "0", "--kwargs", "{max_turns: 1}"])
    terminal.until("1/1 > ")
    terminal.type("look\n")
    assert "Over: reward 0. A command starts it again" in terminal.until("again > ")
    terminal.type(":t\n")
    assert "parts of the task were reached" in terminal.until("again > ")
    terminal.type("help\n")
    assert "From the start again." in terminal.until("again > ")
    terminal.type(":q\n")
    terminal.until("0 of 1 tasks solved.")


def test_help_and_the_next_task(play):
    terminal = play(TOOL)
    terminal.until("\n> ")
    terminal.type(":h\n")
    assert ":r        show a reference" in terminal.until("\n> ")
    terminal.type(":n\n")
    assert "test task 1" in terminal.until("\n> ")


def test_a_program_gets_a_fence_and_loses_it():
    assert fenced("print(1)\n") == "```python\nprint(1)\n```"
    assert fenced("Look:\n```\nprint(1)\n```") == "Look:\n```\nprint(1)\n```"
    assert unfenced(fenced("a\n\nb")) == "a\n\nb\n"
    assert unfenced("Look:\n```\nprint(1)\n```") == "Look:\n```\nprint(1)\n```"


def test_a_task_that_shows_python_wants_python():
    task = "Fill in:\n```python\ndef f():\n    pass\n```\n"
    assert wants_code(task)
    assert starter(task) == "def f():\n    pass\n"
    assert not wants_code("Reply with one call.")
    assert starter("Reply with one call.") == ""


def test_lines_are_numbered_within_the_block():
    answer = "Well:\n```python\na\nb\nc\nd\ne\nf\n```\nDone."
    start = answer.index("d\ne")
    lines = pointed(answer, (start, start + 3))
    assert [(line.number, line.text, line.marked) for line in lines] == [
        (2, "b", None), (3, "c", None), (4, "d", (0, 1)), (5, "e", (0, 1)), (6, "f", None),
    ]  # fmt: skip
    assert pointed(answer, None) == []
    assert pointed("", (0, 0)) == []
    end = len(answer)
    assert [line.text for line in pointed(answer, (end, end)) if line.marked] == ["Done."]
