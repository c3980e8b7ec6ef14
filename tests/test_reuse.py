"""Keys and values that are kept from turn to turn: never those of other weights, never more work than without."""

from __future__ import annotations

import pytest
import torch
from models import tiny_model, tiny_tokenizer

from agents.batch import Batch, Sample
from agents.engines import reuse
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.engines.reuse import Memory
from agents.losses.terms import Likelihood
from agents.teachers.teacher import Teacher, TeacherSettings
from agents.training.learner import Learner, OptimSettings

SAMPLING = Sampling(max_tokens=6)


@pytest.fixture
def engine() -> HFEngine:
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer()
    return HFEngine(tiny_model(len(tokenizer), max_position_embeddings=4096), tokenizer)


def following(prompts, done, n=5):
    return [[*p, *c.ids, *range(60, 60 + n)] for p, c in zip(prompts, done, strict=True)]


def logprobs(done):
    return [x for c in done for x in c.logprobs]


def test_a_conversation_forgets_what_other_weights_made(engine):
    engine.reuse = 1 << 20
    generate = engine.conversation()
    teacher = Teacher(engine, TeacherSettings(kind="frozen"))
    for parameter in teacher.shadow.values():
        parameter.mul_(1.1)
    prompts = [[1, *range(40, 60)], [1, *range(41, 70)]]
    done = generate(prompts, SAMPLING, 0)

    prompts = following(prompts, done)
    with teacher.weights():
        assert logprobs(generate(prompts, SAMPLING, 1)) == logprobs(engine.generate(prompts, SAMPLING, 1))
    done = generate(prompts, SAMPLING, 2)
    assert logprobs(done) == logprobs(engine.generate(prompts, SAMPLING, 2))

    batch = Batch([Sample(prompts[0], done[0].ids, None, [], "", 1.0, [], 0, 0, 0)])
    before = next(engine.model.parameters()).detach().clone()
    Learner(engine, OptimSettings(lr=0.1), 1.0).step(batch, [Likelihood(torch.ones(len(batch.targets)))])
    assert not torch.equal(before, next(engine.model.parameters()))
    prompts = following(prompts, done)
    assert logprobs(generate(prompts, SAMPLING, 3)) == logprobs(engine.generate(prompts, SAMPLING, 3))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_memory_that_is_too_small_costs_no_more_than_none(engine, share):
    """Tokens that are forwarded for prompts, padding included."""

    def forwarded(memory):
        count = 0

        def note(module, args, kwargs):
            nonlocal count
            if kwargs["input_ids"].shape[1] > 1:
                count += kwargs["input_ids"].numel()

        handle = engine.model.register_forward_pre_hook(note, with_kwargs=True)
        prompts = [[1, *range(40, 120), 200 + k, *range(30)] for k in range(6)]
        said = []
        for turn in range(5):
            done = engine.generate(prompts, SAMPLING, turn, memory)
            said.append([c.ids for c in done])
            prompts = following(prompts, done, 20)
        handle.remove()
        return count, said

    again, said = forwarded(None)
    total = 6 * (111 + 5 * 25)
    count, reused = forwarded(Memory(int(share * total)))
    assert reused == said
    assert count <= again
    if share == 1.0:
        assert count < 0.4 * again


def test_without_a_number_a_gigabyte_is_the_limit(engine, monkeypatch):
    assert reuse.DEFAULT_BYTES == 1 << 30
    layers = engine.model.config.num_hidden_layers
    token = 2 * layers * 2 * 8 * 4  # keys and values, layers, heads, size, float32
    monkeypatch.setattr(reuse, "DEFAULT_BYTES", 100 * token)
    memory = Memory()
    engine.generate([[1, *range(40, 70)] for _ in range(8)], SAMPLING, 0, memory)
    assert memory.limit == 100
    assert 0 < memory.tokens <= 100


def test_a_row_that_exceeds_the_memory_drives_no_other_out(engine):
    memory = Memory(40)
    engine.generate([[1, *range(40, 60)]], SAMPLING, 0, memory)
    kept = memory.tokens
    engine.generate([[1, *range(100, 180)]], SAMPLING, 0, memory)
    assert memory.tokens == kept > 0
