"""Scoring whole episodes: each token once, the same numbers; and teachers that are other models."""

from __future__ import annotations

import math
import random
from contextlib import contextmanager

import pytest
import torch
from corridor import episodes, find
from models import save_tiny, tiny_model, tiny_tokenizer
from pydantic import ValidationError

from agents import recipes
from agents.batch import Batch, Sample, samples_of
from agents.config import build
from agents.engines.base import Sampling
from agents.engines.hf import CPU_RUN, HFEngine
from agents.engines.limits import UNLIMITED, tree_limit
from agents.errors import SetupError
from agents.losses.fused import fused_loss
from agents.losses.terms import Likelihood
from agents.report.metrics import read_jsonl
from agents.teachers.contexts import Context, add_contexts
from agents.teachers.teacher import Teacher, TeacherSettings, read_teacher
from agents.training import checkpoints
from agents.training.learner import Learner, OptimSettings
from agents.training.trainer import Trainer


def episode(turns: int, seed: int = 0, prompt: int = 20, observation: int = 6, action: int = 4, hint: int = 5):
    """Items of one episode as (student's, teacher's on a branch a turn, teacher's with one hint at the head)."""
    draw = random.Random(seed)

    def ids(n: int) -> list[int]:
        return [draw.randrange(3, 300) for _ in range(n)]

    head, hinted = ids(prompt), ids(hint)
    history: list[int] = []
    student, branches, single = [], [], []
    for turn in range(turns):
        new, act, privileged = ids(observation), ids(action), ids(hint)
        if turn == 0:
            new = []
        student.append((head + history + new, act))
        branches.append((head + history + privileged + new, act))
        single.append((hinted + head + history + new, act))
        history += new + act
    return student, branches, single


def alone(engine: HFEngine, items) -> torch.Tensor:
    """Each item forwarded from its start, by the model's own forward."""
    rows = []
    for prompt, action in items:
        with torch.no_grad():
            logits = engine.model(torch.tensor([[*prompt, *action]])).logits[0, len(prompt) - 1 : -1]
        rows.append(logits.log_softmax(-1).gather(-1, torch.tensor(action)[:, None])[:, 0])
    return torch.cat(rows)


def read(engine: HFEngine, items) -> torch.Tensor:
    logits = engine.head().logits(engine.read(items))
    targets = torch.tensor([i for _, action in items for i in action])
    return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0].detach()


@contextmanager
def forwards(engine: HFEngine):
    """The (tokens, mask entries) of every forward pass."""
    seen: list[tuple[int, int]] = []

    def note(module, args, kwargs):
        mask = kwargs.get("attention_mask")
        seen.append((kwargs["input_ids"].numel(), 0 if mask is None else mask.numel()))

    handle = engine.backbone.register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    handle.remove()


def make_engine(dtype=torch.float32, **changes) -> HFEngine:
    torch.set_num_threads(1)  # operations are tiny
    tokenizer = tiny_tokenizer()
    changes = {"max_position_embeddings": 8192, **changes}
    return HFEngine(tiny_model(len(tokenizer), **changes).to(dtype), tokenizer)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("budget", [3, 13, 64, 10_000])
def test_every_way_of_teaching_an_episode_gives_the_numbers_of_each_turn_alone(dtype, tolerance, budget):
    engine = make_engine(dtype)
    engine.budget = budget
    turns = 3 if budget == 3 else 12
    for items in episode(turns):
        assert torch.allclose(read(engine, items), alone(engine, items), atol=tolerance, rtol=0)
    several = [item for seed in range(2) for items in episode(3, seed) for item in items]
    random.Random(0).shuffle(several)
    assert torch.allclose(read(engine, several), alone(engine, several), atol=tolerance, rtol=0)


