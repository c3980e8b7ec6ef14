"""The examples of docs/teacher-contexts.md: one corridor episode, and what each context adds to it.

`python tests/teacher_context_examples.py` writes them into the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor import Corridor, episodes, find
from models import tiny_tokenizer

from agents.batch import Sample, samples_of
from agents.chat import Chat
from agents.teachers.contexts import Context, add_contexts
from agents.trajectory import Message

PAGE = Path(__file__).parent.parent / "docs" / "teacher-contexts.md"
TASK = find(start=0, key=1, rooms=3, door=2)
STUDENT = ["go right", "go left", "open door", "go right"]
SCORED = 2
"""The turn of the examples, from 0."""


def samples(**settings: Any) -> list[Sample]:
    """The student's turns, with their contexts."""
    chat = Chat(tiny_tokenizer())
    plan = Corridor().gold_actions(Corridor().task("train", TASK))
    groups = [episodes(chat, TASK, STUDENT, plan)]
    found = samples_of(groups)
    add_contexts(Context(**settings), found, groups, chat, 1 << 20, "0")
    return [sample for sample in found if sample.attempt == 0]


def shown(messages: Sequence[Message]) -> str:
    return "".join(f"[{m['role']}] {m['content']}\n" for m in messages)


def example(name: str) -> str:
    """The text of one example: a source, with `:wording` or `:head` behind it, or the name of a part of the episode."""
    if name == "episode":
        *_, last = samples(sources=["none"])
        return shown([*last.messages, {"role": "assistant", "content": last.text}])
    source, _, form = name.partition(":")
    settings = {"placement": "head"} if form == "head" else {"wording": form} if form else {}
    turn = samples(sources=[source], allow_reference=True, **settings)[SCORED]
    assert turn.teacher_messages is not None
    new = 0 if form == "head" else len(turn.messages) - 1
    return shown(turn.teacher_messages[new:])


def written(page: str) -> str:
    """The page with every example made anew: the block behind ``<!-- example: NAME -->``."""
    block = r"(<!-- example: (\S+) -->\n```text\n).*?(```)"
    return re.sub(block, lambda m: f"{m[1]}{example(m[2])}{m[3]}", page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
