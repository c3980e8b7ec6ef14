"""Episodes against any registered environment, turn by turn, all of them in one batch: tasks to groups."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import gymnasium

import rfenvs
from agents.chat import Chat
from agents.engines.base import Completion, Engine, Sampling
from agents.errors import SetupError
from agents.trajectory import STATE_KEYS, Group, Message, Trajectory, Turn
from sandboxes import SandboxUnavailable

Expert = Callable[[list[list[int]], int], list[Completion]]
"""From prompts and a seed to one completion of each, by another model than the policy."""


class Environments:
    """A pool of equal environments, one for each episode that runs at once.

    Built from a Gymnasium id and keyword arguments; ``workers`` threads step them (1: in this thread).
    """

    def __init__(self, id: str, split: str, kwargs: dict[str, Any] | None = None, workers: int = 1) -> None:
        self.id, self.split, self.kwargs = id, split, dict(kwargs or {})
        self._pool: list[gymnasium.Env[str, str]] = []
        self._threads = ThreadPoolExecutor(workers) if workers > 1 else None
        self.take(1)

    def take(self, n: int) -> list[gymnasium.Env[str, str]]:
        """``n`` environments; each may be in the middle of somebody's earlier episode."""
        while len(self._pool) < n:
            try:
                env = gymnasium.make(self.id, split=self.split, **self.kwargs)
                if not self._pool:
                    env.reset(seed=0)  # data that are missing, or no isolation: better said before a model is loaded
                self._pool.append(env)
            except gymnasium.error.Error as error:
                known = ", ".join(rfenvs.list_ids())
                raise SetupError(f"env.id={self.id!r}: {error} rfenvs has {known}.") from error
            except SandboxUnavailable as error:
                raise SetupError(f"env.id={self.id!r}: {error}") from error
            except (TypeError, ValueError, FileNotFoundError) as error:
                raise SetupError(f"env.kwargs={self.kwargs} with split={self.split!r}: {error}") from error
        return self._pool[:n]

    def num_tasks(self) -> int:
        """Tasks of this split; environments without a task list are taken as unlimited."""
        env = self.take(1)[0].unwrapped
        return env.num_tasks(self.split) if isinstance(env, rfenvs.TextEnv) else 2**31 - 1

    def start(self, env: gymnasium.Env[str, str], task: int) -> tuple[str, dict[str, Any]]:
        """Reset an environment of the pool to a task; other authors' environments take it as a seed."""
        ours = isinstance(env.unwrapped, rfenvs.TextEnv)
        return env.reset(options={"task_index": task}) if ours else env.reset(seed=task)

    def grade(self, tasks: Sequence[int], answers: Sequence[rfenvs.Action]) -> list[float | None]:
        """Reward of one answer to each task, in order, graded at once; None where an answer could not be scored."""

        def one(env: gymnasium.Env[str, str], task: int, answer: rfenvs.Action) -> float | None:
            self.start(env, task)
            _, reward, _, _, info = env.step(answer)
            return float(reward) if info.get("scored", True) else None

        return self.map(one, self.take(len(tasks)), tasks, answers)

    def map(self, function: Any, *columns: Any) -> list[Any]:
        """``function`` over the columns, in threads if there are any, in order."""
        return list(self._threads.map(function, *columns) if self._threads else map(function, *columns))

    def close(self) -> None:
        """Close every environment."""
        for env in self._pool:
            env.close()
        self._pool.clear()


def task_order(num_tasks: int, seed: int, start: int, count: int) -> list[int]:
    """Task indices ``start`` to ``start + count`` of an endless, seeded order.

    A pure function, so that a resumed run continues where it stopped. Up to a million tasks: every epoch is a
    permutation. Above that: independent draws.
    """
    if num_tasks > 1_000_000:
        return [random.Random(f"{seed}:{k}").randrange(num_tasks) for k in range(start, start + count)]
    indices: list[int] = []
    while len(indices) < count:
        epoch, offset = divmod(start + len(indices), num_tasks)
        order = list(range(num_tasks))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        indices += order[offset : offset + count - len(indices)]
    return indices