@pytest.mark.parametrize("budget", [17, 100, 10_000])
def test_no_token_of_an_episode_is_forwarded_twice(budget):
    engine = make_engine()
    engine.budget = budget
    for items in episode(30):
        distinct = {tuple([*p, *a][:k]) for p, a in items for k in range(1, len(p) + len(a))}
        with forwards(engine) as seen:
            engine.read(items)
        assert sum(tokens for tokens, _ in seen) == len(distinct)
        assert max(tokens for tokens, _ in seen) <= budget
        length = max(len(p) + len(a) for p, a in items)
        assert all(entries <= tokens * (length + tokens) for tokens, entries in seen)


def test_the_tokens_of_branches_grow_linearly_and_a_hint_at_the_head_is_one_pass():
    engine = make_engine()
    totals = {}
    for turns in (10, 20, 30):
        _, branches, single = episode(turns)
        with forwards(engine) as seen:
            engine.read(branches)
        totals[turns] = sum(tokens for tokens, _ in seen)
        with forwards(engine) as seen:
            engine.read(single)
        assert seen == [(len(single[-1][0]) + len(single[-1][1]) - 1, 0)]
    assert totals[30] - totals[20] == totals[20] - totals[10]


def test_short_episodes_share_a_pass():
    engine = make_engine()
    items = [item for seed in range(20) for item in episode(3, seed)[1]]
    with forwards(engine) as seen:
        engine.read(items)
    assert 1 < len(seen) <= math.ceil(sum(tokens for tokens, _ in seen) / CPU_RUN) < len(items) / 5


@pytest.mark.parametrize(("source", "placement"), [("rest", "turn"), ("plan", "turn"), ("plan", "head")])
def test_what_a_teacher_is_shown_of_a_real_episode_costs_its_history_and_its_branches(engine, source, placement):
    group = episodes(engine.chat, find(start=0, key=1, rooms=3, door=2), ["go left", "look", "go right", "look"] * 3)
    samples = samples_of([group])
    context = Context(sources=[source], placement=placement, allow_reference=True)
    add_contexts(context, samples, [group], engine.chat, 1 << 20, "0")
    items = [(s.teacher_ids, s.action_ids) for s in samples if s.teacher_ids]
    turns = group.trajectories[0].turns
    assert len(items) == len(turns) == 12
    engine.context_length = 1 << 20
    with forwards(engine) as seen:
        engine.read(items)
    total = sum(tokens for tokens, _ in seen)
    if placement == "head":
        assert total == len(items[-1][0]) + len(items[-1][1]) - 1
    else:
        branches = sum(len(p) - turn.prefix + len(a) for (p, a), turn in zip(items, turns, strict=True))
        assert total <= turns[-1].prefix + branches < sum(len(p) + len(a) for p, a in items)


@pytest.mark.parametrize("budget", [40, 100])
def test_the_student_learns_from_an_episode_in_one_pass_however_long(budget):
    engine = make_engine()
    engine.budget = budget
    everything, paths = [], []
    for seed in range(3):
        student, _, _ = episode(30, seed)
        everything += student
        paths.append(len(student[-1][0]) + len(student[-1][1]) - 1)
    samples = [Sample(p, a, None, [], "", 0.0, [], 0, 0, 0) for p, a in everything]
    batch = Batch(samples)
    learner = Learner(engine, OptimSettings(lr=1e-12), 1.0)
    with forwards(engine) as seen:
        learner.step(batch, [Likelihood(torch.ones(len(batch.targets)))])
    assert sorted(tokens for tokens, _ in seen) == sorted(paths)
    assert all(entries == 0 for _, entries in seen), "one path needs no mask"


def test_the_gradient_of_an_episode_in_one_pass_is_the_sum_of_its_turns():
    from transformers import GPT2Config, GPT2LMHeadModel  # computes in float64 throughout, as Llama does not

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tiny_tokenizer()), n_embd=32, n_layer=2, n_head=4, n_positions=512)
    engine = HFEngine(GPT2LMHeadModel(config).double(), tiny_tokenizer(), budget=50)
    student, _, _ = episode(8)

    def gradient(parts):
        engine.model.zero_grad()
        for items in parts:
            for part in engine.packs(items):
                targets = torch.tensor([t for i in part.order for t in items[i][1]])
                terms = [Likelihood(torch.ones(len(targets), dtype=torch.float64))]
                fused_loss(engine.hidden(part), engine.head(), targets, terms)[0].backward()
        return [p.grad.clone() for p in engine.model.parameters()]

    for a, b in zip(gradient([student]), gradient([[item] for item in student]), strict=True):
        assert float(b.abs().sum()) > 0
        assert torch.allclose(a, b, atol=1e-10, rtol=1e-9)


