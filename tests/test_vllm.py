"""The vLLM engine, with the real vLLM: exact log-probabilities, seeds, and new weights in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models import save_tiny

from agents.config import build
from agents.engines.base import EngineSettings, Sampling
from agents.engines.hf import HFEngine
from agents.engines.vllm import VLLMEngine, merged_weights
from agents.engines.vllm_setup import problem
from agents.losses.fused import token_stats
from agents.training.trainer import load_engine

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(problem() is not None, reason=str(problem()))]

PROMPTS = [[1, 40, 41, 42, 43], [1, 40, 41, 50], [1, 40, 41, 42, 43], [1, 40, 41, 60, 61, 62, 63]]
LONG = [[1] + [40 + i % 60 for i in range(300)]]
"""Nine blocks of the prefix cache, and more."""
SMALL = {"kind": "vllm", "cpu_cache_gib": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny(tmp_path_factory.mktemp("tiny"), head_dim=32)  # vLLM has no CPU kernel for heads of 8


@pytest.fixture(scope="module")
def loaded(folder: Path):
    engine = VLLMEngine.load(str(folder), EngineSettings(**SMALL))
    yield engine
    engine.close()


@pytest.fixture
def learner(folder: Path) -> HFEngine:
    return HFEngine.load(str(folder))


@pytest.fixture
def sampler(loaded: VLLMEngine, learner: HFEngine) -> VLLMEngine:
    """The engine with the learner's weights and settings, whatever the test before did."""
    loaded.source, loaded.stop_ids, loaded.context_length = None, {2}, 512
    loaded.sync(merged_weights(learner.model), 0)
    return loaded


def scores(learner: HFEngine, prompts: list[list[int]], done: list[Any], temperature: float) -> torch.Tensor:
    """The learner's log-probabilities of what was sampled."""
    items = [(p, c.ids) for p, c in zip(prompts, done, strict=True)]
    targets = torch.tensor([t for _, ids in items for t in ids])
    return token_stats(learner.read(items), learner.head(), targets, temperature=temperature)[0]


def gap(learner: HFEngine, prompts: list[list[int]], done: list[Any], temperature: float = 1.0) -> float:
    said = torch.tensor([x for c in done for x in c.logprobs])
    return float((scores(learner, prompts, done, temperature) - said).abs().max())


def perturb(model: torch.nn.Module, scale: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


# Sampling.


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.3])
def test_logprobs_are_those_of_the_learner_at_the_temperature(sampler, learner, temperature):
    sampler.stop_ids = {2, *range(100, 120)}  # random weights would hardly ever stop
    done = sampler.generate(PROMPTS * 4, Sampling(max_tokens=12, temperature=temperature), seed=3)
    assert gap(learner, PROMPTS * 4, done, temperature) < 2e-5
    assert {c.finish_reason for c in done} == {"stop", "length"}
    for c in done:
        assert (c.ids[-1] in sampler.stop_ids) == (c.finish_reason == "stop")
        assert not sampler.stop_ids & set(c.ids[:-1]), "the stop token is included, and nothing after it"
        assert len(c.ids) == len(c.logprobs)


def test_greedy_equals_transformers_and_its_logprobs_are_at_temperature_one(sampler, learner):
    done = sampler.generate(PROMPTS, Sampling(max_tokens=12, temperature=0), seed=0)
    theirs = learner.generate(PROMPTS, Sampling(max_tokens=12, temperature=0), seed=0)
    assert [c.ids for c in done] == [c.ids for c in theirs]
    assert gap(learner, PROMPTS, done, 1.0) < 2e-5
    assert done[0] == done[2]


def test_equal_arguments_give_equal_samples_seeds_matter_and_attempts_differ(sampler):
    sampling = Sampling(max_tokens=10)
    first = sampler.generate(PROMPTS * 2 + LONG, sampling, seed=1)
    assert first == sampler.generate(PROMPTS * 2 + LONG, sampling, seed=1), "to the last bit, with a warm cache too"
    assert first != sampler.generate(PROMPTS * 2 + LONG, sampling, seed=2)
    attempts = [tuple(first[i].ids) for i in (0, 2, 4, 6)]  # of one prompt
    assert len(set(attempts)) == 4


def test_samples_follow_the_distribution(sampler, learner):
    ids = [c.ids[0] for c in sampler.generate([PROMPTS[0]] * 2000, Sampling(max_tokens=1), seed=0)]
    probabilities = learner.model(torch.tensor([PROMPTS[0]])).logits[0, -1].detach().softmax(-1)
    token = int(probabilities.argmax())
    p = float(probabilities[token])
    assert abs(ids.count(token) / 2000 - p) < 4 * (p * (1 - p) / 2000) ** 0.5


