"""Episodes against any registered environment, turn by turn, all of them in one batch: tasks to groups."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

import rfenvs
from agents.chat import Chat
from agents.engines.base import Completion, Engine, Generate, Sampling
from agents.errors import SetupError
from agents.history import History, RolloutSettings, resolve
from agents.trajectory import STATE_KEYS, Group, Message, Trajectory, Turn, judged
from sandboxes import SandboxUnavailable

_log = logging.getLogger(__name__)

Expert = Callable[[list[list[int]], int], list[Completion]]
"""From prompts and a seed to one completion of each, by another model than the policy."""

Opening = Callable[[list[Message], dict[str, Any], int], list[Message]]
"""From an environment's first messages, ``info["task"]`` and the number of the attempt in its group to the messages
that the policy sees first."""


class Environments:
    """A pool of equal environments, one for each episode that runs at once.

    Built from a Gymnasium id and keyword arguments; ``workers`` threads step them (1: in this thread). Where the id
    takes no ``split``, every task of every split is a seed.
    """

    def __init__(self, id: str, split: str, kwargs: dict[str, Any] | None = None, workers: int = 1) -> None:
        self.id, self.split, self.kwargs = id, split, dict(kwargs or {})
        self._made_with = {"split": split, **self.kwargs} if _takes_split(id) else self.kwargs
        self._pool: list[gymnasium.Env[str, str]] = []
        self._threads = ThreadPoolExecutor(workers) if workers > 1 else None
        self.take(1)

    def take(self, n: int) -> list[gymnasium.Env[str, str]]:
        """``n`` environments; each may be in the middle of somebody's earlier episode."""
        while len(self._pool) < n:
            self._pool.append(self._make(try_it=not self._pool))
        return self._pool[:n]

    def _make(self, try_it: bool) -> gymnasium.Env[str, str]:
        try:
            env = gymnasium.make(self.id, **self._made_with)
            if try_it:
                env.reset(seed=0)  # data that are missing, or no isolation: better said before a model is loaded
            return env
        except gymnasium.error.Error as error:
            known = ", ".join(rfenvs.list_ids())
            raise SetupError(f"env.id={self.id!r}: {error} rfenvs has {known}.") from error
        except SandboxUnavailable as error:
            raise SetupError(f"env.id={self.id!r}: {error}") from error
        except (TypeError, ValueError, FileNotFoundError) as error:
            raise SetupError(f"env.kwargs={self.kwargs} with split={self.split!r}: {error}") from error

    def replace(self, broken: gymnasium.Env[str, str]) -> None:
        """Put a fresh environment in the place of one that raised."""
        try:
            broken.close()
        except Exception:  # it is broken, and nothing else is known of it
            _log.exception("Closing a failed environment failed")
        self._pool = [self._make(try_it=False) if env is broken else env for env in self._pool]

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
            number, scored = judged(str(task), float(reward), bool(info.get("scored", True)))
            return number if scored else None

        return self.map(one, self.take(len(tasks)), tasks, answers)

    @property
    def max_turns(self) -> int | None:
        """Longest episode, in turns; None where that is not known."""
        turns: int | None = getattr(self.take(1)[0].unwrapped, "max_turns", None)
        return turns

    def map(self, function: Any, *columns: Any) -> list[Any]:
        """``function`` over the columns, in threads if there are any, in order."""
        return list(self._threads.map(function, *columns) if self._threads else map(function, *columns))

    def close(self) -> None:
        """Close every environment."""
        for env in self._pool:
            env.close()
        self._pool.clear()


