"""`make_vec`: many text environments stepped as one, all together or as they finish."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rfenvs.executors import Executor, Inline, Threads
from rfenvs.members import Member, StepResult

ExecutorName = Literal["auto", "inline", "threads"]
"""`auto`: threads where the environment's class says that its steps wait (`TextEnv.blocking`), else inline."""
InfoStyle = Literal["list", "gymnasium"]
"""`list`: one dict an environment. `gymnasium`: one dict of arrays, as Gymnasium's own vector environments merge it."""

Actions: TypeAlias = Iterable[str] | Mapping[int, str]
"""One action for each environment in order, or some by index."""
Options: TypeAlias = dict[str, Any] | Sequence[dict[str, Any] | None]
"""Reset options shared by all, or a list with those of each environment."""
Batch: TypeAlias = tuple[
    tuple[Any, ...], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], Any
]  # fmt: skip
"""Observations, rewards, terminations, truncations, infos: a row for each environment that acted."""

_MOST_THREADS = 256


def make_vec(
    id: str,
    num_envs: int = 1,
    *,
    executor: ExecutorName = "auto",
    wrappers: Sequence[Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]] = (),
    infos: InfoStyle = "list",
    group_size: int = 1,
    workers: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.DISABLED,
    **kwargs: Any,
) -> TextVectorEnv:
    """Make `num_envs` environments of one id that step as one; `gymnasium.make_vec` comes here too.

    Args:
        id: A registered environment.
        num_envs: How many.
        executor: Where steps run: `"inline"`, `"threads"`, or `"auto"`, which asks the class (`TextEnv.blocking`).
            For processes use `gymnasium.make_vec(..., vectorization_mode="async",
            vector_kwargs={"shared_memory": False})`.
        wrappers: Applied to each environment, the first one innermost.
        infos: `"list"`, or `"gymnasium"` for libraries that expect one dict of arrays.
        group_size: Environments that share a task when they are reset: 0 to `group_size` - 1, and so on.
        workers: Threads; by default one for each environment, at most 256.
        autoreset_mode: By default none: an episode that is over is reset when you say so. Gymnasium's `"NextStep"`
            wastes the action after the end, its `"SameStep"` hides the last feedback in `info["final_info"]`.
        **kwargs: The environment's own arguments.

    Raises:
        ValueError: An argument is out of its range; the message names it.
    """

    def make() -> gymnasium.Env[Any, Any]:
        env: gymnasium.Env[Any, Any] = gymnasium.make(id, disable_env_checker=True, **kwargs)
        for wrapper in wrappers:
            env = wrapper(env)
        return env

    return TextVectorEnv(
        make,
        num_envs,
        executor=executor,
        infos=infos,
        group_size=group_size,
        workers=workers,
        autoreset_mode=autoreset_mode,
    )


def to_gymnasium_infos(
    infos: Sequence[Mapping[str, Any]], indices: Sequence[int] | None = None, num_envs: int | None = None
) -> dict[str, Any]:
    """Merge a list of infos as Gymnasium's vector environments do: an array a key, and a mask under `"_" + key`.

    Args:
        infos: One for each environment that acted.
        indices: Which environments these are; by default the first ones.
        num_envs: Length of the arrays; by default that of `infos`.
    """
    merger: VectorEnv[Any, Any, Any] = VectorEnv()
    merger.num_envs = len(infos) if num_envs is None else num_envs
    merged: dict[str, Any] = {}
    for index, info in zip(range(len(infos)) if indices is None else indices, infos, strict=True):
        merged = merger._add_info(merged, dict(info), index)
    return merged


