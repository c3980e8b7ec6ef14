"""What the policy is shown of an episode: all of it, the last turns of it, with or without its earlier thinking.

    prompt(t + 1) = prompt(t) + action(t) + bridge        the row goes on, and nothing is encoded again
                  = the history, written anew             a row of its own, faithful to what the policy sees

Either way sampled ids are shown as they were sampled; where a history is written anew without the thinking, the ids
of the thinking are cut out.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.chat import Chat
from agents.errors import SetupError
from agents.trajectory import Message
from rfenvs.graders.thinking import OPEN_TAG, visible_span
from rfenvs.wrappers.chat_template import Slot, mark

Thinking = Literal["auto", "keep", "template", "tool_cycle"]

_REMEDIES = (
    "'keep' (all turns as they were sampled, in one row), 'template' (as the template writes them, in a row of its own "
    "wherever it rewrites them) or 'tool_cycle' (reasoning is kept until the next user message)"
)


class RolloutSettings(BaseModel):
    """What the policy is shown of an episode, and how long an episode may be."""

    model_config = ConfigDict(extra="forbid")

    thinking: Thinking = Field(
        "auto",
        description="reasoning of earlier turns: keep, template (the chat template decides), tool_cycle (dropped at "
        "the next user message); auto: keep, refused where the chat template would rewrite earlier turns",
    )
    history: int | None = Field(
        None, ge=0, description="earlier turns that the policy is shown, besides the task; none: all of them"
    )
    turns: int | None = Field(None, ge=1, description="longest episode, in turns, where the environment allows more")


@dataclass(frozen=True)
class Prompt:
    """What the policy is shown before one action; the fields are those of `agents.trajectory.Turn`."""

    ids: list[int]
    messages: list[Message]
    prefix: int
    stem: int
    new_messages: int


@dataclass(frozen=True)
class Past:
    """A turn that was taken: the action's text, and the messages that came in reply."""

    text: str
    new: list[Message]


class History:
    """One episode's conversation; `prompt` is what the policy is shown now.

    Args:
        opening: The messages of the reset.
        thinking: Not ``"auto"``: see `resolve`.
        window: Earlier turns that are shown; None: all.
    """

    def __init__(self, chat: Chat, opening: Sequence[Message], thinking: Thinking, window: int | None) -> None:
        self._chat, self._opening, self._thinking, self._window = chat, list(opening), thinking, window
        self._past: list[Past] = []
        self._contents: dict[str, list[int]] = {}
        """Ids by mark, of all that may have to be written again."""
        self._outline = ""
        """Of the prompt, where its row may have to be compared with what the template writes next."""
        if thinking != "keep":
            self._outline = chat.outline(_opening_slots(opening))
        self.prompt = Prompt(chat.encode(opening), list(opening), 0, 0, len(opening))

    def extend(self, ids: list[int], text: str, new: Sequence[Message]) -> None:
        """Go on to the next prompt, after an action and the messages that came in reply."""
        self._past.append(Past(text, list(new)))
        left_out = 0 if self._window is None else max(0, len(self._past) - self._window)
        if self._thinking != "keep" or self._window is not None:
            self._remember(len(self._past) - 1, ids)
        if self._thinking == "keep" and not left_out:
            self._go_on(ids, self._chat.bridge(new, ids[-1] if ids else -1))
        else:
            self._write(ids, left_out)

    def _go_on(self, ids: list[int], bridge: list[int]) -> None:
        """The next prompt in the same row."""
        past, before = self._past[-1], self.prompt.ids + ids
        messages = [*self.prompt.messages, {"role": "assistant", "content": past.text}, *past.new]
        self.prompt = Prompt(before + bridge, messages, len(before), len(before), len(past.new))
        assert self.prompt.ids[: len(before)] == before, "a turn must begin with what the policy saw and sampled"

    def _write(self, ids: list[int], left_out: int) -> None:
        """The next prompt as the template writes it: in the same row, if that changes nothing of what came before."""
        opening, last = _with_note(self._opening, self._past, left_out), len(self._past) - 1
        slots = _opening_slots(opening)
        contents = self._contents | {
            slot.name: self._chat.plain(m["content"]) for slot, m in zip(slots, opening, strict=True)
        }
        for k in range(left_out, last + 1):
            slots += [self._action(k), *_reply_slots(k, self._past[k].new)]
        before, self._outline = self._outline, self._chat.outline(slots)
        head, rest = _split_behind_action(self._outline, last)
        tail, _ = self._chat.fill(rest, contents)
        if not left_out and head == before + mark(f"action {last}"):
            self._go_on(ids, tail[1:] if tail[:1] == ids[-1:] else tail)
            return
        messages = list(opening)
        for k, past in list(enumerate(self._past))[left_out:]:
            whole = mark(f"action {k}") in self._outline
            messages += [{"role": "assistant", "content": past.text if whole else visible_text(past.text)}, *past.new]
        stem, _ = self._chat.fill(head, contents)
        self.prompt = Prompt(stem + tail, messages, 0, len(stem), len(self._past[-1].new) if head else len(messages))

    def _remember(self, k: int, ids: list[int]) -> None:
        past, chat = self._past[k], self._chat
        # A template ends turns itself.
        body = ids[:-1] if ids and ids[-1] in chat.stop_ids() else ids
        self._contents[f"action {k}"] = body
        self._contents[f"visible {k}"] = visible_ids(chat, body, past.text)
        for slot, message in zip(_reply_slots(k, past.new), past.new, strict=True):
            self._contents[slot.name] = chat.plain(message["content"])

    def _action(self, k: int) -> Slot:
        """How the action of turn ``k`` is offered to the template."""
        text = self._past[k].text
        whole = Slot("assistant", f"action {k}")
        if self._thinking == "keep" or visible_span(text) == (0, len(text)):
            return whole
        if self._thinking == "template":  # to which thinking that has no end is text like any other
            ended = visible_span(text)[0] > 0
            return Slot("assistant", whole.name, f"visible {k}", opens=OPEN_TAG in text) if ended else whole
        dropped = any(m["role"] == "user" for past in self._past[k:] for m in past.new)
        return Slot("assistant", f"visible {k}") if dropped else whole