def _takes_split(id: str) -> bool:
    """Whether an environment has splits: ours do, those of other authors may."""
    try:
        entry: Any = gymnasium.spec(id).entry_point
        creator = load_env_creator(entry) if isinstance(entry, str) else entry
        parameters = inspect.signature(creator).parameters.values()
    except (gymnasium.error.Error, ImportError, AttributeError, TypeError, ValueError):
        return True  # `gymnasium.make` knows better what is wrong
    return any(p.name == "split" or p.kind is p.VAR_KEYWORD for p in parameters)


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

    The expert is the environment's planner (``info["expert_action"]``), or ``expert``, a model. Its turns are part of
    the history that the policy sees. Where the planner finds no way on, or the prompt leaves the model no room, the
    policy acts, unadvised.

    Raises:
        SetupError: A number is out of range.
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
    opening: Opening | None = None
    """Rewrites how a conversation begins (an evolved instruction, a plan in front); the environment does not know."""

    def __post_init__(self) -> None:
        if not 0 <= self.expert_share <= 1:
            raise SetupError(f"Drive: expert_share={self.expert_share} is a probability, between 0 and 1")
        for name in ("student_turns", "last_turns"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SetupError(f"Drive: {name}={value} must be at least 1, or None")

    @property
    def asks_planner(self) -> bool:
        """Whether the environment must tell ``expert_action``."""
        return self.expert is None and (self.advise or self.expert_share > 0)


@dataclass
class _Episode:
    number: int
    env: gymnasium.Env[str, str]
    history: History
    task: dict[str, Any]
    state: dict[str, Any]
    replay: list[str] = field(default_factory=list)
    """The expert's commands that are still to be replayed."""
    trajectory: Trajectory = field(default_factory=lambda: Trajectory([]))
    running: bool = True
    error: Exception | None = None
    """What the environment raised."""

    def cut(self, reason: str) -> None:
        """End the episode from outside: it is scored as it stands."""
        self.running = False
        self.trajectory.stop_reason, self.trajectory.truncated = reason, True
        self.trajectory.scored = self.trajectory.scored and bool(self.trajectory.turns)


@dataclass(frozen=True)
class _Move:
    """An action: its ids, its text, and who chose it."""

    completion: Completion
    text: str
    source: str


def rollout(
    engine: Engine,
    chat: Chat,
    environments: Environments,
    tasks: list[int],
    attempts: int,
    sampling: Sampling,
    seed: int,
    drive: Drive | None = None,
    settings: RolloutSettings | None = None,
) -> list[Group]:
    """``attempts`` episodes of each task, as one group a task, in the order of ``tasks``.

    An episode that the environment would continue is cut, and keeps what it earned, where its prompt leaves no room for
    an action (stop reason ``context_overflow``), at ``settings.turns`` (``rollout_turns``), and at
    ``drive.student_turns`` (``curriculum``). Where even the first prompt leaves no room, it is not scored; nor is one
    whose environment raises (``env_error``), or gives a reward that is not finite.

    Equal arguments and equal weights give equal groups. An episode's actions also depend on which others run beside it:
    the engine draws for all of them in turn.

    Raises:
        SetupError: ``drive`` needs an expert that the environment does not have, or ``settings.thinking`` is "auto" and
            the chat template rewrites earlier turns.
        Exception: What the environment raised: in every episode, or one that it says is not to be caught.
    """
    drive, settings = drive or Drive(), settings or RolloutSettings()
    envs = environments.take(len(tasks) * attempts)
    wanted = [task for task in tasks for _ in range(attempts)]
    started = environments.map(environments.start, envs, wanted)
    tasks_told = [
        dict(info.get("task") or {"id": str(task), "index": task})
        for task, (_, info) in zip(wanted, started, strict=True)
    ]
    openings = [_messages(observation, info) for observation, info in started]
    if drive.opening is not None:
        openings = [
            drive.opening(opening, told, number % attempts)
            for number, (opening, told) in enumerate(zip(openings, tasks_told, strict=True))
        ]
    one_turn = 1 in (environments.max_turns, settings.turns)
    thinking = resolve(settings, chat, openings, one_turn)
    episodes = [
        _Episode(
            number,
            env,
            History(chat, opening, thinking, settings.history),
            told,
            _state(info),
        )
        for number, (env, told, opening, (_, info)) in enumerate(zip(envs, tasks_told, openings, started, strict=True))
    ]
    _require_expert(drive, environments, episodes)
    if drive.last_turns is not None:
        for episode in episodes:
            plan = episode.state.get("expert_plan") or []
            episode.replay = list(plan[: max(0, len(plan) - drive.last_turns)])
    # An engine may carry over what it forwarded, which pays where there are further turns.
    generate: Generate = engine.generate if one_turn else getattr(engine, "conversation", lambda: engine.generate)()
    turn = 0
    while True:
        for episode in episodes:
            if episode.running and (reason := _over(episode, drive, settings, engine.context_length)):
                episode.cut(reason)
        if not (running := [e for e in episodes if e.running]):
            break
        moves = _moves(generate, chat, running, drive, sampling, seed, turn)
        environments.map(lambda e, move: _act(chat, e, move), running, moves)
        turn += 1
    failed = [e for e in episodes if e.error]
    for episode in failed:
        environments.replace(episode.env)
    if failed and len(failed) == len(episodes) and failed[0].error:
        raise failed[0].error
    return [
        Group(episodes[k].task, [e.trajectory for e in episodes[k : k + attempts]])
        for k in range(0, len(episodes), attempts)
    ]


def _messages(observation: str, info: dict[str, Any]) -> list[Message]:
    """What an environment says, as messages; other authors' environments say it as an observation."""
    return list(info.get("messages") or [{"role": "user", "content": str(observation)}])


def _state(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in STATE_KEYS if key in info}


def _require_expert(drive: Drive, environments: Environments, episodes: Sequence[_Episode]) -> None:
    """Refuse, before anything is sampled, where the expert is needed and none of the tasks has one."""
    needed = (["expert_action"] if drive.asks_planner else []) + (["expert_plan"] if drive.last_turns else [])
    for key in needed:
        if episodes and all(e.state.get(key) is None for e in episodes):
            other = ", or give the recipe a model as its expert" if key == "expert_action" else ""
            raise SetupError(
                f"env.id={environments.id!r} with env.kwargs={environments.kwargs} tells no info[{key!r}], which this "
                f"recipe needs; set env.kwargs='{{expert: true}}' where the environment has a planner{other}"
            )


def _over(episode: _Episode, drive: Drive, settings: RolloutSettings, context_length: int) -> str:
    """Why an episode that the environment would continue is cut here; empty if it is not."""
    turns = episode.trajectory.turns
    if drive.student_turns is not None and sum(t.source == "policy" for t in turns) >= drive.student_turns:
        return "curriculum"
    if settings.turns is not None and len(turns) >= settings.turns:
        return "rollout_turns"
    return "context_overflow" if len(episode.history.prompt.ids) >= context_length else ""


def _moves(
    generate: Generate, chat: Chat, running: Sequence[_Episode], drive: Drive, sampling: Sampling, seed: int, turn: int
) -> list[tuple[_Move, str | None]]:
    """Each running episode's move and the advice it is given; the policy's moves are sampled in one batch."""
    asked = [_coin(seed, e.number, turn) < drive.expert_share for e in running]
    expert = _expert_moves(chat, running, [drive.advise or a for a in asked], drive.expert, f"{seed}:{turn}:expert")
    moves: list[_Move | None] = []
    for episode, coin, move in zip(running, asked, expert, strict=True):
        moves.append(_written(chat, episode.replay.pop(0)) if episode.replay else move if coin else None)
    free = [i for i, move in enumerate(moves) if move is None]
    turn_seed = random.Random(f"{seed}:{turn}").getrandbits(63)
    sampled = generate([running[i].history.prompt.ids for i in free], sampling, turn_seed) if free else []
    for i, completion in zip(free, sampled, strict=True):
        moves[i] = _Move(completion, chat.decode(completion.ids), "policy")
    advice = [move.text if move is not None and drive.advise else None for move in expert]
    return [(move, told) for move, told in zip(moves, advice, strict=True) if move is not None]


def _expert_moves(
    chat: Chat, running: Sequence[_Episode], wanted: Sequence[bool], expert: Expert | None, seed: str
) -> list[_Move | None]:
    """What the expert would do in each wanted episode; None also where it has nothing to say."""
    if expert is None:
        commands = [e.state.get("expert_action") if w else None for e, w in zip(running, wanted, strict=True)]
        return [None if command is None else _written(chat, command) for command in commands]
    prompts = [e.history.prompt.ids for e, w in zip(running, wanted, strict=True) if w]
    answers = iter(expert(prompts, random.Random(seed).getrandbits(63)) if prompts else [])
    moves: list[_Move | None] = []
    for w in wanted:
        if not w:
            moves.append(None)
            continue
        answer = next(answers)
        move = _Move(replace(answer, logprobs=[]), chat.decode(answer.ids), "expert")
        moves.append(move if answer.ids else None)
    return moves


def _written(chat: Chat, command: str) -> _Move:
    return _Move(Completion(chat.written(command), [], "stop"), command, "expert")


def _coin(seed: int, episode: int, turn: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    return random.Random(f"{seed}:{episode}:{turn}:coin").random()


def _act(chat: Chat, episode: _Episode, choice: tuple[_Move, str | None]) -> None:
    (move, advice), prompt = choice, episode.history.prompt
    ids, logprobs, finish = move.completion.ids, move.completion.logprobs, move.completion.finish_reason
    action = rfenvs.Action(move.text, token_ids=ids, logprobs=logprobs or None, finish_reason=finish)
    try:
        observation, reward, terminated, truncated, info = episode.env.step(action)
    except (SandboxUnavailable, *getattr(episode.env.unwrapped, "propagates", ())):
        raise
    except Exception as error:  # one failed environment is data: its episode is dropped, the others go on
        _log.exception("Task %s: the environment failed", episode.task["id"])
        episode.error, episode.running = error, False
        episode.trajectory.scored, episode.trajectory.truncated = False, True
        episode.trajectory.stop_reason = "env_error"
        return
    number, scored = judged(str(episode.task["id"]), float(reward), bool(info.get("scored", True)))
    turn = Turn(
        prompt.ids,
        ids,
        logprobs,
        move.text,
        prompt.messages,
        number,
        list(info.get("feedback") or []),
        finish,
        source=move.source,
        prefix=prompt.prefix,
        stem=prompt.stem,
        new_messages=prompt.new_messages,
        before=episode.state,
        after=_state(info),
        advice=advice,
        reply=str(observation),
    )
    episode.state = turn.after
    trajectory = episode.trajectory
    trajectory.turns.append(turn)
    trajectory.scored = trajectory.scored and scored
    if terminated or truncated:
        episode.running = False
        trajectory.truncated = bool(truncated and not terminated)
        trajectory.stop_reason = str(info.get("stop_reason") or ("completed" if terminated else "max_turns"))
        return
    episode.history.extend(ids, move.text, _messages(observation, info))