class TextVectorEnv(VectorEnv[tuple[Any, ...], Any, npt.NDArray[Any]]):
    """Several text environments behind Gymnasium's vector interface, and more than it asks for.

    - `step` takes an action for each environment, or `{index: action}` for some. The rows of what it returns are those
      of the environments that acted, in that order.
    - `send` starts actions, `recv` returns whatever has finished: a straggler keeps nobody waiting.
    - `reset` takes options for each environment, and resets all, `indices`, or Gymnasium's `options["reset_mask"]`.
    - An environment that raises ends its own episode: reward 0, `truncated`, `info["scored"]` False and a feedback item
      `env_error`. Its next reset makes a fresh one. (What `TextEnv.propagates` lists is raised.)
    - Stepping an episode that is over is an error, and nobody steps. Nothing is copied.

    Observations are a tuple, infos a list of dicts. Only one thread may use the object at a time. `close` waits for
    steps that are under way.

    Args:
        make: Makes one environment.
        num_envs: How many.

    The other arguments are those of `make_vec`.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        num_envs: int,
        *,
        executor: ExecutorName = "auto",
        infos: InfoStyle = "list",
        group_size: int = 1,
        workers: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.DISABLED,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("group_size", group_size), ("workers", workers)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r}: use an integer of at least 1.")
        if num_envs % group_size:
            raise ValueError(f"num_envs={num_envs} is no multiple of group_size={group_size}.")
        if executor not in get_args(ExecutorName):
            raise ValueError(f"executor={executor!r}: use one of {', '.join(get_args(ExecutorName))}.")
        if infos not in get_args(InfoStyle):
            raise ValueError(f"infos={infos!r}: use one of {', '.join(get_args(InfoStyle))}.")
        autoreset_mode = AutoresetMode(autoreset_mode)
        if group_size > 1 and autoreset_mode is not AutoresetMode.DISABLED:
            raise ValueError(f"autoreset_mode={autoreset_mode.value!r} would break groups up: use group_size=1.")
        self.num_envs = num_envs
        self.group_size = group_size
        self.infos = infos
        self._members = [Member(number, make, autoreset_mode) for number in range(num_envs)]
        first = self._members[0].env
        self.metadata = {**first.metadata, "autoreset_mode": autoreset_mode}
        self.render_mode = first.render_mode
        self.spec = first.spec
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        if executor == "auto":
            executor = "threads" if getattr(first.unwrapped, "blocking", False) else "inline"
        self.executor = executor
        self._autoreset = autoreset_mode is not AutoresetMode.DISABLED
        self._executor: Executor = (
            Inline() if executor == "inline" else Threads(workers or min(num_envs, _MOST_THREADS))
        )
        self._flying: set[int] = set()
        self._landed: list[tuple[int, StepResult]] = []

    @property
    def envs(self) -> tuple[gymnasium.Env[Any, Any], ...]:
        """The environments as they are now; a failed one is replaced by its next reset."""
        return tuple(member.env for member in self._members)

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Indices of the environments whose action was sent and whose result was not received."""
        return tuple(sorted(self._flying))

    @property
    def needs_reset(self) -> tuple[int, ...]:
        """Indices of the environments whose episode is over or was never begun."""
        return tuple(m.number for m in self._members if m.over and m.number not in self._flying)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Options | None = None,
        indices: Sequence[int] | None = None,
    ) -> tuple[tuple[Any, ...], Any]:
        """Start an episode in all environments, or in some.

        Args:
            seed: An int s gives environment i the seed s + i, as Gymnasium does (so runs with seeds 0 and 1 share
                most of their tasks), or s + i // `group_size`. A list gives one to each environment that is
                reset; equal seeds make a group. With None each environment goes on with its own random state, and a
                group draws a common seed.
            options: Options for all, or a list of those of each environment that is reset, such as
                `[{"task_index": 3}, {"task_index": 9}]`. `{"reset_mask": mask}`, a bool array, is Gymnasium's way to
                reset some: then all rows come back, and infos of the others are empty.
            indices: Reset these alone, and return their rows.

        Raises:
            ValueError: A length, index or option is wrong. Options are checked by the environments, so others may
                have been reset by then; call reset again.
        """
        self._check_open()
        mask = None
        if isinstance(options, Mapping) and "reset_mask" in options:
            mask, options = options["reset_mask"], {k: v for k, v in options.items() if k != "reset_mask"}
            if indices is not None:
                raise ValueError("Give either indices or options['reset_mask'], not both.")
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
                raise ValueError(f"options['reset_mask'] must be a bool array of shape ({self.num_envs},).")
            if seed is not None and not isinstance(seed, int | np.integer):
                seed = [s for s, chosen in zip(seed, mask, strict=True) if chosen]
            indices = np.flatnonzero(mask).tolist()
        chosen = self._indices(range(self.num_envs) if indices is None else indices)
        seeds = self._seeds(seed, chosen)
        each = self._each_options(options, chosen)
        members = [self._members[i] for i in chosen]
        jobs = [functools.partial(m.reset, s, o) for m, s, o in zip(members, seeds, each, strict=True)]
        results = self._executor.run(jobs)
        if mask is None:
            return tuple(result[0] for result in results), self._merge([result[1] for result in results], chosen)
        infos: list[dict[str, Any]] = [{} for _ in self._members]
        for i, result in zip(chosen, results, strict=True):
            infos[i] = result[1]
        merged = infos if self.infos == "list" else self._merge([infos[i] for i in chosen], chosen)
        return tuple(member.observation for member in self._members), merged

    def step(self, actions: Actions) -> Batch:
        """Step every environment, or those that `actions` names; returns when all of them have answered.

        Raises:
            ValueError: The number of actions is wrong, or an index.
            TypeError: An action is not a `str`.
            gymnasium.error.ResetNeeded: The episode of an environment is over; nobody has stepped.
        """
        chosen, texts = self._actions(actions)
        members = self._members
        if self.executor == "inline":
            return self._batch(chosen, [members[i].step(action) for i, action in zip(chosen, texts, strict=True)])
        jobs = [functools.partial(members[i].step, action) for i, action in zip(chosen, texts, strict=True)]
        return self._batch(chosen, self._executor.run(jobs))

    def send(self, actions: Actions) -> None:
        """Start actions without waiting; `recv` returns what came of them. Raises what `step` raises."""
        chosen, texts = self._actions(actions)
        for i, action in zip(chosen, texts, strict=True):
            self._flying.add(i)
            self._executor.submit(i, functools.partial(self._members[i].step, action))

    def recv(self, min_ready: int = 1) -> tuple[list[int], Batch]:
        """Wait until at least `min_ready` sent actions are done; returns all that are, first come first.

        Inline there is nothing to wait for: it steps `min_ready` environments, in the order of `send`.

        Returns:
            The indices of the environments, and the rows that `step` would return for them.

        Raises:
            ValueError: Fewer actions than `min_ready` are in flight.
        """
        self._check_open()
        if not 1 <= min_ready <= len(self._flying):
            raise ValueError(f"min_ready={min_ready}: {len(self._flying)} actions are in flight; send() more first.")
        while len(self._landed) < len(self._flying):
            landed = self._executor.take(block=len(self._landed) < min_ready)
            if landed is None:
                break
            number, result, error = landed
            if error is not None:
                self._flying.discard(number)
                raise error
            self._landed.append((number, result))
        rows, self._landed = self._landed, []
        chosen = [number for number, _ in rows]
        self._flying.difference_update(chosen)
        return chosen, self._batch(chosen, [result for _, result in rows])

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, or read an attribute."""
        values = self.get_attr(name)
        return tuple(value(*args, **kwargs) if callable(value) else value for value in values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Read an attribute of each environment or of its wrappers."""
        return tuple(member.env.get_wrapper_attr(name) for member in self._members)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute: one value for all, or a list or tuple with one for each environment."""
        each = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ValueError(f"values has {len(each)} entries for {self.num_envs} environments.")
        for member, value in zip(self._members, each, strict=True):
            member.env.set_wrapper_attr(name, value)

    def render(self) -> tuple[Any, ...]:
        """Render each environment."""
        return tuple(member.env.render() for member in self._members)

    def close_extras(self, **kwargs: Any) -> None:
        """Wait for steps that are under way, end the threads, close the environments."""
        self._executor.close()
        self._flying.clear()
        self._landed.clear()
        for member in self._members:
            member.env.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("The vector environment is closed.")

    def _indices(self, indices: Iterable[int]) -> list[int]:
        """Check that the environments exist, and that nobody waits for them."""
        chosen = [operator.index(i) for i in indices]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"An index comes twice in {chosen}.")
        for i in chosen:
            if not 0 <= i < self.num_envs:
                raise ValueError(f"There is no sub-environment {i}: use 0 to {self.num_envs - 1}.")
            if i in self._flying:
                raise ValueError(f"Sub-environment {i} is still stepping: recv() its result first.")
        return chosen

    def _actions(self, actions: Actions) -> tuple[Sequence[int], list[str]]:
        """Indices and actions, all of them checked before anybody steps."""
        self._check_open()
        chosen: Sequence[int]
        if isinstance(actions, Mapping):
            chosen, texts = self._indices(actions), list(actions.values())
        elif isinstance(actions, str):
            raise TypeError("actions is one str: give a list of them, or {index: action}.")
        else:
            chosen, texts = range(self.num_envs), list(actions)
            if len(texts) != self.num_envs:
                raise ValueError(f"{len(texts)} actions for {self.num_envs} environments; for some, {{index: action}}.")
            if self._flying:
                self._indices(chosen)
        members = self._members
        for i, action in zip(chosen, texts, strict=True):
            if not isinstance(action, str):
                raise TypeError(f"The action of sub-environment {i} is not a str but {type(action).__name__}.")
            if members[i].over and (not self._autoreset or members[i].observation is None):
                waiting = ", ".join(str(k) for k in chosen if members[k].over)
                raise ResetNeeded(
                    f"No episode is running in sub-environment {waiting}: reset(indices=[{waiting}]) before step()."
                )
        return chosen, texts

    def _seeds(self, seed: int | Sequence[int | None] | None, chosen: list[int]) -> list[int | None]:
        size = self.group_size
        if seed is None and size == 1:
            return [None] * len(chosen)
        if seed is None:
            of_group = {group: int(self.np_random.integers(2**31)) for group in sorted({i // size for i in chosen})}
            return [of_group[i // size] for i in chosen]
        if isinstance(seed, Sequence | np.ndarray):
            if len(seed) != len(chosen):
                raise ValueError(f"seed has {len(seed)} entries for {len(chosen)} environments.")
            return [None if s is None else operator.index(s) for s in seed]
        first = operator.index(seed)
        super().reset(seed=first)
        return [first + i // size for i in chosen]

    def _each_options(self, options: Options | None, chosen: list[int]) -> list[dict[str, Any] | None]:
        if options is None or isinstance(options, Mapping):
            return [None if options is None else dict(options) for _ in chosen]
        if len(options) != len(chosen):
            raise ValueError(f"options has {len(options)} entries for {len(chosen)} environments.")
        return list(options)

    def _merge(self, infos: list[dict[str, Any]], chosen: Sequence[int]) -> Any:
        return infos if self.infos == "list" else to_gymnasium_infos(infos, chosen, self.num_envs)

    def _batch(self, chosen: Sequence[int], results: list[StepResult]) -> Batch:
        observations, rewards, terminated, truncated, infos = zip(*results, strict=True) if results else ((),) * 5
        return (
            observations,
            np.array(rewards, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
            self._merge(list(infos), chosen),
        )
