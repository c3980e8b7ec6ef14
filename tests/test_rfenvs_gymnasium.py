"""Gymnasium's own checks and the traps of its vector environments, for every id."""

import functools
import itertools
import pickle
import subprocess
import sys
import time
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import rfenvs
from rfenvs import Action
from rfenvs.registry import TABLE, register

KWARGS = {
    "rfenvs/ALFWorld-v0": [
        {"difficulty": "easy"},
        {"difficulty": "hard", "leak_level": 3, "admissible": True, "expert": True, "feedback": "policy"},
    ],
    "rfenvs/ReasoningGym-v0": [{"task": "countdown"}],
    "rfenvs/BFCL-MultiTurn-v0": [{"data": "sample"}],
    "rfenvs/EquationBalance-v0": [{}, {"data": "sample", "lowest_terms": True}],
    "rfenvs/BFCL-v0": [{"data": "sample", "category": name} for name in ("simple_python", "parallel", "irrelevance")],
    "rfenvs/ToolAlpaca-v0": [{"data": "sample"}],
    "rfenvs/HumanEval-v0": [{"data": "sample"}],
    "rfenvs/Judge-v0": [
        {"data": "sample"},
        {"data": "sample", "leak_level": 3, "mode": "failed_only"},
        {"data": "sample", "leak_level": 3, "mode": "rubric_only"},
    ],
    "rfenvs/Math-v0": [{"data": "sample", "answer": answer} for answer in ("box", "any")],
    "rfenvs/LiveCodeBench-v6": [{"data": "sample", "profile": profile} for profile in ("lcb", "sdpo")],
    "rfenvs/Tau2Solo-v0": [{"data": "sample", "domain": domain} for domain in ("telecom", "mock")],
    "rfenvs/SciKnow-v0": [{"data": "sample"}],
    "rfenvs/ScienceWorld-v0": [{"data": "sample"}],
    "rfenvs/ToolCall-v0": [
        {"level": level, "feedback": feedback} for level in (1, 2, 3, 4) for feedback in ("hint", "expected")
    ],
}
CASES = [
    (id, split, kwargs)
    for id in rfenvs.list_ids()
    for split, kwargs in itertools.product(rfenvs.splits(id), KWARGS.get(id, [{}]))
]
TOOL = "rfenvs/ToolCall-v0"


@pytest.mark.parametrize(("id", "split", "kwargs"), CASES)
@pytest.mark.parametrize("max_turns", [1, 3])
def test_check_env_passes_without_a_warning(id: str, split: str, kwargs: dict, max_turns: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(id, split=split, max_turns=max_turns, **kwargs)
        check_env(env.unwrapped)


@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_specs_pickle_and_write_json(id: str) -> None:
    last = rfenvs.splits(id)[-1]
    spec = gymnasium.make(id, split=last).spec
    assert spec is not None
    assert pickle.loads(pickle.dumps(spec)) == spec
    env = gymnasium.envs.registration.EnvSpec.from_json(spec.to_json()).make()
    assert env.unwrapped.split == last


def test_registering_again_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    assert rfenvs.list_ids() == [row.id for row in TABLE]
    gymnasium.register_envs(rfenvs)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_module_form_needs_no_import() -> None:
    code = "import gymnasium; print(gymnasium.make('rfenvs:rfenvs/ToolCall-v0').reset(seed=1)[1]['task'])"
    assert "rfenvs/ToolCall-v0" in run(code)


def test_import_is_light() -> None:
    heavy = "torch", "transformers", "datasets", "pydantic", "agents"
    code = f"import gymnasium, rfenvs, sys; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).strip() == "[]"
    timed = "import gymnasium, time; t = time.perf_counter(); import rfenvs; print(time.perf_counter() - t)"
    fastest = min(float(run(timed)) for _ in range(3))
    assert fastest < 0.15, "the aim is 50 ms on a quiet machine"


def test_making_is_quick() -> None:
    gymnasium.make(TOOL)
    start = time.process_time()
    for _ in range(10):
        gymnasium.make(TOOL, level=4)
    assert (time.process_time() - start) / 10 < 0.02


def makers(n: int, **kwargs: object) -> list:
    return [functools.partial(gymnasium.make, "rfenvs:" + TOOL, **kwargs) for _ in range(n)]


def test_async_vector_env_refuses_shared_memory() -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        AsyncVectorEnv(makers(2))


@pytest.mark.parametrize(
    "make_vec",
    [
        pytest.param(SyncVectorEnv, id="sync"),
        pytest.param(functools.partial(AsyncVectorEnv, shared_memory=False), id="async"),
    ],
)
def test_vector_envs_carry_text_actions_and_feedback(make_vec: object) -> None:
    env = make_vec(makers(2, max_turns=2), autoreset_mode=AutoresetMode.DISABLED)  # type: ignore[operator]
    try:
        observations, infos = env.reset(options={"task_index": 3})
        single, _ = gymnasium.make(TOOL).reset(options={"task_index": 3})
        assert tuple(observations) == (single, single)
        assert [list(f) for f in infos["feedback"]] == [[], []]
        answer = rfenvs.get_task(TOOL, "train", 3).reference
        for actions in ((Action(answer, [1], [-0.1], "stop"), "junk é"), np.array([answer, "junk é"])):
            env.reset(options={"task_index": 3})
            observations, rewards, terminated, truncated, infos = env.step(actions)
            assert rewards.tolist() == [1.0, 0.0]
            assert terminated.tolist() == [True, False]
            assert truncated.tolist() == [False, False]
            assert observations[1].startswith("SyntaxError")
            assert infos["feedback"][0] == []
            assert infos["feedback"][1][0]["kind"] == "format_error"
            assert infos["scored"].tolist() == [True, True]
            assert infos["task"]["index"].tolist() == [3, 3]
            assert infos["metrics"]["correct_calls"].tolist() == [1.0, 0.0]
    finally:
        env.close()


def test_equal_seeds_make_a_group() -> None:
    env = SyncVectorEnv(makers(4))
    _, infos = env.reset(seed=[5, 5, 5, 5])
    assert len(set(infos["task"]["index"].tolist())) == 1


def test_record_episode_statistics_works() -> None:
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(TOOL))
    env.reset(seed=0)
    *_, info = env.step("x")
    assert info["episode"]["l"] == 1


def test_text_beyond_ascii_passes_the_checker() -> None:
    env = gymnasium.make(TOOL, max_turns=3)
    env.reset(seed=0)
    observation, *_ = env.step('wéather✓(city="Köln 🙂")')
    assert "found" in observation
