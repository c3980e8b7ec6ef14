"""Prefix trees: every sequence keeps its own tokens, positions and view, and the model's numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import tiny_model, tiny_tokenizer

from agents.engines.hf import HFEngine
from agents.engines.tree import pack

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


@given(SEQUENCES, st.integers(1, 40))
def test_paths_spell_their_sequences_and_see_exactly_their_own_past(sequences, budget):
    seen = []
    for part in pack(sequences, budget):
        for path, i in zip(part.paths, part.order, strict=True):
            seen.append(i)
            assert part.ids[path].tolist() == sequences[i]
            assert part.positions[path].tolist() == list(range(len(sequences[i])))
            for depth, node in enumerate(path.tolist()):
                assert sorted(part.visible[node].nonzero()[:, 0].tolist()) == sorted(path[: depth + 1].tolist())
        longest = max(len(sequences[i]) for i in part.order)
        assert len(part.ids) <= max(budget, longest)
    assert sorted(seen) == list(range(len(sequences)))


@given(SEQUENCES)
def test_a_shared_prefix_is_stored_once(sequences):
    (part,) = pack(sequences, 10_000)
    assert len(part.ids) == len({tuple(s[: k + 1]) for s in sequences for k in range(len(s))})


def test_the_worked_example_of_the_docstring():
    (part,) = pack([[0, 1, 2, 9], [0, 1, 2, 8], [0, 1, 7]], 100)
    by_sequence = {i: path.tolist() for path, i in zip(part.paths, part.order, strict=True)}
    assert len(part.ids) == 6
    assert by_sequence[0][:3] == by_sequence[1][:3]
    assert part.positions[by_sequence[2][2]] == 2


def _logprobs(engine, items):
    out = {}
    with torch.no_grad():
        for part in engine.packs(items):
            hidden, order = engine.hidden(part, items)
            rows = iter(engine.head().logits(hidden).log_softmax(-1))
            for i in order:
                out[i] = torch.stack([next(rows)[token] for token in items[i][1]])
    return torch.cat([out[i] for i in range(len(items))])


def _families():
    from transformers import (
        GemmaConfig,
        GemmaForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    small = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, eos_token_id=2)
    vocab = len(tiny_tokenizer())
    yield "llama", lambda: tiny_model(vocab)
    yield (
        "qwen3",
        lambda: Qwen3ForCausalLM(
            Qwen3Config(vocab_size=vocab, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False, **small)
        ),
    )
    yield (
        "gemma",
        lambda: GemmaForCausalLM(GemmaConfig(vocab_size=vocab, num_key_value_heads=1, head_dim=8, **small)),
    )
    yield (
        "gpt2",
        lambda: GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=512,
                eos_token_id=2,
                bos_token_id=None,
            )
        ),
    )


@pytest.mark.parametrize(
    ("name", "build"), list(_families()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_tree_and_padded_rows_and_single_sequences_agree(name, build):
    torch.manual_seed(1)
    engine = HFEngine(build(), tiny_tokenizer(), budget=60)
    generator = torch.Generator().manual_seed(0)
    head = torch.randint(3, 300, (20,), generator=generator).tolist()
    items = [
        (head + torch.randint(3, 300, (3,), generator=generator).tolist(), [10 + k % 2, 20, 30 + k]) for k in range(6)
    ]
    items += [(items[0][0], [11, 20, 30]), items[0]]
    tree = _logprobs(engine, items)
    engine.layout = "padded"
    padded = _logprobs(engine, items)
    alone = torch.cat([_logprobs(engine, [item]) for item in items])
    assert torch.allclose(tree, padded, atol=2e-5)
    assert torch.allclose(tree, alone, atol=2e-5)


@settings(deadline=None, max_examples=15)
@given(st.integers(5, 200))
def test_scores_do_not_depend_on_the_budget(budget):
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    engine = HFEngine(tiny_model(len(tokenizer)), tokenizer)
    items = [([5, 6, 7, 8 + k // 3], [20 + k, 21, 22]) for k in range(9)]
    whole = _logprobs(engine, items)
    engine.budget = budget
    assert torch.allclose(_logprobs(engine, items), whole, atol=1e-5)