# ---- attention that a mask of ours cannot express


def windowed(kind: str):
    from transformers import (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        MistralConfig,
        MistralForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
    )

    torch.manual_seed(0)
    vocab = len(tiny_tokenizer())
    small = dict(
        vocab_size=vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, eos_token_id=2, pad_token_id=0, bos_token_id=1, max_position_embeddings=512,
        initializer_range=0.3,
    )  # fmt: skip
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**small, sliding_window=24))
    if kind == "gemma3":
        types = ["sliding_attention", "full_attention"]
        return Gemma3ForCausalLM(Gemma3TextConfig(**small, sliding_window=24, layer_types=types, head_dim=8))
    factors = {"long_factor": [3.0] * 4, "short_factor": [1.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 24, **factors}
    return Phi3ForCausalLM(Phi3Config(**small, original_max_position_embeddings=24, rope_parameters=rope))


@pytest.mark.parametrize("kind", ["mistral", "gemma3", "phi3"])
def test_a_window_is_kept_and_only_what_exceeds_it_goes_into_rows(kind):
    engine = HFEngine(windowed(kind), tiny_tokenizer(), budget=60)
    assert engine.tree_limit == 24
    student, branches, single = episode(8, prompt=8)
    for items in (student, branches, single):
        assert torch.allclose(read(engine, items), alone(engine, items), atol=3e-5)
    trees, rows = engine._sequences(branches)
    assert trees.ids
    assert rows.ids
    engine.tree_limit = UNLIMITED  # what would happen without the limit
    assert not torch.allclose(read(engine, branches), alone(engine, branches), atol=1e-2)


def test_a_model_whose_masks_are_its_own_affair_is_found_out():
    def deaf(module, args, kwargs):
        mask = kwargs.get("attention_mask")
        return args, {**kwargs, "attention_mask": mask if mask is not None and mask.dim() == 2 else None}

    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer))
    model.base_model.register_forward_pre_hook(deaf, with_kwargs=True)
    engine = HFEngine(model, tokenizer)
    assert engine.tree_limit == 0
    _, branches, _ = episode(4)
    assert torch.allclose(read(engine, branches), alone(engine, branches), atol=2e-5)


def test_kernels_that_ignore_masks_take_no_trees():
    config = tiny_model(300).config
    assert tree_limit(config) == UNLIMITED
    config._attn_implementation = "flash_attention_2"
    assert tree_limit(config) == 0


# ---- another model


def external(path, **settings) -> TeacherSettings:
    return TeacherSettings(kind="external", model=str(path), **settings)


ITEMS = [([5, 6, 7, 8], [70, 71, 72]), ([5, 6, 9], [73])]


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """Another width, more layers, and a head padded beyond the tokenizer."""
    directory = tmp_path_factory.mktemp("wider")
    save_tiny(directory)
    big = tiny_model(len(tiny_tokenizer()) + 24, seed=3, hidden_size=48, num_hidden_layers=3)
    big.save_pretrained(directory)
    return directory


def test_an_external_teacher_is_its_own_model_cut_to_the_policys_outcomes(engine, wider):
    teacher = Teacher(engine, external(wider))
    logits = teacher.logits(ITEMS, 1.0).logits(torch.arange(4))
    model = HFEngine.load(str(wider)).model
    vocab = len(engine.head().weight)
    with torch.no_grad():
        expected = [model(torch.tensor([[*p, *a]])).logits[0, len(p) - 1 : -1, :vocab] for p, a in ITEMS]
    assert logits.shape == (4, vocab)
    assert torch.allclose(logits, torch.cat(expected), atol=1e-5)
    before = {n: p.clone() for n, p in engine.model.named_parameters()}
    with teacher.weights():
        assert all(torch.equal(before[n], p) for n, p in engine.model.named_parameters())


