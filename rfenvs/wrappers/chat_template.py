"""`ChatTemplate`: chat messages to ids, token-in token-out, without text from outside ever becoming a control token.

Source: the multi-turn tokenisation policy that trainers converge on (fixed-base bridge): the next prompt is the
previous prompt, the sampled ids, and a bridge rendered from a tiny synthetic dialogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rfenvs.graders.thinking import CLOSE_TAG, OPEN_TAG
from rfenvs.tasks import Message
from rfenvs.wrappers.tokens import control_pattern, encode_plain


class Renderer(Protocol):
    """What `TokenObservation` and `TokenizeFeedback` need to know of a chat format."""

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation up to and including the header of the next assistant turn."""

    def bridge(self, messages: Sequence[Message], last_action_id: int) -> list[int]:
        """Ids between an action that ended with `last_action_id` and the next one."""

    def turn(self, message: Message) -> tuple[list[int], list[bool]]:
        """Ids of a lone message with its scaffold, and for each whether it is content."""


_MARK = re.compile("\ue000([^\ue000\ue001]*)\ue001")


def mark(name: str) -> str:
    """What stands for the content `name` in an outline."""
    return f"\ue000{name}\ue001"


@dataclass(frozen=True)
class Slot:
    """A message of an outline: a mark stands for its content."""

    role: str
    name: str
    """Of the mark; unique in its outline."""
    visible: str = ""
    """An assistant turn with thinking that the template may drop: name of the mark of what is left then."""
    opens: bool = True
    """With ``visible``: whether the turn itself holds the opening tag, which the header of the prompt may hold."""


