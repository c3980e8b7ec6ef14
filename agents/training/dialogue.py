"""Test-time scaling without learning, the baseline: the question again and again, with all that was said so far.

Source: SDPO (arXiv 2601.20802), multi-turn baseline of its test-time experiments. Two templates, in our words:

    feedback_only          question + all feedback so far, oldest first + a closing sentence, as one message
    attempt_and_feedback   question, attempt, feedback, attempt, feedback, ...                   as turns of a chat

Where that is longer than the limit, the oldest feedback goes first; the question and the newest feedback stay.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium

from agents.chat import Chat
from agents.engines.base import Engine, Generate
from agents.engines.hf import HFEngine
from agents.engines.reuse import Beginnings
from agents.rollout import Environments
from agents.trajectory import Message

Template = Literal["feedback_only", "attempt_and_feedback"]

HEADING = "The following is feedback from your unsuccessful earlier attempts:"
CLOSING = "Correctly solve the original question."


@dataclass
class Dialogue:
    """What one run has been told so far."""

    template: Template
    attempts: list[str] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    """One entry an attempt; empty where nothing was said."""

    def add(self, attempt: str, feedback: str) -> None:
        """One more attempt, and what the environment said of it."""
        self.attempts.append(attempt)
        self.feedback.append(feedback)

    def messages(self, question: Sequence[Message], chat: Chat, limit: int) -> list[Message]:
        """The prompt of the next attempt, at most ``limit`` tokens long where the question alone is not longer.

        The newest feedback stays whatever its length.
        """
        total = len(self.attempts)
        low, high = 0, max(total - 1, 0)  # entries that are left out: the fewest that make it fit
        while low < high:
            middle = (low + high) // 2
            if len(chat.encode(self._messages(question, middle))) <= limit:
                high = middle
            else:
                low = middle + 1
        return self._messages(question, low)

    def _messages(self, question: Sequence[Message], left_out: int) -> list[Message]:
        attempts, feedback = self.attempts[left_out:], self.feedback[left_out:]
        *before, last = question
        if self.template == "feedback_only":
            told = [text for text in feedback if text]
            if not told:
                return list(question)
            content = "\n\n".join([last["content"], HEADING, *told, CLOSING])
            return [*before, {"role": last["role"], "content": content}]
        messages = list(question)
        for attempt, text in zip(attempts, feedback, strict=True):
            messages.append({"role": "assistant", "content": attempt})
            messages.append({"role": "user", "content": "\n\n".join(filter(None, [text, CLOSING]))})
        return messages


class Asking:
    """Environments whose next episodes begin with prompts of ours; they judge answers to their own question.

    A stand-in for `Environments` in a rollout of one attempt a task.
    """

    def __init__(self, environments: Environments, prompts: Sequence[list[Message] | None]) -> None:
        self.environments = environments
        pool = environments.take(len(prompts))
        self._prompts = {id(env): prompt for env, prompt in zip(pool, prompts, strict=True)}

    def start(self, env: gymnasium.Env[str, str], task: int) -> tuple[str, dict[str, Any]]:
        """Reset, with the prompt of ours in the place of the environment's."""
        observation, info = self.environments.start(env, task)
        prompt = self._prompts.get(id(env))
        return observation, info if prompt is None else {**info, "messages": [dict(m) for m in prompt]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.environments, name)


class Remembering:
    """An engine that keeps what it forwarded from one rollout to the next, since prompts here begin alike.

    Made anew at the same steps it gives equal completions, whether or not the process was restarted between them.
    """

    def __init__(self, engine: Engine) -> None:
        self.context_length = engine.context_length
        self.generate: Generate = engine.generate
        if isinstance(engine, HFEngine) and engine.reuse != 0:
            self.generate = functools.partial(engine.generate, memory=Beginnings(engine.reuse))


def question_of(environments: Environments, task: int) -> list[Message]:
    """The environment's own prompt for a task."""
    observation, info = environments.start(environments.take(1)[0], task)
    return list(info.get("messages") or [{"role": "user", "content": str(observation)}])