def test_the_policy_learns_from_an_external_teacher(engine, wider):
    recipe = recipes.get("sdpo")(top_k=0, alpha=1.0, teacher=external(wider))
    teacher = Teacher(engine, recipe.teacher)
    learner = Learner(engine, OptimSettings(lr=3e-3), 1.0)
    weights = [p.clone() for p in teacher.reader.model.parameters()]
    losses = []
    for _ in range(8):
        samples = [Sample(p, a, None, [], "", 0.0, [], 0, 0, 0, teacher_ids=p) for p, a in ITEMS]
        batch = Batch(samples)
        batch.teacher = teacher.logits([(s.teacher_ids, s.action_ids) for s in samples], 1.0)
        losses.append(learner.step(batch, recipe.terms(batch)).loss)
        teacher.update()
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(weights, teacher.reader.model.parameters(), strict=True))
    assert not any(p.requires_grad for p in teacher.reader.model.parameters())
    assert teacher.state_dict() == {}
    assert checkpoints.state_bytes(learner, {"teacher": teacher}) == checkpoints.state_bytes(learner, {})


def test_a_run_with_an_external_teacher_starts_from_a_line_of_settings(tiny_dir, wider, tmp_path):
    recipe = {
        "name": "sdpo",
        "teacher": {"kind": "external", "model": str(wider)},
        "context": {"sources": ["feedback"], "allow_reference": True},
    }
    settings = {
        "recipe": recipe,
        "model": {"name": str(tiny_dir)},
        "env": {"id": "rfenvs/ToolCall-v0", "kwargs": {"feedback": "expected"}},
        "sampling": {"max_tokens": 4},
        "batch": {"tasks": 2, "attempts": 2},
        "eval": {"tasks": 0},
        "steps": 2,
        "check_teacher": 0,
        "run_dir": tmp_path / "run",
    }
    run = Trainer(build(settings)).run()
    rows = [row for row in read_jsonl(run.directory / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["taught"] for row in rows] == [1.0, 1.0]
    assert all(row["teacher_gap"] > 0 and row["optimizer_steps"] == 1 for row in rows)


@pytest.mark.parametrize("kind", ["frozen", "external", "live"])
def test_a_teacher_answers_with_its_own_weights(engine, wider, kind):
    teacher = Teacher(engine, external(wider) if kind == "external" else TeacherSettings(kind=kind))
    prompts, sampling = [p for p, _ in ITEMS], Sampling(max_tokens=6, temperature=0)
    source = HFEngine.load(str(wider)) if kind == "external" else HFEngine(engine.model, engine.tokenizer)
    at_start = [c.ids for c in source.generate(prompts, sampling, 0)]
    with torch.no_grad():
        for p in engine.model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    policy = [c.ids for c in engine.generate(prompts, sampling, 0)]
    answers = [c.ids for c in teacher.generate(prompts, sampling, 0)]
    assert answers == (policy if kind == "live" else at_start)
    assert (answers == policy) == (kind == "live")
    assert policy == [c.ids for c in engine.generate(prompts, sampling, 0)], "the policy was left changed"


def test_a_teacher_answers_at_the_temperature_at_which_it_is_read(engine):
    prompts = [[1, 40 + k] for k in range(8)]
    said = Teacher(engine, TeacherSettings(kind="frozen", temperature=0.5)).generate(prompts, Sampling(max_tokens=4), 0)
    sharp = engine.generate(prompts, Sampling(max_tokens=4, temperature=0.5), 0)
    for a, b in zip(said, sharp, strict=True):
        assert a.ids == b.ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_one_model_named_twice_is_loaded_once(engine, tmp_path):
    teacher = Teacher(engine, external(save_tiny(tmp_path / "one", seed=1)))
    sharper = teacher.settings.model_copy(update={"temperature": 0.5})
    assert Teacher(engine, sharper, beside=teacher).reader is teacher.reader
    other = external(save_tiny(tmp_path / "two", seed=1))
    assert Teacher(engine, other, beside=teacher).reader is not teacher.reader
    assert Teacher(engine, other, beside=Teacher.live(engine)).reader is not engine


def test_a_teacher_reads_no_more_than_both_can(engine, tmp_path):
    save_tiny(tmp_path, max_position_embeddings=128)
    assert Teacher(engine, external(tmp_path)).context_length == 128
    assert Teacher.live(engine).context_length == 512


def test_another_tokenizer_is_refused_by_the_token_that_differs(engine, tmp_path):
    save_tiny(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|tool|>"])
    tokenizer.save_pretrained(tmp_path)
    count = len(engine.tokenizer)
    (tmp_path / "model.safetensors").unlink()  # told before any weights are loaded
    with pytest.raises(SetupError, match=rf"recipe.teacher.model: .*'<\|tool\|>' is missing .* and {count} in"):
        Teacher(engine, external(tmp_path))


def test_a_head_that_lacks_outcomes_is_refused(engine, tmp_path):
    save_tiny(tmp_path)
    padded = HFEngine(tiny_model(len(engine.tokenizer) + 8), engine.tokenizer)
    with pytest.raises(SetupError, match=r"recipe.teacher.model=.*output head"):
        Teacher(padded, external(tmp_path))


def test_a_missing_model_names_the_setting(engine, tmp_path):
    with pytest.raises(SetupError, match=r"recipe\.teacher\.model: .*neither a directory"):
        Teacher(engine, external(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "external"}, "needs teacher.model"),
        ({"kind": "ema", "model": "a/b"}, "belongs to teacher.kind='external'"),
        ({"kind": "frozen", "dtype": "bfloat16"}, "belongs to teacher.kind='external'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        TeacherSettings(**settings)
    with pytest.raises(SetupError, match=said):
        build({"recipe": {"name": "sdpo", "teacher": settings}})


# ---- what recipes read


@pytest.mark.parametrize("kind", ["live", "trust_region", "external"])
def test_a_reading_is_that_of_the_teachers_distribution(engine, wider, kind):
    teacher = Teacher(engine, external(wider) if kind == "external" else TeacherSettings(kind=kind, rate=0.3))
    with torch.no_grad():
        for p in engine.model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    samples = [Sample(p, a, None, [], "", 0.0, [], 0, 0, 0, teacher_ids=[9, *p]) for p, a in ITEMS]
    samples[0].teacher_ids = None
    samples.append(Sample([4, 5], [60, 61], None, [], "", 0.0, [], 0, 0, 0, teacher_ids=[8, 4, 5]))
    batch = Batch(samples)
    batch.teacher = teacher.logits([(s.teacher_ids, s.action_ids) for s in samples if s.teacher_ids], 0.7)
    logq = batch.teacher.logits(slice(None)).log_softmax(-1)
    samples[2].action_ids[:] = [60, int(logq[2].argmax())]
    batch = Batch(samples)
    batch.teacher = teacher.logits([(s.teacher_ids, s.action_ids) for s in samples if s.teacher_ids], 0.7)
    reading = read_teacher(batch)
    assert [math.isnan(x) for x in reading.logprob.tolist()] == [True] * 3 + [False] * 3
    assert not reading.agrees[:3].any()
    targets = batch.targets[3:]
    assert torch.allclose(reading.logprob[3:], logq.gather(-1, targets[:, None])[:, 0], atol=1e-5)
    assert torch.allclose(reading.entropy[3:], -(logq.exp() * logq).sum(-1), atol=1e-5)
    assert torch.allclose(reading.confidence[3:], logq.exp().amax(-1), atol=1e-5)
    assert reading.agrees[3:].tolist() == (logq.argmax(-1) == targets).tolist()
    assert bool(reading.agrees[5])