def _opening_slots(opening: Sequence[Message]) -> list[Slot]:
    return [Slot(m["role"], f"opening {i}") for i, m in enumerate(opening)]


def _reply_slots(k: int, new: Sequence[Message]) -> list[Slot]:
    return [Slot(m["role"], f"reply {k}.{i}") for i, m in enumerate(new)]


def _with_note(opening: Sequence[Message], past: Sequence[Past], left_out: int) -> list[Message]:
    """The opening; behind it, in the same message, how much is left out and what was said last before the rest.

    In the same message, since many templates want roles to alternate.
    """
    if not left_out:
        return list(opening)
    note = f"[{left_out} earlier turn{' is' if left_out == 1 else 's are'} left out.]"
    said = [m["content"] for m in past[left_out - 1].new]
    *first, task = opening
    return [*first, {"role": task["role"], "content": "\n\n".join([task["content"], note, *said])}]


def windowed(opening: Sequence[Message], past: Sequence[Past], window: int | None) -> list[Message]:
    """The conversation as `History` shows it, for policies that take messages: their own template sees to thinking."""
    left_out = 0 if window is None else max(0, len(past) - window)
    messages = _with_note(opening, past, left_out)
    for turn in past[left_out:]:
        messages += [{"role": "assistant", "content": turn.text}, *turn.new]
    return messages


def _split_behind_action(outline: str, k: int) -> tuple[str, str]:
    for name in (f"action {k}", f"visible {k}"):
        before, found, behind = outline.partition(mark(name))
        if found:
            return before + found, behind
    return "", outline


def resolve(settings: RolloutSettings, chat: Chat, openings: Sequence[Sequence[Message]], one_turn: bool) -> Thinking:
    """The thinking policy of a rollout whose conversations begin with ``openings``.

    Raises:
        SetupError: ``"auto"``, episodes of several turns, and a template that rewrites them.
    """
    if settings.thinking != "auto":
        return settings.thinking
    kinds = {tuple(m["role"] for m in opening): opening for opening in openings}
    if one_turn or all(chat.prefix_stable(opening) for opening in kinds.values()):
        return "keep"
    raise SetupError(
        "rollout.thinking='auto': this model's chat template rewrites earlier turns (it drops their reasoning, or "
        f"moves text between messages), so there is no telling what the policy should see of them. Choose {_REMEDIES}"
    )


def visible_text(text: str) -> str:
    """An action without its thinking."""
    start, end = visible_span(text)
    return text[start:end].lstrip("\n")


def visible_ids(chat: Chat, ids: list[int], text: str) -> list[int]:
    """Ids of an action without its thinking: those that were sampled, where the thinking ends between two of them.

    Where a token holds the end of the thinking and the beginning of what is visible, the visible text is encoded.
    """
    end = visible_span(text)[1]
    start = end - len(visible_text(text))
    count = range(len(ids) + 1)
    first, last = (bisect.bisect_left(count, at, key=lambda k: len(chat.decode(ids[:k]))) for at in (start, end))
    exact = chat.decode(ids[:first]) == text[:start] and chat.decode(ids[:last]) == text[:end]
    return ids[first:last] if exact else chat.plain(text[start:end])
