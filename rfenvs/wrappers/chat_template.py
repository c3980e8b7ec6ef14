"""`ChatTemplate`: chat messages to ids, token-in token-out, without text from outside ever becoming a control token.

Source: the multi-turn tokenisation policy that trainers converge on (fixed-base bridge): the next prompt is the
previous prompt, the sampled ids, and a bridge rendered from a tiny synthetic dialogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

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


def _sentinel(i: int) -> str:
    return f"\ue000{i}\ue001"


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
        self._controls = control_pattern(tokenizer)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation up to and including the header of the next assistant turn.

        Equal to the template's own ids, except that content holding the text of a control token is encoded
        with special-token parsing off.
        """
        if not any(self._controls.search(m["content"]) for m in messages):
            return self._ids(self._render(messages))
        marked = [{**m, "content": _sentinel(i)} for i, m in enumerate(messages)]
        return self._splice(self._render(marked), messages)[0]

    def bridge(self, messages: Sequence[Message], last_action_id: int) -> list[int]:
        """Ids between a sampled action and the next one: end of turn, the new `messages`, assistant header.

        The template's end-of-turn token is left out where `last_action_id` already is that token.
        """
        ids, _ = self._splice(self._after_action(messages, header=True), messages)
        return ids[1:] if ids and ids[0] == last_action_id else ids

    def turn(self, message: Message) -> tuple[list[int], list[bool]]:
        """Ids of one message as it follows an assistant turn, and for each id whether it is of the content.

        The end of the assistant turn before it, and the header of the one after it, are left out.
        """
        whole = self._after_action([message], header=False)
        return self._splice(whole.removeprefix(self._after_action([], header=False)), [message])

    def plain(self, text: str) -> list[int]:
        """Ids of `text` alone, in which nothing is a control token."""
        return encode_plain(self.tokenizer, text, self._controls)

    def _after_action(self, messages: Sequence[Message], *, header: bool) -> str:
        """What the template writes behind the text of an assistant turn, with sentinels for the contents."""
        action = _sentinel(len(messages))
        dialogue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": action}]
        dialogue += [{**m, "content": _sentinel(i)} for i, m in enumerate(messages)]
        _, found, rest = self._render(dialogue, header=header).partition(action)
        if not found:
            raise self.error("model: this chat template rewrites assistant turns, so turns cannot be joined exactly")
        return rest

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

    def _splice(self, rendered: str, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a rendered dialogue with each sentinel replaced by its message's content, and a content mask."""
        ids: list[int] = []
        content: list[bool] = []
        for i, message in enumerate(messages):
            scaffold, found, rendered = rendered.partition(_sentinel(i))
            if not found:
                raise self.error(f"model: this chat template drops or rewrites {message['role']} messages")
            for piece, inside in ((self._ids(scaffold), False), (self.plain(message["content"]), True)):
                ids += piece
                content += [inside] * len(piece)
        tail = self._ids(rendered)
        return ids + tail, content + [False] * len(tail)