@dataclass(frozen=True)
class Drive:
    """Who acts at each turn, and how far episodes go: the states that a method trains on.

    The expert is the environment's planner (``info["expert_action"]``), or ``expert``, a model.
    """

    expert_share: float = 0.0
    """Probability that a turn is the expert's (DAgger's beta); drawn turn by turn."""
    student_turns: int | None = None
    """The policy's turns before an episode is cut (TCOD, front to back); None: as many as the environment gives."""
    last_turns: int | None = None
    """Replay the expert's plan until it has so many actions left, then let the policy act (TCOD, back to front)."""
    advise: bool = False
    """Have the expert name its action at every turn (`Turn.advice`)."""
    expert: Expert | None = None
    """Answers prompts in the environment's planner's stead."""


@dataclass
class _Episode:
    env: gymnasium.Env[str, str]
    messages: list[Message]
    prompt_ids: list[int]
    task: dict[str, Any]
    state: dict[str, Any]
    prefix: int = 0
    new_messages: int = 0
    trajectory: Trajectory = field(default_factory=lambda: Trajectory([]))
    running: bool = True


def rollout(
    engine: Engine,
    chat: Chat,
    environments: Environments,
    tasks: list[int],
    attempts: int,
    sampling: Sampling,
    seed: int,
    drive: Drive | None = None,
) -> list[Group]:
    """``attempts`` episodes of each task, as one group a task, in the order of ``tasks``.

    A prompt that leaves no room for an action ends its episode with stop reason ``context_overflow``; where
    that is the first prompt, the trajectory has no turns and is not scored.
    """
    envs = environments.take(len(tasks) * attempts)
    wanted = [task for task in tasks for _ in range(attempts)]
    episodes = environments.map(lambda env, task: _start(chat, environments, env, task), envs, wanted)
    turn = 0
    while running := [e for e in episodes if e.running]:
        for episode in running:
            if len(episode.prompt_ids) >= engine.context_length:
                episode.running = False
                episode.trajectory.stop_reason = "context_overflow"
                episode.trajectory.scored = bool(episode.trajectory.turns)
        running = [e for e in running if e.running]
        if running:
            turn_seed = random.Random(f"{seed}:{turn}").getrandbits(63)
            completions = engine.generate([e.prompt_ids for e in running], sampling, turn_seed)
            environments.map(lambda e, c: _act(chat, e, c), running, completions)
        turn += 1
    return [
        Group(episodes[k].task, [e.trajectory for e in episodes[k : k + attempts]])
        for k in range(0, len(episodes), attempts)
    ]


def _start(chat: Chat, environments: Environments, env: gymnasium.Env[str, str], task: int) -> _Episode:
    observation, info = environments.start(env, task)
    messages = list(info.get("messages") or [{"role": "user", "content": str(observation)}])
    described = dict(info.get("task") or {"id": str(task), "index": task})
    return _Episode(env, messages, chat.encode(messages), described, _state(info), new_messages=len(messages))


def _state(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in STATE_KEYS if key in info}


def _act(chat: Chat, episode: _Episode, completion: Completion) -> None:
    text = chat.decode(completion.ids)
    action = rfenvs.Action(
        text, token_ids=completion.ids, logprobs=completion.logprobs, finish_reason=completion.finish_reason
    )
    observation, reward, terminated, truncated, info = episode.env.step(action)
    turn = Turn(
        episode.prompt_ids,
        completion.ids,
        completion.logprobs,
        text,
        list(episode.messages),
        float(reward),
        list(info.get("feedback") or []),
        completion.finish_reason,
        prefix=episode.prefix,
        new_messages=episode.new_messages,
        before=episode.state,
        after=_state(info),
        reply=str(observation),
    )
    episode.state = turn.after
    trajectory = episode.trajectory
    trajectory.turns.append(turn)
    trajectory.scored = bool(info.get("scored", True))
    if terminated or truncated:
        episode.running = False
        trajectory.stop_reason = str(info.get("stop_reason") or ("completed" if terminated else "max_turns"))
        return
    new = list(info.get("messages") or [{"role": "user", "content": str(observation)}])
    bridge = chat.bridge(new, completion.ids[-1])
    before = turn.prompt_ids + turn.action_ids
    episode.prompt_ids = before + bridge
    assert episode.prompt_ids[: len(before)] == before, "a turn must extend what the policy saw and sampled"
    episode.messages = [*episode.messages, {"role": "assistant", "content": text}, *new]
    episode.prefix, episode.new_messages = len(before), len(new)