def test_top_p_keeps_to_the_nucleus(sampler, learner):
    done = sampler.generate([PROMPTS[0]] * 50, Sampling(max_tokens=1, top_p=1e-6), seed=0)
    assert {c.ids[0] for c in done} == {int(learner.model(torch.tensor([PROMPTS[0]])).logits[0, -1].argmax())}


def test_a_prompt_without_room_gives_nothing_and_no_answer_passes_the_context(sampler, learner):
    full, almost = list(range(5, 205)) * 3, (list(range(5, 205)) * 3)[:509]
    done = sampler.generate([full, almost, PROMPTS[0]], Sampling(max_tokens=50), seed=0)
    theirs = learner.generate([full, almost, PROMPTS[0]], Sampling(max_tokens=50), seed=0)
    assert done[0] == theirs[0]
    assert [len(c.ids) for c in done] == [len(c.ids) for c in theirs] == [0, 3, 50]
    assert sampler.generate([full], Sampling(), seed=0)[0].ids == []
    assert sampler.generate([], Sampling(), seed=0) == []


def test_a_conversation_keeps_its_prefix_and_says_the_same(sampler, learner):
    generate = sampler.conversation()
    (first,) = generate(LONG, Sampling(max_tokens=4), 5)
    longer = [[*LONG[0], *first.ids, 50, 51]]
    cached = sampler.llm.generate([{"prompt_token_ids": longer[0]}], sampler._settings(tuple(longer[0]), 1, Sampling(
        max_tokens=4), "x"), use_tqdm=False)[0].num_cached_tokens  # fmt: skip
    assert cached == 288
    assert gap(learner, longer, generate(longer, Sampling(max_tokens=4), 6)) < 2e-5


# New weights.


def test_new_weights_are_sampled_from_at_once(sampler, learner):
    before = sampler.generate(LONG * 2, Sampling(max_tokens=12), seed=0)
    perturb(learner.model)
    assert gap(learner, LONG * 2, before) > 0.5, "the test would see old weights"
    sampler.sync(merged_weights(learner.model), 7)
    after = sampler.generate(LONG * 2, Sampling(max_tokens=12), seed=0)
    assert gap(learner, LONG * 2, after) < 5e-5
    assert sampler.version == 7


def test_a_conversation_takes_new_weights_and_forgets_the_keys_of_old_ones(sampler, learner, monkeypatch):
    version = [0]
    sampler.follow(learner.model, lambda: version[0])
    generate = sampler.conversation()
    generate(LONG, Sampling(max_tokens=4), 0)
    perturb(learner.model)
    version[0] = 1
    assert gap(learner, LONG, generate(LONG, Sampling(max_tokens=12), 0)) < 5e-5
    perturb(learner.model)
    version[0] = 2
    monkeypatch.setattr(sampler, "forget", lambda: None)
    assert gap(learner, LONG, generate(LONG, Sampling(max_tokens=12), 0)) > 0.1, "stale keys would be seen"


def test_weights_travel_only_when_they_moved(sampler, learner, monkeypatch):
    version, sent = [0], []
    sync = sampler.sync
    monkeypatch.setattr(sampler, "sync", lambda weights, v: (sent.append(v), sync(weights, v)))
    sampler.follow(learner.model, lambda: version[0])
    for version[0] in (0, 0, 1, 1, 3):
        sampler.generate(PROMPTS, Sampling(max_tokens=1), seed=0)
    assert sent == [1, 3]


def test_adapters_are_merged_into_what_is_handed_over(sampler, folder):
    config = build({"recipe": "grpo", "model": {"name": str(folder), "lora_rank": 4}})
    learner = load_engine(config, train=True)
    perturb(learner.model.base_model, 0.02)  # the adapters' second half starts at zero
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    sampler.follow(learner.model, lambda: 1)
    done = sampler.generate(PROMPTS, Sampling(max_tokens=12, temperature=0.7), seed=0)
    assert gap(learner, PROMPTS, done, 0.7) < 1e-4
    plain = HFEngine.load(str(folder))
    assert gap(plain, PROMPTS, done, 0.7) > 0.05, "without the adapters it would be another model"
    after = learner.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    handed = dict(merged_weights(learner.model))
    merged = learner.model.merge_and_unload().state_dict()
    assert handed.keys() == merged.keys()
    assert all(torch.allclose(handed[name], merged[name], atol=1e-6) for name in merged)
