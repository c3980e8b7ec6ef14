"""What holds for every registered environment: its answers are worth what they should be, and traces grade alike."""

from __future__ import annotations

import json
import random

import pytest
from test_rfenvs_gymnasium import CASES, KWARGS

import rfenvs
from agents.cli import main
from agents.traces import regrade

IDS = rfenvs.list_ids()


def settings(id: str) -> dict:
    return KWARGS.get(id, [{}])[0]


@pytest.mark.parametrize(("id", "split", "kwargs"), CASES)
def test_gold_wins_junk_does_not_and_nothing_leaks(id: str, split: str, kwargs: dict) -> None:
    report = rfenvs.validate(id, split, 3, **kwargs)
    assert report.ok, report


@pytest.mark.slow
@pytest.mark.parametrize(("id", "split", "kwargs"), CASES)
def test_gold_wins_junk_does_not_and_nothing_leaks_anywhere(id: str, split: str, kwargs: dict) -> None:
    report = rfenvs.validate(id, split, 60, **kwargs)
    assert report.ok, report


@pytest.mark.parametrize("id", IDS)
def test_gold_attempts_are_kept_and_grade_alike(id: str, tmp_path) -> None:
    kwargs = json.dumps(settings(id))
    arguments = ["eval", id, "--policy", "gold", "--split", "train", "--tasks", "4", "--kwargs", kwargs]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    again = list(regrade(tmp_path))
    assert again
    assert not [str(row) for row in again if row.changed]
    known_bad = [row.new["task"]["flags"] for row in again]
    assert all(row.new["reward"] >= 1 - 1e-9 for row, flags in zip(again, known_bad, strict=True) if not flags)


@pytest.mark.parametrize("id", IDS)
def test_equal_steps_give_equal_infos(id: str) -> None:
    """Two environments, the same task, the same text: the same words, numbers and order, junk included."""
    texts = random.Random(id)
    envs = [rfenvs.registry.make(id, rfenvs.splits(id)[-1], **settings(id)) for _ in range(2)]
    for _ in range(3):
        seed = texts.randrange(1000)
        seen = [env.reset(seed=seed) for env in envs]
        assert seen[0] == seen[1]
        task = envs[0].get_task(seen[0][1]["task"]["index"])
        for action in (*envs[0].wrong_answers(task)[:2], *envs[0].gold_actions(task)[:2]):
            if envs[0]._over:
                break
            first, second = (env.step(action) for env in envs)
            assert first == second
            assert 0.0 <= first[1] <= 1.0 or id == "rfenvs/ScienceWorld-v0"
    for env in envs:
        env.close()


@pytest.mark.parametrize("id", IDS)
def test_every_item_fits_the_schema(id: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(rfenvs.FEEDBACK_SCHEMA)
    env = rfenvs.registry.make(id, rfenvs.splits(id)[0], **settings(id))
    for index in range(min(3, env.num_tasks(env.split))):
        task = env.get_task(index)
        for answer in ("", "junk", *env.wrong_answers(task)[:3]):
            env.reset(options={"task_index": index})
            *_, info = env.step(answer)
            for entry in info["feedback"]:
                check.validate(entry)
                assert entry["data"].get("code"), f"{entry['text']!r} has no code"
                json.dumps(entry["data"])
    env.close()
