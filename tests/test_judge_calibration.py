"""Judging the judge: golden numbers, and what cannot be measured."""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path

import judge_server as model
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfenvs.envs.judge_calibration import auroc, calibrate, main, read_labelled, scores
from rfenvs.graders.judges import FaultyJudge, KeywordJudge
from rfenvs.graders.rubric import read_rubric
from rfenvs.rows import DataError
from rfenvs.servers import Usage

BIGGEN = (
    Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
    / "judge/biggen_sample_evals_120.json"
)
RUBRIC = [{"name": "cat", "text": "It speaks of cats.", "rule": {"all": ["cat"]}}]
ROWS = [
    {"prompt": "Pets?", "rubric": RUBRIC, "response": response, "label": label}
    for response, label in [("A cat.", "yes"), ("Catkins.", 0), ("A dog.", 0.0), ("A kitten.", 1)]
]


def write(tmp_path, rows) -> Path:
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


VALUES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12)


@given(VALUES)
def test_auroc_is_the_chance_that_a_good_response_is_ahead(pairs):
    values, good = [value / 4 for value, _ in pairs], [label for _, label in pairs]
    ahead = [
        (a > b) + (a == b) / 2 for (a, x), (b, y) in product(zip(values, good, strict=True), repeat=2) if x and not y
    ]
    assert auroc(values, good) == (pytest.approx(sum(ahead) / len(ahead)) if ahead else None)


def test_golden_numbers():
    found = calibrate([1.0, 1.0, 0.0, 0.0, None], [1.0, 0.0, 0.0, 1.0, 1.0])
    assert (found.n, found.failed, found.agreement, found.kappa, found.auroc) == (4, 1, 0.5, 0.0, 0.5)
    assert (found.mean_error, found.mean_absolute_error) == (0.0, 0.5)
    found = calibrate(
        [1.0] * 20 + [1.0] * 5 + [0.0] * 10 + [0.0] * 15, [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    )
    assert (found.agreement, found.kappa) == (0.7, pytest.approx(0.4))


def test_what_labels_that_are_alike_cannot_tell_is_none():
    found = calibrate([1.0, 1.0], [1.0, 1.0])
    assert (found.agreement, found.kappa, found.auroc) == (1.0, None, None)
    assert calibrate([None], [1.0]).agreement is None


def test_a_judge_is_compared_with_labels_and_another_judge(tmp_path):
    rows = [{**row, "label": {"yes": 1}.get(row["label"], row["label"])} for row in ROWS]
    labelled = read_labelled(write(tmp_path, rows))
    found, usage = scores(KeywordJudge(read_rubric(RUBRIC).criteria), labelled)
    assert (found, usage) == ([1.0, 1.0, 0.0, 0.0], Usage(4))
    assert calibrate(found, [entry.label for entry in labelled]).agreement == 0.5
    stricter, _ = scores(KeywordJudge(read_rubric([{**RUBRIC[0], "rule": {"all": [r"\bcat\b"]}}]).criteria), labelled)
    drift = calibrate(stricter, found)
    assert (drift.mean_error, drift.agreement) == (-0.25, 0.75)


def test_failures_are_counted_and_paid_for_and_enter_nothing(tmp_path):
    rows = [{**row, "label": 1} for row in ROWS]
    client = FaultyJudge(KeywordJudge(read_rubric(RUBRIC).criteria), ["refusal", "ok"])
    found, usage = scores(client, read_labelled(write(tmp_path, rows)))
    assert found == [None, 1.0, None, 0.0]
    assert usage.calls == 4


def test_rows_without_a_label_are_named(tmp_path):
    with pytest.raises(DataError, match=r'row 1: .*"label"'):
        read_labelled(write(tmp_path, [{"prompt": "?", "rubric": RUBRIC, "response": "x"}]))
    with pytest.raises(DataError, match="label 7"):
        read_labelled(write(tmp_path, [{**ROWS[1], "label": 7}]))


def test_the_command(tmp_path, capsys):
    path = write(tmp_path, ROWS[1:3])
    with model.serve() as server:
        assert main([str(path), "--base-url", server.url, "--model", "m"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["n"], printed["mean_error"], printed["usage"]["calls"]) == (2, 1.0, 2)


def test_biggen_bench_scores_are_placeholders_and_tell_nothing():
    if not BIGGEN.exists():
        pytest.skip("no BiGGen-Bench rows: set RFENVS_TEST_DATA")
    labelled = read_labelled(BIGGEN)
    assert len(labelled) == 120
    assert {(entry.response, entry.label) for entry in labelled} == {("dummy output", 1.0)}
    with model.serve() as server:
        from rfenvs.graders.judge_http import HTTPJudge

        server.default = model.says(model.worst)
        found, usage = scores(HTTPJudge(server.url, "m", key_env=None), labelled)
    result = calibrate(found, [entry.label for entry in labelled], usage=usage)
    assert (result.n, result.failed, result.mean_error, result.auroc, result.usage.calls) == (120, 0, -1.0, None, 120)
