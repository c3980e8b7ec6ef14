"""Prefix trees: every sequence keeps its own tokens, positions and view, and the model's numbers."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import tiny_model, tiny_tokenizer

from agents.engines.hf import HFEngine
from agents.engines.limits import UNLIMITED
from agents.engines.tree import Sequences, Tree

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


def trees(sequences: list[list[int]], budget: int = UNLIMITED) -> list[Tree]:
    return list(Sequences(dict(enumerate(sequences))).trees(budget))


@given(SEQUENCES, st.integers(1, 40))
def test_nodes_spell_their_sequences_and_see_exactly_their_own_past(sequences, budget):
    found = []
    for tree in trees(sequences, budget):
        visible = tree.visible(0, len(tree), tree.ids[:0])
        if visible is None:
            visible = torch.ones(len(tree), len(tree)).tril().bool()
        for nodes, i in zip(tree.nodes, tree.order, strict=True):
            found.append(i)
            assert tree.ids[nodes].tolist() == sequences[i]
            assert tree.depths[nodes].tolist() == list(range(len(sequences[i])))
            for depth, node in enumerate(nodes.tolist()):
                assert visible[node].nonzero()[:, 0].tolist() == nodes[: depth + 1].tolist()
    assert sorted(found) == list(range(len(sequences)))


@given(SEQUENCES, st.integers(1, 10))
def test_a_run_of_nodes_sees_all_its_past_on_the_path_to_its_first(sequences, budget):
    (tree,) = trees(sequences)
    ancestors = {}
    for nodes in tree.nodes:
        for depth, node in enumerate(nodes.tolist()):
            ancestors[node] = nodes[: depth + 1].tolist()
    past = tree.ids[:0]
    for start in range(0, len(tree), budget):
        stop = min(start + budget, len(tree))
        keys = torch.cat([past, torch.arange(start, stop)])
        visible = tree.visible(start, stop, past)
        if visible is None:
            assert not len(past)
            visible = torch.ones(len(keys), len(keys)).tril().bool()
        for row, node in enumerate(range(start, stop)):
            assert keys[visible[row]].tolist() == ancestors[node]
        past = keys[tree.on_path(keys, stop)]


@given(SEQUENCES)
def test_a_shared_prefix_is_stored_once(sequences):
    (tree,) = trees(sequences)
    assert len(tree) == len({tuple(s[: k + 1]) for s in sequences for k in range(len(s))})


@given(SEQUENCES, st.integers(1, 40))
def test_a_tree_above_the_budget_is_one_path_and_sequences_that_continue_each_other_stay_together(sequences, budget):
    for tree in trees(sequences, budget):
        assert len(tree) <= budget or tree.visible(0, len(tree), tree.ids[:0]) is None
    turns = [[7] * k for k in range(1, 60)]
    (episode,) = [tree for tree in trees([*sequences, *turns], budget) if 7 in tree.ids]
    assert int((episode.ids == 7).sum()) == 59


@given(SEQUENCES, st.integers(1, 40))
def test_rows_hold_every_sequence_and_those_that_continue_each_other_once(sequences, budget):
    found = []
    for rows in Sequences(dict(enumerate(sequences))).rows(budget):
        assert rows.ids.numel() <= max(budget, rows.ids.shape[1])
        for nodes, i in zip(rows.nodes, rows.order, strict=True):
            found.append(i)
            assert rows.ids.flatten()[nodes].tolist() == sequences[i]
            assert rows.mask.flatten()[nodes].all()
    assert sorted(found) == list(range(len(sequences)))
    (rows,) = Sequences(dict(enumerate([[7] * k for k in range(1, 60)]))).rows(budget)
    assert rows.ids.shape == (1, 59)


def test_the_worked_example_of_the_docstring():
    (tree,) = trees([[0, 1, 2, 8], [0, 1, 2, 9], [0, 1, 7]])
    assert tree.ids.tolist() == [0, 1, 2, 8, 9, 7]
    assert tree.depths.tolist() == [0, 1, 2, 3, 3, 2]
    assert tree.ends.tolist() == [6, 6, 5, 4, 5, 6]
    by_sequence = {i: nodes.tolist() for nodes, i in zip(tree.nodes, tree.order, strict=True)}
    assert by_sequence == {0: [0, 1, 2, 3], 1: [0, 1, 2, 4], 2: [0, 1, 5]}


def _logprobs(engine, items, read=False):
    """Log-probabilities of the actions' tokens, by the pass with gradients or by that without."""
    if read:
        hidden, order = engine.read(items), range(len(items))
    else:
        parts = list(engine.packs(items))
        hidden = torch.cat([engine.hidden(part) for part in parts])
        order = [i for part in parts for i in part.order]
    rows = iter(engine.head().logits(hidden).log_softmax(-1))
    out = {i: torch.stack([next(rows)[token] for token in items[i][1]]) for i in order}
    return torch.cat([out[i] for i in range(len(items))]).detach()


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
    assert engine.tree_limit == UNLIMITED
    alone = torch.cat([_logprobs(engine, [item]) for item in items])
    for budget in (7, 60):
        engine.budget = budget
        for layout in ("tree", "padded"):
            engine.layout = layout
            for read in (False, True):
                assert torch.allclose(_logprobs(engine, items, read), alone, atol=2e-5), (budget, layout, read)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 200))
