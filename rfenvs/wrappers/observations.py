"""The whole conversation as the observation: as chat messages, as one text, or as token ids.

The environments themselves show only what is new since the last action. These wrappers keep the history, so an
episode of T turns costs O(T^2): fine for agents that want it, wasteful where you keep the history yourself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

import gymnasium
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rfenvs.env import Action, clean
from rfenvs.spaces import Text
from rfenvs.tasks import Message, plain_text
from rfenvs.wrappers.chat_template import ChatTemplate, Renderer
from rfenvs.wrappers.tokens import control_pattern, encode_plain

Observation = TypeVar("Observation")


class _History(gymnasium.Wrapper[Observation, str, str, str], Generic[Observation]):
    """What the three wrappers share: they are told of prompts, actions and replies, and show what they make of it."""

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        super().__init__(cast("gymnasium.Env[Observation, str]", env))  # Gymnasium types both sides alike
        self._texts = env

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset the environment; the history is its prompt."""
        observation, info = self._texts.reset(seed=seed, options=options)
        self._begin(_messages(observation, info))
        return self._show(), info

    def step(self, action: str) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Step the environment; action and reply join the history."""
        observation, reward, terminated, truncated, info = self._texts.step(action)
        self._add(clean(action), _messages(observation, info))
        return self._show(), reward, terminated, truncated, info

    @abstractmethod
    def _begin(self, prompt: list[Message]) -> None: ...

    @abstractmethod
    def _add(self, action: Action, reply: list[Message]) -> None: ...

    @abstractmethod
    def _show(self) -> Observation: ...


def _messages(observation: str, info: dict[str, Any]) -> list[Message]:
    """The messages that a call added, the last words of an episode too; copies."""
    new: Sequence[Message] = info.get("messages") or ([{"role": "user", "content": observation}] if observation else [])
    return [dict(message) for message in new]


class ChatObservation(_History[tuple[Message, ...]], RecordConstructorArgs):
    """Observations are the whole conversation: a tuple of `{"role", "content"}` dicts, actions as assistant messages.

    The dicts are made fresh each time, so they may be changed or kept.
    """

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        RecordConstructorArgs.__init__(self)
        _History.__init__(self, env)
        self.observation_space = spaces.Sequence(spaces.Dict({"content": Text(), "role": Text()}))
        self._history: list[Message] = []

    def _begin(self, prompt: list[Message]) -> None:
        self._history = prompt

    def _add(self, action: Action, reply: list[Message]) -> None:
        self._history += [{"role": "assistant", "content": str(action)}, *reply]

    def _show(self) -> tuple[Message, ...]:
        return tuple(dict(message) for message in self._history)


class TranscriptObservation(_History[str], RecordConstructorArgs):
    """Observations are the whole conversation as one text, in which every observation begins with the last one."""

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        RecordConstructorArgs.__init__(self)
        _History.__init__(self, env)
        self.observation_space = Text()
        self._transcript = ""

    def _begin(self, prompt: list[Message]) -> None:
        self._transcript = plain_text(prompt)

    def _add(self, action: Action, reply: list[Message]) -> None:
        head = {"role": "system", "content": self._transcript}
        self._transcript = plain_text([head, {"role": "assistant", "content": str(action)}, *reply])

    def _show(self) -> str:
        return self._transcript


class TokenObservation(_History[tuple[int, ...]], RecordConstructorArgs):
    """Observations are the ids of the whole conversation: what a policy is fed, token-in token-out.

    Every observation begins with the last one and the ids of the action. Those are `Action.token_ids` where the action
    carries them; a plain `str` is encoded, which need not give what was sampled. Text from outside never becomes a
    control token. With a chat format the ids end with the header of the next assistant turn; without one the texts
    simply follow each other.

    Args:
        env: The environment.
        tokenizer: A `transformers` tokenizer, a `tokenizers.Tokenizer`, or anything whose
            `encode(text, add_special_tokens=False)` returns ids.
        renderer: The chat format. By default that of the tokenizer where it has a chat template, otherwise none.
    """

    def __init__(self, env: gymnasium.Env[str, str], tokenizer: Any, renderer: Renderer | None = None) -> None:
        RecordConstructorArgs.__init__(self, tokenizer=tokenizer, renderer=renderer, _disable_deepcopy=True)
        _History.__init__(self, env)
        if renderer is None and getattr(tokenizer, "chat_template", None):
            renderer = ChatTemplate(tokenizer)
        self._tokenizer, self._renderer = tokenizer, renderer
        self._controls = control_pattern(tokenizer)
        self.observation_space = spaces.Sequence(spaces.Discrete(max(tokenizer.get_vocab().values()) + 1))
        self._ids: list[int] = []

    def _begin(self, prompt: list[Message]) -> None:
        self._ids = self._encode(plain_text(prompt)) if self._renderer is None else self._renderer.encode(prompt)

    def _add(self, action: Action, reply: list[Message]) -> None:
        given = action.token_ids
        self._ids += self._encode(action) if given is None else given
        if self._renderer is not None:
            self._ids += self._renderer.bridge(reply, self._ids[-1]) if reply else []
        else:
            self._ids += self._encode("\n\n" + plain_text(reply) + "\n" if reply else "")

    def _show(self) -> tuple[int, ...]:
        return tuple(self._ids)

    def _encode(self, text: str) -> list[int]:
        return encode_plain(self._tokenizer, text, self._controls)
