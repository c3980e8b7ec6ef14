"""Policies that need no model in this process: the gold actions, junk, and a server that speaks OpenAI's protocol.

A policy is a function of the conversation; `play` puts one through an episode.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, Protocol

import rfenvs
from agents.errors import SetupError
from agents.history import Past, windowed
from agents.trajectory import Message, Trajectory, Turn, judged
from rfenvs.graders.judge_http import HTTPJudge
from rfenvs.graders.rubric import JudgeError


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
    """A model behind an OpenAI-compatible endpoint; busy or failing, it is asked again.

    Args:
        url: Base address, up to and including `/v1`.
        model: Name of the model there.
        temperature, max_tokens: Of each request.
        key_variable: Environment variable that holds the key, if one is needed.
        timeout_s: Longest wait for one reply.
        concurrency: Requests at a time.
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
        concurrency: int = 256,
    ) -> None:
        key = key_variable if os.environ.get(key_variable) else None
        self.client = HTTPJudge(
            url, model, key_env=key, mode="text", retries=3, concurrency=concurrency, max_tokens=max_tokens
        )
        self.temperature, self.timeout_s = temperature, timeout_s

    def act(self, env: rfenvs.TextEnv, task: rfenvs.Task, messages: list[Message], turn: int, seed: int) -> str:
        """Ask the server; its `finish_reason` reaches the environment.

        Raises:
            SetupError: The server cannot be used.
        """
        try:
            reply = self.client.complete(
                messages, schema={}, temperature=self.temperature, seed=seed, timeout=self.timeout_s
            )
        except (JudgeError, ValueError, ImportError) as error:
            raise SetupError(f"--policy {self.client.base_url}: {error} The address goes up to /v1.") from error
        return rfenvs.Action(reply.text, finish_reason=reply.finish_reason)


def play(
    env: rfenvs.TextEnv, policy: Policy, index: int, seed: int, history: int | None = None, turns: int | None = None
) -> tuple[dict[str, Any], Trajectory]:
    """One episode on the task at `index`: `info["task"]`, and what happened.

    `history` and `turns` are those of `agents.history.RolloutSettings`.
    """
    task = env.get_task(index)
    _, info = env.reset(options={"task_index": index})
    described = info["task"]
    opening: list[Message] = info["messages"]
    past: list[Past] = []
    trajectory = Trajectory([])
    while True:
        messages = windowed(opening, past, history)
        action = policy.act(env, task, [dict(m) for m in messages], len(trajectory.turns), seed)
        _, reward, terminated, truncated, info = env.step(action)
        number, scored = judged(task.id, float(reward), bool(info["scored"]))
        trajectory.scored = trajectory.scored and scored
        finish = getattr(action, "finish_reason", None) or "stop"
        turn = Turn([], [], [], str(action), list(messages), number, info["feedback"], finish)
        trajectory.turns.append(turn)
        if terminated or truncated:
            trajectory.stop_reason, trajectory.truncated = info["stop_reason"], truncated
            return described, trajectory
        if turns is not None and len(trajectory.turns) >= turns:
            trajectory.stop_reason, trajectory.truncated = "rollout_turns", True
            return described, trajectory
        past.append(Past(str(action), info["messages"]))


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
