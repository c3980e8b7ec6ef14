"""The transformers engine: exact log-probabilities, shared prompts, determinism."""

from __future__ import annotations

import pytest
import torch
from models import tiny_tokenizer

from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.losses.fused import token_stats
from agents.models import resolve

PROMPTS = [[1, 40, 41, 42, 43], [1, 40, 41, 50], [1, 40, 41, 42, 43], [1, 40, 41, 60, 61, 62, 63]]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_are_those_of_scoring(engine, temperature):
    engine.stop_ids |= set(range(100, 140))  # random weights would hardly ever stop
    done = engine.generate(PROMPTS * 4, Sampling(max_tokens=12, temperature=temperature), seed=3)
    items = [(p, c.ids) for p, c in zip(PROMPTS * 4, done, strict=True)]
    for part in engine.packs(items):
        hidden, order = engine.hidden(part), part.order
        targets = torch.tensor([t for i in order for t in items[i][1]])
        scored, _ = token_stats(hidden, engine.head(), targets, temperature=temperature)
        sampled = torch.tensor([x for i in order for x in done[i].logprobs])
        assert torch.allclose(scored, sampled, atol=2e-5)
    assert {c.finish_reason for c in done} == {"stop", "length"}
    for c in done:
        assert (c.ids[-1] in engine.stop_ids) == (c.finish_reason == "stop")
        assert not engine.stop_ids & set(c.ids[:-1])


def test_equal_arguments_give_equal_samples_and_seeds_matter(engine):
    sampling = Sampling(max_tokens=10)
    first = engine.generate(PROMPTS, sampling, seed=1)
    assert first == engine.generate(PROMPTS, sampling, seed=1)
    assert first != engine.generate(PROMPTS, sampling, seed=2)


def test_greedy_equals_transformers_generate(engine):
    done = engine.generate(PROMPTS, Sampling(max_tokens=10, temperature=0), seed=0)
    for prompt, completion in zip(PROMPTS, done, strict=True):
        ids = torch.tensor([prompt])
        theirs = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        assert completion.ids == theirs[: len(completion.ids)]


def test_samples_follow_the_distribution(engine):
    sampling = Sampling(max_tokens=1)
    ids = [c.ids[0] for c in engine.generate([PROMPTS[0]] * 4000, sampling, seed=0)]
    logits = engine.model(torch.tensor([PROMPTS[0]])).logits[0, -1]
    probabilities = logits.softmax(-1)
    token = int(probabilities.argmax())
    p = float(probabilities[token])
    assert abs(ids.count(token) / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5


def test_top_p_keeps_to_the_nucleus(engine):
    nucleus = engine.generate([PROMPTS[0]] * 200, Sampling(max_tokens=1, top_p=1e-6), seed=0)
    assert len({c.ids[0] for c in nucleus}) == 1


def test_no_answer_passes_the_context_length(engine):
    engine.context_length = 8
    done = engine.generate([PROMPTS[3]], Sampling(max_tokens=50), seed=0)
    assert len(done[0].ids) <= 1


def test_a_head_that_is_not_linear_is_refused(engine):
    class Strange(type(engine.model)):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits**3
            return output

    strange = Strange(engine.model.config)
    with pytest.raises(SetupError, match="output head"):
        HFEngine(strange, tiny_tokenizer())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "neither a directory"),
        ("smollm", "neither a directory"),
        ("a/b/c", "neither a directory"),
    ],
)
def test_a_model_that_is_nothing_is_explained(name, message):
    with pytest.raises(SetupError, match=message):
        resolve(name)


def test_a_directory_without_a_model_is_explained(tmp_path):
    with pytest.raises(SetupError, match=r"config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SetupError, match="could not be loaded"):
        HFEngine.load(resolve(str(tmp_path)))


def test_a_growing_cache_holds_what_a_plain_one_does(engine):
    from transformers import DynamicCache

    from agents.engines.growing import GrowingLayer, give_room

    generator = torch.Generator().manual_seed(0)
    plain, growing = DynamicCache(), DynamicCache()

    def new(rows: int, tokens: int):
        return [torch.randn(rows, 2, tokens, 4, generator=generator) for _ in range(2)]

    first = new(3, 5)
    for cache in (plain, growing):
        cache.update(*first, 0)
    give_room(growing, 4)
    copies = 0
    for rows, chosen in ((6, [0, 0, 1, 1, 2, 2]), (4, [0, 2, 3, 5]), (4, None), (4, None), (1, [2]), (1, None)):
        for cache in (plain, growing):
            if chosen is not None:
                cache.batch_select_indices(torch.tensor(chosen))
        layer, tokens = growing.layers[0], new(rows, 2)
        before = layer.keys.data_ptr()
        for a, b in zip(plain.update(*tokens, 0), growing.update(*tokens, 0), strict=True):
            assert torch.equal(a, b)
        copies += layer.keys.data_ptr() != before
        assert growing.get_seq_length() == plain.get_seq_length()
    assert isinstance(growing.layers[0], GrowingLayer)
    assert copies == 2  # 17 tokens, with room for 4 more each time
