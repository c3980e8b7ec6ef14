"""Policies that need no model in this process: the gold actions, junk, and a server that speaks OpenAI's protocol.

A policy is a function of the conversation; `play` puts one through an episode.
"""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol

import rfenvs
from agents.errors import SetupError
from agents.trajectory import Message, Trajectory, Turn

RETRIED = (408, 409, 429, 500, 502, 503, 504)


class Policy(Protocol):
    """Chooses an action."""

    def act(self, env: rfenvs.TextEnv, task: rfenvs.Task, messages: list[Message], turn: int, seed: int) -> str:
        """The action of turn `turn` (from 0), given the conversation so far."""
        ...


class Gold:
    """Takes the environment's own right answers, turn by turn."""

    def act(self, env: rfenvs.TextEnv, task: rfenvs.Task, messages: list[Message], turn: int, seed: int) -> str:
        """The gold action of this turn; nothing where there is none."""
        golds = env.gold_actions(task)
        return golds[turn] if turn < len(golds) else ""


class Junk:
    """Random text: what an environment pays for nothing."""

    def act(self, env: rfenvs.TextEnv, task: rfenvs.Task, messages: list[Message], turn: int, seed: int) -> str:
        """A random string, by the seed."""
        letters = random.Random(f"{seed}:{turn}:{task.id}")
        return "".join(letters.choice("abc 123 {}()\n\"'\\é✓") for _ in range(letters.randrange(40)))


class Server:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        url: Base address, up to and including `/v1`.
        model: Name of the model there.
        temperature, max_tokens: Of each request.
        key_variable: Environment variable that holds the key, if one is needed.
        timeout_s: Longest wait for one reply.
        attempts: Times a request is sent where the server is busy, fails or cannot be reached.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        temperature: float = 1.0,
        max_tokens: int = 1024,
        key_variable: str = "OPENAI_API_KEY",
        timeout_s: float = 600.0,
        attempts: int = 4,
    ) -> None:
        self.url = url.rstrip("/") + "/chat/completions"
        self.body = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self.headers = {"Content-Type": "application/json"}
        if key := os.environ.get(key_variable):
            self.headers["Authorization"] = f"Bearer {key}"
        self.timeout_s, self.attempts = timeout_s, attempts

    def act(self, env: rfenvs.TextEnv, task: rfenvs.Task, messages: list[Message], turn: int, seed: int) -> str:
        """Ask the server; its `finish_reason` reaches the environment."""
        reply = self._post({**self.body, "messages": messages, "seed": seed})
        try:
            choice = reply["choices"][0]
            return rfenvs.Action(choice["message"]["content"] or "", finish_reason=choice.get("finish_reason"))
        except (KeyError, IndexError, TypeError) as error:
            raise SetupError(f"{self.url} answered with something else than a chat completion: {reply!r}") from error

    def _post(self, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.url, json.dumps(body).encode(), self.headers)
        for attempt in range(1, self.attempts + 1):
            wait = 0.5 * 2**attempt
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                said = error.read(500).decode("utf-8", "replace")
                if error.code not in RETRIED or attempt == self.attempts:
                    raise SetupError(f"{self.url} answered {error.code}: {said}") from error
                wait = float(error.headers.get("Retry-After") or wait)
            except (OSError, ValueError) as error:
                if attempt == self.attempts:
                    raise SetupError(
                        f"{self.url} cannot be used ({error}); --policy is the address up to /v1"
                    ) from error
            time.sleep(min(wait, 60.0))
        raise AssertionError("the last attempt returns or raises")


def play(env: rfenvs.TextEnv, policy: Policy, index: int, seed: int) -> tuple[dict[str, Any], Trajectory]:
    """One episode on the task at `index`: `info["task"]`, and what happened."""
    task = env.get_task(index)
    _, info = env.reset(options={"task_index": index})
    described = info["task"]
    messages: list[Message] = info["messages"]
    trajectory = Trajectory([])
    while True:
        action = policy.act(env, task, [dict(m) for m in messages], len(trajectory.turns), seed)
        _, reward, terminated, truncated, info = env.step(action)
        finish = getattr(action, "finish_reason", None) or "stop"
        turn = Turn([], [], [], str(action), list(messages), float(reward), info["feedback"], finish)
        trajectory.turns.append(turn)
        if terminated or truncated:
            trajectory.scored, trajectory.stop_reason = info["scored"], info["stop_reason"]
            return described, trajectory
        messages = [*messages, {"role": "assistant", "content": str(action)}, *info["messages"]]


def named(policy: str, server: Callable[[str], Policy]) -> Policy:
    """The policy that `--policy` names; `server` makes one from an address.

    Raises:
        SetupError: No such policy.
    """
    if policy in ("gold", "junk"):
        return Gold() if policy == "gold" else Junk()
    if policy.startswith(("http://", "https://")):
        return server(policy)
    raise SetupError(f"--policy {policy!r}: use model, gold, junk, or the address of a server, http://host:port/v1")
