"""The run directory's logs survive a kill, and trackers copy them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from agents.report.metrics import MetricsWriter, read_jsonl, truncate_to_step
from agents.report.trackers import TRACKERS, make_trackers


class Scalar:
    """As NumPy and torch have them: a number behind ``item()``."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


def steps(path: Path) -> list[int]:
    return [row["step"] for row in read_jsonl(path)]


def test_a_row_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "runs" / "new")
    writer.log(0, "train", {"reward": 0.25})
    assert read_jsonl(tmp_path / "runs/new/metrics.jsonl") == [{"step": 0, "kind": "train", "reward": 0.25}]
    writer.log_trajectories([{"step": 0, "attempt": 0}, {"step": 0, "attempt": 1}])
    assert len(read_jsonl(tmp_path / "runs/new/trajectories.jsonl")) == 2
    writer.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Scalar(math.nan), [math.nan], {"in": math.inf}])
def test_what_is_not_a_number_is_null_in_strict_json(tmp_path: Path, value: object) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.log(0, "train", {"loss": value, "lr": Scalar(2e-5)})
    line = (tmp_path / "metrics.jsonl").read_text()

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    row = json.loads(line, parse_constant=refuse)
    assert "null" in json.dumps(row["loss"])
    assert row["lr"] == 2e-5


def test_a_value_that_json_cannot_hold_is_refused_and_leaves_the_file_whole(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.log(0, "train", {"reward": 1})
        with pytest.raises(TypeError, match="object"):
            writer.log(1, "train", {"reward": object()})
        with pytest.raises(TypeError):
            writer.log_trajectories([{"step": 1}, {"step": 1, "odd": {1, 2}}])
    assert steps(tmp_path / "metrics.jsonl") == [0]
    assert steps(tmp_path / "trajectories.jsonl") == []


def test_nan_written_by_another_program_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"step": 0, "loss": NaN}\n')
    assert read_jsonl(tmp_path / "a.jsonl") == [{"step": 0, "loss": None}]


def test_any_text_survives_the_round_trip(tmp_path: Path) -> None:
    texts = ["one\u2028two", "torn \ud83d", "line\nline\r", "\u0000", "👩‍👩‍👧", '"}\n{"step": 9}']
    with MetricsWriter(tmp_path) as writer:
        writer.log_trajectories({"step": 0, "text": text} for text in texts)
    assert [row["text"] for row in read_jsonl(tmp_path / "trajectories.jsonl")] == texts


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_torn_last_line_is_ignored_and_does_not_spoil_the_next_row(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(tmp_path) as writer:
        writer.log(0, "train", {"reward": 0.5})
        writer.log(1, "train", {"reward": "🧪 " * 3})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    expected = [0, 1] if cut == 1 else [0]  # without its newline alone the row is still there
    assert steps(path) == expected
    with MetricsWriter(tmp_path) as writer:
        writer.log(2, "train", {})
    assert steps(path) == [*expected, 2]


def test_a_torn_line_longer_than_a_read_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "text": "' + "x" * 200_000)
    MetricsWriter(tmp_path).close()
    assert path.read_text() == '{"step": 0}\n'


def test_damage_in_the_middle_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": \n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read_jsonl(path)
    path.write_text('{"step": 0}\n[1, 2]\n')
    with pytest.raises(ValueError, match="expected a JSON object, found list"):
        read_jsonl(path)


def test_an_absent_log_has_no_rows(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "metrics.jsonl") == []
    assert truncate_to_step(tmp_path / "metrics.jsonl", 3) == 0
    assert list(tmp_path.iterdir()) == []


def test_resuming_takes_back_what_will_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(tmp_path) as writer:
        for step in range(6):
            writer.log(step, "eval", {"mean": 0.1 * step})
            writer.log(step, "train", {"reward": 0.1 * step})
    path.write_bytes(path.read_bytes() + b'{"step": 6, "kind": "tr')
    assert truncate_to_step(path, 4, keep_kinds=("eval",)) == 3
    assert [(row["step"], row["kind"]) for row in read_jsonl(path)][-3:] == [
        (3, "eval"),
        (3, "train"),
        (4, "eval"),
    ]
    assert truncate_to_step(path, 4) == 1
    kept = path.read_bytes()
    assert truncate_to_step(path, 4) == 0
    assert path.read_bytes() == kept
    assert kept.endswith(b"\n")
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".partial")] == []


def test_a_row_that_lost_only_its_newline_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}')
    truncate_to_step(path, 5)
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'


def test_an_unknown_tracker_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'mlflow'; choose from tensorboard, trackio, wandb"):
        make_trackers(["tensorboard", "mlflow"])
    assert make_trackers([]) == []


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch"), ("trackio", "trackio"), ("wandb", "wandb")])
def test_a_missing_package_is_named_with_its_setting(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else module, None)
    with pytest.raises(ImportError, match=rf"^trackers: '{name}' needs the package {name} \(pip install {name}\)"):
        make_trackers([name])


def test_no_tracker_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, agents.report.trackers; assert not {'torch', 'tensorboard', 'trackio', 'wandb'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_tensorboard_holds_the_numbers_and_the_configuration(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (tracker,) = make_trackers(["tensorboard"])
    tracker.start(tmp_path, {"recipe": "sdpo", "optimizer": {"lr": 2e-5}})
    for step in range(3):
        tracker.log(step, {"train/reward": 0.25 * step})
    tracker.finish()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/reward")] == [(0, 0.0), (1, 0.25), (2, 0.5)]
    (text,) = events.Tensors("config/text_summary")
    assert b"| optimizer.lr | `2e-05` |" in text.tensor_proto.string_val[0]


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_finishing_a_tracker_that_never_started_is_harmless(name: str) -> None:
    pytest.importorskip(name)
    (tracker,) = make_trackers([name])
    assert tracker.finish() is None
