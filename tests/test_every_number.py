"""One property over the whole way: what the policy saw is what it is trained on, to the last number.

A rollout's turns, forwarded one by one by the model itself from `Turn.prompt_ids` alone, give the log-probabilities
that the sampler reported, that the teacher was asked for, and that the learner trained.
"""

from __future__ import annotations

import copy
import functools

import corridor
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from models import tiny_model
from templates import FAMILIES

from agents.batch import Batch, samples_of
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.history import RolloutSettings
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill
from agents.rollout import Drive, Environments, rollout
from agents.teachers.contexts import Context, add_contexts
from agents.teachers.teacher import Teacher, TeacherSettings, read_teacher
from agents.training.learner import Learner, OptimSettings

CONTEXTS = [
    *(Context(sources=[s], placement="turn", allow_reference=True) for s in ("plan", "rest+feedback", "none")),
    Context(sources=["expected", "rest", "feedback"], wording="turn", allow_reference=True),
    Context(sources=["plan+feedback"], wording="inline", allow_reference=True),
]
AT_THE_HEAD = Context(sources=["plan", "feedback"], placement="head", allow_reference=True)


@functools.cache
def make_engine(family: str) -> HFEngine:
    """A model that thinks, and that stops, now and then."""
    torch.set_num_threads(1)
    tokenizer = FAMILIES[family].tokenizer()
    model = tiny_model(len(tokenizer), tie_word_embeddings=False, max_position_embeddings=8192)
    head = torch.nn.Linear(32, len(tokenizer))
    head.weight.data = model.lm_head.weight.data
    torch.nn.init.zeros_(head.bias)
    model.lm_head = head
    engine = HFEngine(model, tokenizer, template=FAMILIES[family].variables)
    for token in (*engine.stop_ids, *tokenizer.convert_tokens_to_ids(["<think>", "</think>"])):
        head.bias.data[token] = 6.0
    return engine


def alone(model: torch.nn.Module, prompt: list[int], action: list[int]) -> torch.Tensor:
    """Logits [tokens, V] of one action, by the model's own forward pass."""
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([[*prompt, *action]])).logits[0, len(prompt) - 1 : -1]
    return logits


def of(action: list[int], logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of an action's tokens."""
    return logits.log_softmax(-1).gather(-1, torch.tensor(action)[:, None])[:, 0]


@settings(max_examples=30, deadline=None, phases=set(Phase) - {Phase.shrink, Phase.explain})  # all are small
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    thinking=st.sampled_from(["keep", "template", "tool_cycle"]),
    window=st.sampled_from([None, 0, 1, 2]),
    context=st.sampled_from(CONTEXTS),
    head=st.booleans(),
    kind=st.sampled_from(["frozen", "ema", "trust_region"]),
    reuse=st.sampled_from([0, 300, 1 << 20]),
    budget=st.sampled_from([64, 4096]),
    layout=st.sampled_from(["tree", "padded"]),
    expert_share=st.sampled_from([0.0, 0.5]),
    temperature=st.sampled_from([0.7, 1.0]),
    seed=st.integers(0, 99),
)
def test_sampler_teacher_and_learner_agree_with_each_turn_alone(
    family, thinking, window, context, head, kind, reuse, budget, layout, expert_share, temperature, seed
):
    if head and window is None and thinking == "keep":
        context = AT_THE_HEAD
    engine = copy.deepcopy(make_engine(family))
    engine.reuse, engine.budget, engine.layout = reuse, budget, layout
    environments = Environments(corridor.ID, "train", {"max_turns": 4})
    learner = Learner(engine, OptimSettings(lr=0.02), temperature)
    teacher = Teacher(engine, TeacherSettings(kind=kind, rate=0.3, temperature=0.8))
    reference = copy.deepcopy(engine.model)  # the teacher's weights: an average moves only with `update`
    for step in range(2):  # the second time the policy has moved away from its teacher
        groups = rollout(
            engine, engine.chat, environments, [seed % 20, (seed + 7) % 20], 2,
            Sampling(max_tokens=10, temperature=temperature), seed + step,
            drive=Drive(expert_share=expert_share), settings=RolloutSettings(thinking=thinking, history=window),
        )  # fmt: skip
        turns = {(g, a, t): turn for g, group in enumerate(groups) for a, trajectory in enumerate(group.trajectories)
                 for t, turn in enumerate(trajectory.turns)}  # fmt: skip
        plain = {k: of(t.action_ids, alone(engine.model, t.prompt_ids, t.action_ids) / temperature)
                 for k, t in turns.items() if t.source == "policy"}  # fmt: skip
        for key, logprobs in plain.items():
            assert turns[key].logprobs == pytest.approx(logprobs.tolist(), abs=2e-4)

        samples = samples_of(groups)
        assert [(s.group, s.attempt, s.turn) for s in samples] == list(plain)
        if not samples:
            return  # the expert alone acted
        batch, expected = Batch(samples), torch.cat(list(plain.values()))
        assert torch.allclose(learner.logprobs(batch), expected, atol=2e-4)

        add_contexts(context, samples, groups, engine.chat, 1 << 20, "0")
        taught = [s for s in samples if s.teacher_ids is not None]
        assert taught
        items = [(s.teacher_ids, s.action_ids) for s in taught]
        batch.teacher = teacher.logits(items, temperature)
        theirs = torch.cat([
            of(a, _mixed(kind, alone(reference, p, a), alone(engine.model, p, a)) / (0.8 * temperature))
            for p, a in items
        ])  # fmt: skip
        is_taught = batch.per_token(batch.taught)
        assert torch.allclose(read_teacher(batch).logprob[is_taught], theirs, atol=2e-4)

        term = Distill(token_mean(is_taught.float()), 1.0, None, True, "full", is_clip=2.0)
        result = learner.step(batch, [term])
        assert result.stepped or context.sources == ["none"]
        assert torch.allclose(result.stats.logp[is_taught], expected[is_taught], atol=2e-4)
        assert torch.allclose(result.stats.teacher_logp[is_taught], theirs, atol=2e-4)
    environments.close()


def _mixed(kind: str, reference: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    return 0.7 * reference + 0.3 * student if kind == "trust_region" else reference
