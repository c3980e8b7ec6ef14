"""Sampling from a mixture of policy and teacher: what is drawn, what is reported, and what weights make of it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from models import save_tiny

from agents.engines.base import Sampling
from agents.engines.mixed import MixedEngine, mixture
from agents.teachers.teacher import Teacher, TeacherSettings

torch.set_num_threads(1)

PROMPT = [1, 50, 51, 52]


@pytest.fixture
def teacher(engine, tmp_path):
    """Another model of the same tokenizer."""
    return Teacher(engine, TeacherSettings(kind="external", model=str(save_tiny(tmp_path / "other", seed=3))))


def distributions(engine, teacher, prompt, action, temperature=1.0):
    """[T, V] each: policy's and teacher's log-probabilities at the action's tokens."""
    ids = torch.tensor([[*prompt, *action]])
    rows = slice(len(prompt) - 1, -1)
    with torch.no_grad():
        return [(e.model(ids).logits[0, rows] / temperature).log_softmax(-1) for e in (engine, teacher.reader)]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_reported_log_probabilities_are_the_mixtures(engine, teacher, temperature):
    """Every token of ragged sequences of several prompts, against both models on the whole sequence."""
    prompts = [PROMPT, [1, 60, 61], PROMPT, [1, 60, 61, 62, 63, 64]]
    mixed = MixedEngine(engine, teacher, 0.3)
    said = mixed.generate(prompts, Sampling(max_tokens=7, temperature=temperature), 5)
    assert [c.ids for c in said] != [c.ids for c in engine.generate(prompts, Sampling(max_tokens=7), 5)]
    for prompt, completion in zip(prompts, said, strict=True):
        p, q = distributions(engine, teacher, prompt, completion.ids, temperature)
        at = torch.tensor(completion.ids)[:, None]
        expected = (0.7 * p.exp() + 0.3 * q.exp()).log().gather(1, at)[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=2e-4, rtol=1e-4)
        assert completion.finish_reason == ("stop" if completion.ids[-1] in engine.stop_ids else "length")
        assert bool((p.gather(1, at)[:, 0] - expected <= math.log(1 / 0.7) + 1e-4).all()), (
            "weights are at most 1 / (1 - a)"
        )


def test_importance_weights_give_back_the_policy(engine, teacher):
    """One token of 2,000 sequences: shares of the outcomes are the mixture's, and with weights p / p~ the policy's."""
    n, share = 2000, 0.4
    said = MixedEngine(engine, teacher, share).generate([PROMPT] * n, Sampling(max_tokens=1), 0)
    p, q = (x[0].exp() for x in distributions(engine, teacher, PROMPT, [5]))
    ids = torch.tensor([c.ids[0] for c in said])
    weights = (p[ids].log() - torch.tensor([c.logprobs[0] for c in said])).exp()
    asked = (p > q).float()  # the outcomes that the policy likes more than the teacher does
    tilde = share * q + (1 - share) * p
    plain, weighted = float(asked[ids].mean()), float((weights * asked[ids]).mean())
    assert abs(float((p * asked).sum() - (tilde * asked).sum())) > 0.1, "the two must be apart for this to say anything"
    assert plain == pytest.approx(float((tilde * asked).sum()), abs=4 * 0.5 / math.sqrt(n))
    assert weighted == pytest.approx(float((p * asked).sum()), abs=4 * 0.6 / math.sqrt(n))


def test_weights_of_whole_sequences_are_exact_on_a_toy():
    """All 27 sequences of three tokens of three: sum of p~ times the product of weights times f is E_p f."""
    g = torch.Generator().manual_seed(0)
    tables = {prefix: torch.randn(2, 3, generator=g).log_softmax(-1) for t in range(3)
              for prefix in itertools.product(range(3), repeat=t)}  # fmt: skip
    estimate = expected = mass = 0.0
    for y in itertools.product(range(3), repeat=3):
        p, q = (sum(float(tables[y[:t]][k, y[t]]) for t in range(3)) for k in range(2))
        tilde = sum(float(mixture(*tables[y[:t]], 0.2)[y[t]]) for t in range(3))
        weight = math.prod(
            math.exp(float(tables[y[:t]][0, y[t]] - mixture(*tables[y[:t]], 0.2)[y[t]])) for t in range(3)
        )
        value = q - p
        estimate += math.exp(tilde) * weight * value
        expected += math.exp(p) * value
        mass += math.exp(tilde)
    assert mass == pytest.approx(1.0, abs=1e-6)
    assert estimate == pytest.approx(expected, abs=1e-6)


def test_a_teacher_without_a_share_changes_nothing(engine, teacher):
    """The same draws as the policy's own."""
    sampling, prompts = Sampling(max_tokens=5), [PROMPT, [1, 60, 61], PROMPT]
    ours = MixedEngine(engine, teacher, 0.0).generate(prompts, sampling, 11)
    theirs = engine.generate(prompts, sampling, 11)
    assert [c.ids for c in ours] == [c.ids for c in theirs]


def test_equal_arguments_give_equal_completions(engine, teacher):
    mixed, sampling = MixedEngine(engine, teacher, 0.5), Sampling(max_tokens=4)
    assert mixed.generate([PROMPT] * 3, sampling, 1) == mixed.generate([PROMPT] * 3, sampling, 1)
    assert mixed.generate([PROMPT] * 3, sampling, 1) != mixed.generate([PROMPT] * 3, sampling, 2)


def test_a_prompt_that_fills_the_context_leaves_no_room(engine, teacher):
    mixed = MixedEngine(engine, teacher, 0.5)
    full = [5] * mixed.context_length
    said = mixed.generate([full, full[:-2]], Sampling(max_tokens=9), 0)
    assert said[0].ids == []
    assert len(said[1].ids) <= 2


def test_greedily_the_mixtures_likeliest_token(engine, teacher):
    said = MixedEngine(engine, teacher, 0.5).generate([PROMPT], Sampling(max_tokens=1, temperature=0), 0)
    p, q = distributions(engine, teacher, PROMPT, [5])
    assert said[0].ids == [int((p[0].exp() + q[0].exp()).argmax())]


def test_a_share_of_one_is_refused(engine, teacher):
    with pytest.raises(ValueError, match="share=1"):
        MixedEngine(engine, teacher, 1.0)
