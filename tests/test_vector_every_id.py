"""Every id gives the same from one environment, Gymnasium's two vector environments and ours, in both executors."""

import functools
import warnings

import gymnasium
import numpy as np
import pytest
from every_id import make, offline, some_actions
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import rfenvs

TURNS = 3
SEEDS = [7, 11, 7]


def singles(id: str) -> tuple[list[list[str]], list[list[tuple]]]:
    """Actions for three seeded episodes, and what the environment alone makes of them."""
    plans, played = [], []
    for number, seed in enumerate(SEEDS):
        env = make(id, max_turns=TURNS)
        result: tuple = env.reset(seed=seed)
        actions = some_actions(env, result[1]["task"]["index"], TURNS, seed=number)
        episode = [result]
        while len(episode) <= TURNS and not (len(episode) > 1 and (result[2] or result[3])):
            result = env.step(actions[len(episode) - 1])
            episode.append(result)
        plans.append(actions)
        played.append(episode)
        env.close()
    return plans, played


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_ours_equals_a_single_environment(id: str, executor: str) -> None:
    plans, played = singles(id)
    env = rfenvs.make_vec(id, len(SEEDS), executor=executor, max_turns=TURNS, **offline(id))
    observations, infos = env.reset(seed=SEEDS)
    assert [*zip(observations, infos, strict=True)] == [episode[0] for episode in played]
    for turn in range(1, TURNS + 1):
        acting = [i for i, episode in enumerate(played) if len(episode) > turn]
        rows = env.step({i: plans[i][turn - 1] for i in acting})
        assert [*zip(*rows, strict=True)] == [played[i][turn] for i in acting]
    env.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_gymnasiums_vector_environments_equal_ours(id: str, kind: str) -> None:
    plans, played = singles(id)
    make_one = functools.partial(gymnasium.make, "rfenvs:" + id, max_turns=TURNS, **offline(id))
    cls = SyncVectorEnv if kind == "sync" else functools.partial(AsyncVectorEnv, shared_memory=False)
    theirs = cls([make_one] * len(SEEDS), autoreset_mode=AutoresetMode.DISABLED)
    ours = rfenvs.make_vec(id, len(SEEDS), infos="gymnasium", max_turns=TURNS, **offline(id))
    try:
        assert_same(theirs.reset(seed=SEEDS), ours.reset(seed=SEEDS))
        for turn in range(1, min(map(len, played))):
            actions = [plan[turn - 1].encode("utf-8", "replace").decode() for plan in plans]
            assert_same(theirs.step(actions), ours.step(actions))
    finally:
        theirs.close()
        ours.close()


def assert_same(left: object, right: object) -> None:
    """Equal nests of tuples, dicts and arrays."""
    if isinstance(left, dict):
        assert isinstance(right, dict)
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, tuple):
        assert len(left) == len(right)  # type: ignore[arg-type]
        for a, b in zip(left, right, strict=True):  # type: ignore[call-overload]
            assert_same(a, b)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype  # type: ignore[attr-defined]
        assert left.tolist() == right.tolist()  # type: ignore[attr-defined]
    else:
        assert left == right


@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_gymnasium_make_vec_picks_ours(id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec(id, num_envs=2, infos="gymnasium", **offline(id))
    assert isinstance(env, rfenvs.TextVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    observations, infos = env.reset(seed=3)
    assert observations in env.observation_space
    assert infos["scored"].tolist() == [True, True]
    assert env.spec.id == id
    again = gymnasium.make_vec(env.spec)
    assert again.reset(seed=3)[0] == observations
    env.close()
    again.close()


@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_gymnasium_make_vec_async_refuses_shared_memory_and_works_without(id: str) -> None:
    make_vec = functools.partial(gymnasium.make_vec, id, num_envs=2, vectorization_mode="async", **offline(id))
    with pytest.raises(ValueError, match="shared_memory=False"):
        make_vec()
    env = make_vec(vector_kwargs={"shared_memory": False})
    observations, _ = env.reset(seed=[5, 5])
    env.close()
    alone, _ = make(id).reset(seed=5)
    assert observations == (alone, alone)