class ChatTemplate:
    """A tokenizer's chat template, made safe for text that comes from outside: a `Renderer`.

    Args:
        tokenizer: A `transformers` tokenizer with a chat template.
        template: The template's own variables, such as `{"enable_thinking": False}`.

    Raises:
        ValueError: There is no chat template, or (later) it refuses, drops or rewrites a message.
    """

    error: ClassVar[type[Exception]] = ValueError
    """What is raised where the template does not serve."""

    def __init__(self, tokenizer: Any, template: Mapping[str, Any] | None = None) -> None:
        if not getattr(tokenizer, "chat_template", None):
            name = getattr(tokenizer, "name_or_path", type(tokenizer).__name__)
            raise self.error(
                f"model: tokenizer {name!r} has no chat template; use an instruction-tuned model, "
                "or save a chat_template with the tokenizer"
            )
        self.tokenizer, self.template = tokenizer, dict(template or {})
        self._size = -1
        self._learn_controls()
        self._space: str | None = None
        self._behind: dict[tuple[tuple[str, ...], bool], str] = {}

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation up to and including the header of the next assistant turn.

        Equal to the template's own ids, except that content holding the text of a control token is encoded
        with special-token parsing off.
        """
        self._learn_controls()
        if not (self._normalises or any(self._controls.search(m["content"]) for m in messages)):
            return self._ids(self._render(messages))
        slots = _slots(messages)
        return self.fill(self.outline(slots), self._contents(slots, messages))[0]

    def bridge(self, messages: Sequence[Message], last_action_id: int) -> list[int]:
        """Ids between a sampled action and the next one: end of turn, the new `messages`, assistant header.

        The template's end-of-turn token is left out where `last_action_id` already is that token.
        """
        slots = _slots(messages)
        ids, _ = self.fill(self._after_action(slots, header=True), self._contents(slots, messages))
        return ids[1:] if ids and ids[0] == last_action_id else ids

    def turn(self, message: Message) -> tuple[list[int], list[bool]]:
        """Ids of one message as it follows an assistant turn, and for each id whether it is of the content.

        The end of the assistant turn before it, and the header of the one after it, are left out.
        """
        slots = _slots([message])
        whole = self._after_action(slots, header=False)
        text = whole.removeprefix(self._after_action([], header=False))
        return self.fill(text, self._contents(slots, [message]))

    def plain(self, text: str) -> list[int]:
        """Ids of `text` alone, in which nothing is a control token."""
        self._learn_controls()
        ids = encode_plain(self.tokenizer, text, self._controls)
        if self._normalises and not self._control_ids.isdisjoint(ids):  # spelt otherwise, yet read as a control token
            ids = [i for character in text for i in encode_plain(self.tokenizer, character, self._controls)]
        return ids

    def prefix_stable(self, opening: Sequence[Message] = ({"role": "user", "content": "a"},)) -> bool:
        """Whether a conversation's next prompt begins with the last prompt and the action, as this template writes it.

        Tried behind `opening`, with user messages in reply, on actions with and without thinking. Templates that drop
        the thinking of earlier turns, or an empty block that `enable_thinking=False` wrote, are not stable.
        """
        first = _slots(opening)
        before = self.outline(first)
        opens = not before.rstrip().endswith(OPEN_TAG)
        for thinks in (False, True):
            action = Slot("assistant", "action", "visible" if thinks else "", opens)
            try:
                after = self.outline([*first, action, Slot("user", "reply")])
            except self.error:
                return False
            if not after.startswith(before + mark("action")):
                return False
        return True

    def outline(self, slots: Sequence[Slot], *, header: bool = True) -> str:
        """What the template writes around a dialogue's contents, each of which is a mark, `mark(slot.name)`.

        An assistant turn with `visible` is shown to the template with its thinking; where that is dropped, its mark is
        that of `visible`.

        Raises:
            ValueError: The template refuses the dialogue, or drops or rewrites a message.
        """
        text = self._render([{"role": s.role, "content": _content(s)} for s in slots], header=header)
        for slot in (s for s in slots if s.visible):
            opening = rf"{re.escape(OPEN_TAG)}\s*" if slot.opens else ""
            thinking = rf"{opening}{mark('thinking of ' + slot.name)}\s*{CLOSE_TAG}\s*{mark(slot.visible)}"
            text = re.sub(thinking, mark(slot.name), text)
        for slot in (s for s in slots if s.role == "assistant"):
            for name in filter(None, (slot.name, slot.visible)):
                text = re.sub(rf"{self._lead()}\s+{mark(name)}", self._lead() + mark(name), text)
        found = set(_MARK.findall(text))
        for slot in slots:
            if not found & {slot.name, slot.visible}:
                raise self.error(f"model: this chat template drops or rewrites {slot.role} messages")
        if found - {name for s in slots for name in (s.name, s.visible)}:
            raise self.error("model: this chat template moves the thinking of assistant turns to a place of its own")
        return text

    def fill(self, outline: str, contents: Mapping[str, Sequence[int]]) -> tuple[list[int], list[bool]]:
        """Ids of an outline, or of a part of it, with contents in place of their marks; and whether each is content."""
        ids: list[int] = []
        content: list[bool] = []
        for k, piece in enumerate(_MARK.split(outline)):
            new = contents[piece] if k % 2 else self._ids(piece) if piece else []
            ids += new
            content += [bool(k % 2)] * len(new)
        return ids, content

    def _contents(self, slots: Sequence[Slot], messages: Sequence[Message]) -> dict[str, list[int]]:
        return {slot.name: self.plain(m["content"]) for slot, m in zip(slots, messages, strict=True)}

    def _learn_controls(self) -> None:
        """Know the tokenizer's control tokens, those that were added since the last call too."""
        if self._size == (size := len(self.tokenizer)):
            return
        added = self.tokenizer.added_tokens_decoder
        self._controls = control_pattern(self.tokenizer)
        self._control_ids = {i for i, token in added.items() if self._controls.fullmatch(token.content)}
        # Such tokens are also found in text that equals them only once normalised: in other case, in wide letters.
        normaliser = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "normalizer", None)
        self._normalises = normaliser is not None and any(token.normalized for token in added.values())
        self._size = size

    def _lead(self) -> str:
        """White space between an assistant header and its action; what a template writes beyond it, models sample."""
        if self._space is None:
            header = self._render([{"role": "user", "content": "a"}])
            self._space = header[len(header.rstrip()) :]
        return self._space

    def _after_action(self, slots: Sequence[Slot], *, header: bool) -> str:
        """What the template writes behind the text of an assistant turn; the same for equal roles."""
        key = tuple(s.role for s in slots), header
        if key not in self._behind:
            dialogue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark("action")}]
            dialogue += [{"role": s.role, "content": mark(s.name)} for s in slots]
            _, found, rest = self._render(dialogue, header=header).partition(mark("action"))
            if not found:
                raise self.error(
                    "model: this chat template rewrites assistant turns, so turns cannot be joined exactly"
                )
            for slot in slots:
                if mark(slot.name) not in rest:
                    raise self.error(f"model: this chat template drops or rewrites {slot.role} messages")
            self._behind[key] = rest
        return self._behind[key]

    def _render(self, messages: Sequence[Message], *, header: bool = True) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=header, **self.template
            )
        except Exception as error:  # templates raise jinja errors of their own
            raise self.error(f"model: the chat template refuses this conversation: {error}") from error
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def _slots(messages: Sequence[Message]) -> list[Slot]:
    return [Slot(m["role"], str(i)) for i, m in enumerate(messages)]


def _content(slot: Slot) -> str:
    if not slot.visible:
        return mark(slot.name)
    opening = f"{OPEN_TAG}\n" if slot.opens else ""
    return f"{opening}{mark('thinking of ' + slot.name)}\n{CLOSE_TAG}\n\n{mark(slot.visible)}"