def test_scores_do_not_depend_on_the_budget(budget):
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    engine = HFEngine(tiny_model(len(tokenizer)), tokenizer)
    items = [([5, 6, 7, 8 + k // 3], [20 + k, 21, 22]) for k in range(9)]
    whole = _logprobs(engine, items)
    engine.budget = budget
    assert torch.allclose(_logprobs(engine, items), whole, atol=1e-5)
    assert torch.allclose(_logprobs(engine, items, read=True), whole, atol=1e-5)


@given(SEQUENCES, st.integers(1, 6), st.integers(6, 40))
def test_runs_cover_a_tree_and_end_where_a_branch_does(sequences, least, most):
    (tree,) = trees(sequences)
    runs = list(tree.runs(least, most))
    assert [0, *(stop for _, stop in runs)] == [*(start for start, _ in runs), len(tree)]
    for start, stop in runs:
        assert stop - start <= most
        if stop < len(tree) and stop - start < most:
            assert tree.depths[stop] <= tree.depths[stop - 1]
            assert stop - start >= least


def test_short_branches_do_not_pay_for_each_other(engine, monkeypatch):
    monkeypatch.setattr("agents.engines.hf.CPU_GRAD_RUN", 128)
    items = [([*range(5, 45)], [100 + k, *range(60, 90)]) for k in range(16)]
    pairs: list[int] = []
    visible = Tree.visible

    def counted(tree, start, stop, past):
        pairs.append((stop - start) * (len(past) + stop - start))
        return visible(tree, start, stop, past)

    monkeypatch.setattr(Tree, "visible", counted)
    with torch.enable_grad():
        (part,) = engine.packs(items)
        states = engine.hidden(part)
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        (states * weights).sum().backward()
    grads = [p.grad.clone() for p in engine.model.parameters()]
    engine.model.zero_grad()
    in_runs = sum(pairs)
    assert in_runs < 0.5 * len(part) ** 2
    with torch.enable_grad():
        whole = engine._nodes(part, 0, len(part))[torch.cat(part.nodes)]
        (whole * weights).sum().backward()
    assert torch.allclose(states, whole, atol=1e-5)
    for a, p in zip(grads, engine.model.parameters(), strict=True):
        assert torch.allclose(a, p.grad, atol=1e-5 * float(p.grad.abs().max()), rtol=1e-4)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(60, 400))
def test_rows_of_like_lengths_lie_together(lengths, budget):
    sequences = [[1000 + k, *[7] * (length - 1)] for k, length in enumerate(lengths)]
    packs = list(Sequences(dict(enumerate(sequences))).rows(budget))
    spans = [[int(x) for x in pack.mask.sum(1)] for pack in packs]
    for shorter, longer in itertools.pairwise(spans):
        assert max(shorter) <= min(longer)
    assert sum(pack.ids.numel() for pack in packs) <= sum(lengths) + sum(
        len(span) * (max(span) - min(span)) for span in spans
    )
