"""One optimiser step: the same gradient however samples are packed, and teachers that are what they say."""

from __future__ import annotations

import pytest
import torch
from models import save_tiny

from agents import recipes
from agents.batch import MAIN, Batch, Sample, View
from agents.engines.hf import HFEngine
from agents.losses.divergence import divergence
from agents.losses.fused import SparseTeacher
from agents.losses.terms import Distill, Pointwise, PolicyGradient
from agents.teachers.teacher import Teacher, TeacherSettings, read_teacher
from agents.training.learner import Learner, OptimSettings

HEADER = [1, 50, 51, 52, 53, 54]


def make_batch(teacher: Teacher | None = None, temperature: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def ids(n: int) -> list[int]:
        return torch.randint(3, 300, (n,), generator=generator).tolist()

    prompts = [HEADER + ids(3) for _ in range(3)]
    samples = []
    for k in range(7):
        action = ids(2 + k % 4)
        sample = Sample(
            prompts[k % 3],
            action,
            [-5.5 - 0.1 * j for j in range(len(action))],
            [],
            "",
            float(k % 2),
            [],
            k % 3,
            k,
            0,
        )
        if k != 4:
            sample.teacher_ids = HEADER + ids(5) + prompts[k % 3][6:]
        samples.append(sample)
    samples[6].action_ids, samples[6].logprobs = samples[0].action_ids, samples[0].logprobs
    for sample in samples:
        sample.notes["teacher_logprobs"] = [-5.0 - 0.2 * j for j in range(len(sample.action_ids))]
    for k, chosen in enumerate((True, False)):
        samples[k].notes |= {"pair": 0, "chosen": chosen}
    batch = Batch(samples)
    batch.advantages = torch.tensor([1.0, -0.5, 0.0, 0.7, -1.0, 0.3, 0.0])
    if teacher is not None:
        taught = [(s.teacher_ids, s.action_ids) for s in samples if s.teacher_ids]
        batch.teacher = teacher.logits(taught, temperature)
        batch.reading = read_teacher(batch)
    return batch


def gradient(engine: HFEngine, recipe, *, budget: int, layout: str = "tree", split: int | None = None):
    """Loss and gradient of one batch, left unapplied."""
    engine.budget, engine.layout = budget, layout
    learner = Learner(engine, OptimSettings(lr=1e-12, clip_norm=1e9, weight_decay=0), 1.0)
    grads: list[torch.Tensor] = []
    learner.optimizer.step = lambda: grads.extend(p.grad.clone() for p in learner.parameters)
    settings = recipe.teacher if hasattr(recipe, "teacher") else None
    batch = make_batch(Teacher(engine, settings) if settings else None)
    for k, stream in enumerate(recipe.streams() if settings else ()):
        if stream != MAIN:
            for sample in batch.samples:
                sample.show(stream, View([], [*HEADER, 100 + k, *sample.prompt_ids[6:]]))
            items = [(s.view(stream).ids, s.action_ids) for s in batch.samples]
            batch.teachers[stream] = Teacher(engine, settings).logits(items, 1.0)
            batch.readings[stream] = read_teacher(batch, stream)
    if getattr(recipe, "reads_student", False):
        batch.student = learner.student(batch, recipe.measure(len(batch.targets)))
    result = learner.step(batch, recipe.terms(batch))
    return result, grads


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize(
    ("budget", "layout"), [(16, "tree"), (45, "tree"), (16, "padded"), (60, "padded"), (999, "padded")]
)
def test_loss_and_gradient_do_not_depend_on_packing(tiny_dir, name, budget, layout):
    recipe = recipes.get(name)()
    if hasattr(recipe, "top_k"):
        recipe.top_k = 0  # a top-k support is decided by comparisons, which may tie differently
    engine = HFEngine.load(str(tiny_dir))
    whole, reference = gradient(engine, recipe, budget=10_000)
    parts, grads = gradient(engine, recipe, budget=budget, layout=layout)
    assert whole.stepped
    assert parts.loss == pytest.approx(whole.loss, abs=1e-5)
    assert sum(float(g.abs().sum()) for g in reference) > 0
    for a, b in zip(grads, reference, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["sdpo", "grpo"])
def test_the_gradient_is_that_of_the_formula(engine, name):
    """Against autograd over full logits of each sample alone."""
    recipe = recipes.get(name)()
    if name == "sdpo":
        recipe.top_k = 0
    result, grads = gradient(engine, recipe, budget=10_000)
    batch = make_batch()
    total = torch.zeros(())

    def logprobs(prompt, action):
        return engine.model(torch.tensor([prompt + action])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)

    for i, sample in enumerate(batch.samples):
        p = logprobs(sample.prompt_ids, sample.action_ids)
        y = p[range(len(p)), sample.action_ids]
        w = torch.exp(y.detach() - torch.tensor(sample.logprobs)).clamp(max=2.0)
        if name == "grpo":
            total = total - (batch.advantages[i] * w * torch.exp(y - y.detach())).sum() / len(batch.targets)
        elif sample.teacher_ids:
            with torch.no_grad():
                q = logprobs(sample.teacher_ids, sample.action_ids)
            total = total + (divergence(p, q, 0.5) * w).mean() / len(batch)
    assert result.loss == pytest.approx(float(total), abs=1e-5)
    engine.model.zero_grad()
    total.backward()
    for a, p in zip(grads, engine.model.parameters(), strict=True):
        assert torch.allclose(a, p.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("budget", [16, 45])
def test_several_streams_and_columns_do_not_depend_on_packing(tiny_dir, budget):
    """A teacher for some samples, a served one for others, and terms with columns of their own."""
    engine = HFEngine.load(str(tiny_dir))
    teacher = Teacher(engine, TeacherSettings(kind="ema", rate=0.1))
    with torch.no_grad():
        for average in teacher.shadow.values():
            average.mul_(1.2)

    def step(budget: int):
        engine.budget = budget
        learner = Learner(engine, OptimSettings(lr=1e-12, clip_norm=1e9, weight_decay=0), 1.0)
        grads: list[torch.Tensor] = []
        learner.optimizer.step = lambda: grads.extend(p.grad.clone() for p in learner.parameters)
        batch = make_batch(teacher)
        for i in (1, 3, 4):
            batch.samples[i].show("peer", View([], batch.samples[i].prompt_ids[:-1]))
        for i in (0, 4, 5):
            batch.samples[i].show("served", View([], []))
        viewed = {name: batch.per_token(batch.viewed(name)) for name in ("teacher", "peer", "served")}
        items = [(s.view("peer").ids, s.action_ids) for s in batch.samples if s.view("peer")]
        batch.teachers["peer"] = teacher.logits(items, 1.0)
        rows = int(viewed["served"].sum())
        g = torch.Generator().manual_seed(1)
        logq = torch.randn(rows, 300, generator=g).log_softmax(-1)
        likeliest, ids = logq.topk(4, dim=-1)
        batch.teachers["served"] = SparseTeacher(ids, likeliest, logq[:, 5])  # type: ignore[assignment]
        n = len(batch.targets)
        c, behaviour = torch.randn(n, generator=g) / n, torch.randn(n, generator=g) - 5.5
        terms = [
            Distill(c * viewed["peer"], teacher="peer"),
            Distill(c * viewed["teacher"], 1.0, form="k2"),
            Distill(c * viewed["served"], 0.0, teacher="served", support="teacher"),
            PolicyGradient(c, c.flip(0), surrogate="cispo", behaviour=behaviour.masked_fill(c > 0, torch.nan)),
            Pointwise(c, lambda logp, constants: constants["x"] * logp.square(), {"x": behaviour}),
        ]
        return learner.step(batch, terms), grads, viewed

    whole, reference, viewed = step(10_000)
    parts, grads, _ = step(budget)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5, abs=1e-5)
    assert max(float(g.abs().max()) for g in reference) > 0.05
    for one, other in zip(grads, reference, strict=True):
        torch.testing.assert_close(one, other, atol=3e-5, rtol=1e-4)
    assert whole.stats is not None
    assert whole.stats.divergence.isnan().equal(~viewed["peer"])
    torch.testing.assert_close(parts.stats.divergence, whole.stats.divergence, atol=1e-5, rtol=1e-5, equal_nan=True)


def test_a_step_moves_towards_the_teacher(engine):
    recipe = recipes.get("sdpo")(top_k=0, teacher=TeacherSettings(kind="frozen"))
    teacher = Teacher(engine, recipe.teacher)
    learner = Learner(engine, OptimSettings(lr=3e-3), 1.0)
    losses = []
    for _ in range(8):
        batch = make_batch(teacher)
        losses.append(learner.step(batch, recipe.terms(batch)).loss)
    assert losses[-1] < 0.8 * losses[0]


def test_nothing_to_learn_changes_nothing(engine):
    recipe = recipes.get("sdpo")()
    learner = Learner(engine, OptimSettings(), 1.0)
    before = [p.clone() for p in learner.parameters]
    batch = make_batch()
    for sample in batch.samples:
        sample.teacher_ids = None
    result = learner.step(batch, recipe.terms(batch))
    assert not result.stepped
    assert learner.steps == 0
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


def test_a_gradient_that_is_not_finite_is_skipped(engine):
    learner = Learner(engine, OptimSettings(lr=0.1), 1.0)
    batch = make_batch()
    batch.advantages = torch.full((7,), 3e38)  # finite, unlike what is made of it
    before = [p.clone() for p in learner.parameters]
    result = learner.step(batch, recipes.get("grpo")().terms(batch))
    assert not result.stepped
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


# ---- teachers


def perturb(engine: HFEngine, scale: float = 0.1) -> None:
    with torch.no_grad():
        for p in engine.model.parameters():
            if p.requires_grad:
                p.add_(scale * torch.randn_like(p))


ITEMS = [(HEADER, [70, 71, 72])]


def test_ema_teacher_is_the_running_mean(engine):
    teacher = Teacher(engine, TeacherSettings(kind="ema", rate=0.25))
    old = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    perturb(engine)
    teacher.update()
    for name, p in engine.model.named_parameters():
        assert torch.allclose(teacher.shadow[name], 0.75 * old[name] + 0.25 * p, atol=1e-6)


@pytest.mark.parametrize("kind", ["frozen", "ema", "live", "trust_region"])
def test_which_weights_teach(engine, kind):
    teacher = Teacher(engine, TeacherSettings(kind=kind, rate=0.1))
    first = teacher.logits(ITEMS, 1.0).logits(slice(None))
    perturb(engine)
    student = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    teacher.update()
    second = teacher.logits(ITEMS, 1.0).logits(slice(None))
    with torch.no_grad():
        now = engine.model(torch.tensor([[*HEADER, 70, 71, 72]])).logits[0, 5:-1]
    if kind == "frozen":
        assert torch.allclose(first, second)
    elif kind == "live":
        assert torch.allclose(second, now, atol=1e-5)
    elif kind == "trust_region":  # log q = (1 - u) log q_0 + u log p + const
        assert torch.allclose(second, 0.9 * first + 0.1 * now, atol=1e-4)
    else:
        assert not torch.allclose(first, second)
        assert not torch.allclose(second, now)
    assert all(torch.equal(student[n], p) for n, p in engine.model.named_parameters()), "the student was left changed"


def test_shadows_are_fp32_so_that_small_ema_steps_survive(tmp_path):
    engine = HFEngine.load(str(save_tiny(tmp_path)), dtype="bfloat16")
    teacher = Teacher(engine, TeacherSettings(kind="ema", rate=0.01))
    name, p = next(iter(engine.model.named_parameters()))
    before = teacher.shadow[name].clone()
    with torch.no_grad():
        p.mul_(1.02)
    teacher.update()
    moved = (teacher.shadow[name] - before).abs()
    assert moved.dtype == torch.float32
    assert float((moved > 0).float().mean()) > 0.9


def test_teacher_temperature_multiplies_the_sampling_temperature(engine):
    teacher = Teacher(engine, TeacherSettings(kind="live", temperature=0.5))
    assert teacher.logits(ITEMS, 0.8).temperature == pytest.approx(0.4)


def test_lora_frozen_teacher_is_the_base_model_and_trains_adapters_only(tiny_dir):
    from agents.config import build
    from agents.training.trainer import load_engine

    config = build({"recipe": "sdpo", "model": {"name": str(tiny_dir), "lora_rank": 4}})
    engine = load_engine(config)
    base = HFEngine.load(str(tiny_dir))
    teacher = Teacher(engine, TeacherSettings(kind="frozen"))
    assert all("lora_" in name for name in teacher.shadow)
    perturb(engine)
    with torch.no_grad():
        logits = base.model(torch.tensor([[*HEADER, 70, 71, 72]])).logits[0, 5:-1]
    assert torch.allclose(teacher.logits(ITEMS, 1.0).logits(slice(None)), logits, atol=1e-4)
    assert not torch.allclose(Teacher.live(engine).logits(ITEMS, 1.0).logits(slice(None)), logits, atol=1e-2)
    learner = Learner(engine, OptimSettings(lr=0.01), 1.0)
    batch = make_batch(teacher)
    assert learner.step(batch, config.recipe.terms(batch)).stepped
