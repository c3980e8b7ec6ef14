"""OPSD and its kin, recipes of another model's word, and MiniLLM: limits, signs, bounds, and who may see what."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import coin
import pytest
import torch
from distilled import on_tables, sample
from models import save_tiny
from oracle import World
from test_recipe_runs import train

from agents import recipes
from agents.batch import Batch, Student, samples_of
from agents.config import build
from agents.engines.base import Sampling
from agents.engines.mixed import MixedEngine
from agents.errors import SetupError
from agents.losses.divergence import divergence
from agents.recipes.dgrpo import DGRPO
from agents.recipes.minillm import TEXT, MiniLLM
from agents.recipes.mopd import MOPD
from agents.recipes.opsd import OPSD
from agents.recipes.pw_opsd import PWOPSD
from agents.recipes.tip import TIP
from agents.recipes.tools import StepTools
from agents.recipes.uni_opd import UniOPD
from agents.recipes.vopd import VOPD
from agents.report.metrics import read_jsonl
from agents.rollout import Environments, rollout
from agents.teachers.teacher import Teacher, TeacherSettings, make_teachers
from agents.training.check import check_teacher
from agents.trajectory import Group, Trajectory, Turn

torch.set_num_threads(1)

get = recipes.get


def loss_and_gradient(recipe: Any, seed: int = 1, prepare: Any = lambda world: None) -> tuple[float, torch.Tensor]:
    loss, (hidden, _) = World(recipe, seed, prepare).fused()
    return float(loss), hidden


def assert_same(one: Any, other: Any, seed: int = 1, prepare: Any = lambda world: None) -> None:
    """Two recipes are one on the oracle's world."""
    (a, x), (b, y) = loss_and_gradient(one, seed, prepare), loss_and_gradient(other, seed, prepare)
    assert a == pytest.approx(b, abs=1e-7)
    torch.testing.assert_close(x, y, atol=1e-7, rtol=1e-6)
    assert bool(x.any())


def tools_of(engine: Any, recipe: Any) -> StepTools:
    return StepTools(
        engine.chat, limit=engine.context_length, seed="s", sampling=Sampling(max_tokens=6), engine=engine,
        teachers=make_teachers(engine, recipe.teachers()),
        environments=Environments(coin.ID, "train"), tasks=[0, 1, 2],
    )  # fmt: skip


@pytest.fixture
def groups(engine):
    return rollout(engine, engine.chat, Environments(coin.ID, "train"), [0, 1, 2], 3, Sampling(max_tokens=6), 0)


def said_to(messages: Any) -> str:
    return "\n".join(m["content"] for m in messages)


# ---- OPSD


def test_the_divergence_is_the_papers_way_round():
    """beta 0.25, p = (0.8, 0.2), q = (0.4, 0.6), by hand: m = 0.25 q + 0.75 p = (0.7, 0.3)."""
    p, q = (torch.tensor([x], dtype=torch.float64).log() for x in ((0.8, 0.2), (0.4, 0.6)))
    expected = 0.25 * (0.4 * math.log(0.4 / 0.7) + 0.6 * math.log(0.6 / 0.3))
    expected += 0.75 * (0.8 * math.log(0.8 / 0.7) + 0.2 * math.log(0.2 / 0.3))
    assert expected == pytest.approx(0.0673096, abs=1e-6)
    loss, _ = on_tables(OPSD(alpha=0.25), [sample([0])], lambda _: p[0].requires_grad_(), lambda _: q[0])
    assert loss == pytest.approx(expected, abs=1e-6)
    assert float(divergence(q, p, 0.25)) != pytest.approx(expected, abs=1e-3), "the two ways differ"


def test_beta_of_one_is_opd():
    assert_same(OPSD(alpha=1.0), get("opd")())
    assert_same(OPSD(alpha=1.0, form="sampled"), get("opd")(form="sampled"))


def test_the_teacher_sees_the_solution_and_the_student_does_not(engine, groups):
    recipe = OPSD()
    samples = samples_of(groups)
    before = [(list(s.prompt_ids), s.messages) for s in samples]
    tools = tools_of(engine, recipe)
    recipe.views(samples, groups, tools)
    for s, (ids, messages) in zip(samples, before, strict=True):
        gold = tools.gold(s.group)
        assert gold in said_to(s.teacher_messages)
        assert gold not in said_to(s.messages)
        assert (s.prompt_ids, s.messages) == (ids, messages)


def test_a_rationale_is_written_once_a_task_and_read_by_the_teacher_alone(engine, groups, monkeypatch):
    recipe = OPSD(context={"sources": ["reference+rationale"], "allow_reference": True}, rationale_tokens=5)
    tools, asked = tools_of(engine, recipe), []
    ask = tools.ask
    monkeypatch.setattr(tools, "ask", lambda c, who, **k: asked.append((who, c, k)) or ask(c, who, **k))
    samples = samples_of(groups)
    recipe.views(samples, groups, tools)
    (who, conversations, settings), wanted = asked[0], {s.group for s in samples}
    assert (who, settings) == ("teacher", {"max_tokens": 5})
    assert len(conversations) == len(wanted)
    assert all(tools.gold(g) in said_to(c) for g, c in zip(sorted(wanted), conversations, strict=True))
    for s in samples:
        text = recipe.state_dict()["rationales"][groups[s.group].task["id"]]
        assert text
        assert text in said_to(s.teacher_messages)
        assert text not in said_to(s.messages)

    resumed = OPSD(context=recipe.context, rationale_tokens=5)
    resumed.load_state_dict(recipe.state_dict())
    for again in (recipe, resumed):
        asked.clear()
        fresh = samples_of(groups)
        again.views(fresh, groups, tools)
        assert all(not c for _, c, _ in asked), "they are kept, over a resume too"
        assert [s.teacher_ids for s in fresh] == [s.teacher_ids for s in samples]


def test_a_teacher_that_moves_writes_anew(engine, groups, monkeypatch):
    recipe = OPSD(
        teacher={"kind": "ema"}, context={"sources": ["rationale"], "allow_reference": True}, rationale_tokens=4
    )
    tools, asked = tools_of(engine, recipe), []
    ask = tools.ask
    monkeypatch.setattr(tools, "ask", lambda c, who, **k: asked.append(len(c)) or ask(c, who, **k))
    for _ in range(2):
        recipe.views(samples_of(groups), groups, tools)
    assert asked == [3, 3]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"form": "sampled"}, "recipe.alpha=0.5"),
        ({"form": "sampled", "alpha": 1.0, "clip": 0.1}, "recipe.clip=0.1"),
        ({"context": {"sources": ["rationale"]}}, "allow_reference"),
    ],
)
def test_opsd_refuses(settings, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        OPSD(**settings)


def test_what_opsd_needs_of_its_teacher():
    assert set(OPSD().needs()) == {"logits"}
    assert set(OPSD(top_k=50).needs()) == {"top_k"}
    assert set(OPSD(form="sampled", alpha=1.0).needs()) == {"logprob"}
    shown = {"sources": ["reference+rationale"], "allow_reference": True}
    assert set(OPSD(context=shown).needs()) == {"logits", "generate"}


def test_a_teacher_is_checked_with_the_texts_that_its_recipe_makes(engine):
    recipe = OPSD(context={"sources": ["reference+rationale"], "allow_reference": True}, rationale_tokens=3)
    environments = Environments(coin.ID, "train", {"max_turns": 1})
    result = check_teacher(
        engine, Teacher(engine, recipe.teacher), recipe, environments,
        tasks=2, attempts=2, sampling=Sampling(max_tokens=4), seed=0,
    )  # fmt: skip
    assert result.taught == result.attempts == 4
    assert recipe.state_dict() == {"rationales": {}}, "what it wrote for the check is no part of the run"


# ---- PW-OPSD


def test_weights_of_one_and_no_cap_are_the_forward_kl_of_opsd():
    assert_same(PWOPSD(w_min=1.0, clip=None, mean="token"), OPSD(alpha=0.0))


def test_every_sequence_weighs_the_same_however_long():
    """A sequence of one token and one of four, with equal divergences: the long one adds what its mean weight says."""
    table, word = torch.zeros(3, dtype=torch.float64, requires_grad=True), torch.tensor([1.0, 0.0, 0.0]).double()
    recipe = PWOPSD(clip=None, w_min=0.0, tau=0.0, s=1e-3)  # all weights 1
    loss, _ = on_tables(recipe, [sample([0]), sample([0, 1, 2, 1], attempt=1)], lambda _: table, lambda _: word)
    q = word.softmax(0)
    assert loss == pytest.approx(float((q * (q * 3).log()).sum()), abs=1e-6)


def pushed(recipe: Any) -> torch.Tensor:
    """Gradient to the logits of p = (0.8, 0.15, 0.05) from q = (0.9, 0.06, 0.04), the caution's example."""
    p = torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64).log().requires_grad_()
    on_tables(recipe, [sample([0])], lambda _: p, lambda _: torch.tensor([0.9, 0.06, 0.04], dtype=torch.float64).log())
    assert p.grad is not None
    return p.grad


def test_the_published_cap_pushes_down_what_the_teacher_wants_more_of():
    """q log(q / p) of the first outcome is 0.106: cut at 0.05. By hand p_0 Q - q_0 0, Q = 0.1: 0.08."""
    weight = float(0.25 + 0.75 / (1 + math.exp(-2)))
    with pytest.warns(UserWarning, match="reverses gradients"):
        published = pushed(PWOPSD())
    assert float(published[0]) == pytest.approx(weight * 0.8 * 0.1, abs=1e-6)
    for recipe in (PWOPSD(clip=None), PWOPSD(clip=0.005, clip_at="position")):
        assert float(pushed(recipe)[0]) < 0, "uncut, and cut by positions, it is pushed up"


# ---- vOPD


@pytest.mark.parametrize("settings", [{}, {"top_k": 2}, {"form": "sampled"}])
def test_the_expected_gradient_is_the_reverse_kls(settings):
    """Over all five outcomes, each as often as the policy samples it; with any baseline."""
    g = torch.Generator().manual_seed(2)
    p, q = (torch.randn(5, generator=g, dtype=torch.float64) for _ in range(2))
    outcomes, often = [sample([v], attempt=v) for v in range(5)], p.softmax(0).tolist()
    leaf = p.clone().requires_grad_()
    on_tables(VOPD(**settings), outcomes, lambda _: leaf, lambda _: q, often)
    exact = p.clone().requires_grad_()
    divergence(exact.log_softmax(-1)[None], q.log_softmax(-1)[None], 1.0).sum().backward()
    torch.testing.assert_close(leaf.grad, exact.grad, atol=1e-6, rtol=1e-5)


def test_with_its_baseline_an_expected_word_teaches_nothing():
    """Where all log-ratios are equal to their mean, there is no advantage; without a baseline there is."""
    p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss, _ = on_tables(VOPD(), [sample([0])], lambda _: p, lambda _: torch.tensor([3.0, 3.0]).double())
    assert loss == pytest.approx(0.0, abs=1e-7)


def test_the_verifiers_advantage_is_added():
    """Without a teacher's word, weight 1: GRPO with the same clip."""

    def untaught(w: World) -> None:
        for s in w.samples:
            s.show("teacher", None)

    assert_same(VOPD(policy_weight=1.0), get("grpo")(clip_high=0.2), prepare=untaught)


# ---- TIP


def chosen(entropy: list[float], gap: list[float], **settings: Any) -> list[bool]:
    recipe = TIP(**settings)
    batch = Batch([sample([0] * len(entropy))])
    batch.student = Student(torch.zeros(len(gap)), torch.tensor(entropy), torch.tensor(gap))
    kept: list[bool] = recipe.chosen(batch).tolist()
    return kept


def test_unsure_tokens_and_sure_wrong_ones_are_kept():
    """Soft or of (h, d) = (0, 0), (0, 1), (1, 0), (0.5, 0.5): 0, 1, 1, 0.75."""
    entropy, gap = [0.0, 0.0, 2.0, 1.0], [0.0, 4.0, 0.0, 2.0]
    assert chosen(entropy, gap, rho=0.5, quantile=1.0) == [False, True, True, False]
    assert chosen(entropy, gap, rho=0.75, quantile=1.0) == [False, True, True, True]


def test_one_very_unsure_token_does_not_press_down_the_others():
    """Entropies 0, 1, 1.4, 100, cut at their median 1.2: h^ = 0, 0.83, 1, 1; with d^ = 0, 1/3, 0, 1: 0, 0.89, 1, 1."""
    entropy, gap = [0.0, 1.0, 1.4, 100.0], [0.0, 1.0, 0.0, 3.0]
    assert chosen(entropy, gap, rho=0.5, quantile=0.5) == [False, False, True, True]
    assert chosen(entropy, gap, rho=0.5, quantile=1.0) == [False, True, False, True], "not cut"


def test_the_released_product_never_draws_a_sure_token_first():
    entropy, gap = [0.0, 1.0, 1.0, 1.0], [9.0, 0.5, 0.5, 0.5]
    assert chosen(entropy, gap, rho=0.75, select="product") == [False, True, True, True]
    assert chosen(entropy, gap, rho=0.25, quantile=1.0) == [True, False, False, False], "the paper's keeps it"


def test_draws_are_those_of_the_steps_seed():
    recipe, entropy = TIP(rho=0.5, select="product"), torch.ones(40)
    batch = Batch([sample([0] * 40)])
    batch.student = Student(entropy, entropy, entropy)
    draws = []
    for recipe._seed in ("0:1", "0:1", "0:2"):
        draws.append(recipe.chosen(batch).tolist())
    assert draws[0] == draws[1] != draws[2]
    assert sum(draws[0]) == 20


@pytest.mark.parametrize("select", ["soft_or", "product"])
def test_all_tokens_are_opd(select):
    assert_same(TIP(rho=1.0, select=select), get("opd")())


def test_what_is_left_out_has_no_gradient():
    loss, hidden = loss_and_gradient(TIP(rho=0.2))
    full = loss_and_gradient(get("opd")())[1]
    learnt, taught = int(hidden.any(-1).sum()), int(full.any(-1).sum())
    assert learnt == math.ceil(0.2 * taught)
    assert loss > 0


# ---- MOPD


def told(name: str, reward: float) -> Trajectory:
    question = [{"role": "user", "content": "Say it."}]
    return Trajectory([Turn([1, 2], [3, 4], [-1.0, -1.0], name, question, reward)])


PEERS = [
    Group({"id": "0"}, [told("right-a", 1.0), told("right-b", 1.0), told("wrong-c", 0.0), told("wrong-d", 0.0)]),
    Group({"id": "1"}, [told("right-e", 1.0), told("wrong-f", 0.0), told("wrong-g", 0.0), told("wrong-h", 0.0)]),
    Group({"id": "2"}, [told("wrong-i", 0.0), told("wrong-j", 0.0), told("wrong-k", 0.0), told("wrong-l", 0.0)]),
    Group({"id": "3"}, [told("right-m", 1.0), told("right-n", 1.0), told("right-o", 1.0), told("right-p", 1.0)]),
]


@pytest.mark.parametrize("peers", ["imitate", "contrast"])
def test_peers_are_others_and_one_of_them_succeeded(engine, peers):
    recipe, samples = MOPD(peers=peers), samples_of(PEERS)
    recipe.views(samples, PEERS, StepTools(engine.chat, seed="s"))
    for s in samples:
        others = {t.turns[0].text for a, t in enumerate(PEERS[s.group].trajectories) if a != s.attempt}
        if not any(text.startswith("right") for text in others):
            assert s.teacher_messages is None, "no success beside it"
            continue
        shown = set(re.findall(r"(?:right|wrong)-\w", said_to(s.teacher_messages)))
        assert shown <= others, "its own text is what is scored"
        assert sum(text.startswith("right") for text in shown) == 1
        failed = any(text.startswith("wrong") for text in others)
        assert sum(text.startswith("wrong") for text in shown) == (peers == "contrast" and failed)


def test_mopd_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"recipe.context.sources=.*recipe.peers='contrast'"):
        MOPD(context={"sources": ["feedback"]})
    with pytest.raises(SetupError, match=r"batch\.attempts is 2"):
        build({"recipe": "mopd", "batch": {"attempts": 2}})
    assert build({"recipe": {"name": "mopd", "peers": "imitate"}, "batch": {"attempts": 2}}).recipe.context.sources == [
        "sibling"
    ]


# ---- dGRPO


def test_without_a_teachers_weight_it_is_grpo_and_asks_no_teacher():
    recipe = DGRPO(beta=0.0)
    assert not recipe.teaching()
    assert_same(recipe, get("grpo")())


def test_a_schedule_turns_the_teacher_off():
    recipe = DGRPO(beta={"start": 0.5, "kind": "linear", "to": 0.0, "over": 4})
    taught = []
    for step in (0, 2, 3, 4, 9):
        recipe.begin(step)
        taught.append((recipe.beta.at(step), recipe.teaching()))
    assert taught == [(0.5, True), (0.25, True), (0.125, True), (0.0, False), (0.0, False)]


def test_the_two_losses_add_up():
    beta = 0.7
    both, grpo, opd = (loss_and_gradient(r)[1] for r in (DGRPO(beta=beta), get("grpo")(), get("opd")()))
    torch.testing.assert_close(both, grpo + beta * opd, atol=1e-6, rtol=1e-5)


# ---- MiniLLM


def test_both_parts_together_are_the_gradient_of_the_sequences_reverse_kl():
    """All 27 sequences of three tokens of three, each as often as the policy samples it, against autograd."""
    g, prefixes = torch.Generator().manual_seed(4), [p for t in range(3) for p in itertools.product(range(3), repeat=t)]
    row = {prefix: i for i, prefix in enumerate(prefixes)}
    p, q = (torch.randn(len(row), 3, generator=g, dtype=torch.float64) for _ in range(2))
    sequences = list(itertools.product(range(3), repeat=3))

    def total(table: torch.Tensor, y: tuple[int, ...]) -> torch.Tensor:
        return torch.stack([table[row[y[:t]]].log_softmax(-1)[y[t]] for t in range(3)]).sum()

    leaf = p.clone().requires_grad_()
    recipe = MiniLLM(normalise_length=False)
    often = [float(total(p, y).exp()) for y in sequences]
    made = [sample(y, attempt=i) for i, y in enumerate(sequences)]
    on_tables(recipe, made, lambda prefix: leaf[row[prefix]], lambda prefix: q[row[prefix]], often)
    exact = p.clone().requires_grad_()
    kl = torch.stack([total(exact, y).exp() * (total(exact, y) - total(q, y)) for y in sequences]).sum()
    kl.backward()
    torch.testing.assert_close(leaf.grad, exact.grad, atol=1e-6, rtol=1e-5)


def test_without_looking_ahead_it_is_opd():
    assert_same(MiniLLM(long_weight=0.0), get("opd")())


def other_model(tmp_path: Any) -> dict[str, Any]:
    return {"kind": "external", "model": str(save_tiny(tmp_path / "other", seed=3))}


def test_who_samples(engine, tmp_path):
    """The policy with a self-teacher; with another model a fifth of it is the teacher's."""
    assert MiniLLM().sampler(engine, {}) is None
    recipe = MiniLLM(teacher=other_model(tmp_path))
    sampler = recipe.sampler(engine, make_teachers(engine, recipe.teachers()))
    assert isinstance(sampler, MixedEngine)
    assert sampler.share == 0.2
    assert MiniLLM(teacher=recipe.teacher, mix=0.0).sampler(engine, {}) is None


def test_a_run_samples_from_the_mixture(engine, tmp_path, tiny_dir, monkeypatch):
    """What turns say of their log-probabilities is the mixture's, so that weights are relative to it."""
    made: list[Group] = []
    monkeypatch.setattr("agents.training.trainer.rollout", lambda *a, **k: made.extend(rollout(*a, **k)) or made)
    teacher = other_model(tmp_path)
    run = train("minillm", tiny_dir, tmp_path / "run", recipe={"teacher": teacher, "mix": 0.4}, steps=1)
    assert read_jsonl(run / "metrics.jsonl")[0]["optimizer_steps"] == 1
    other = Teacher(engine, TeacherSettings(**teacher)).reader
    for turn in [t for g in made for a in g.trajectories for t in a.turns][:5]:
        at = torch.tensor(turn.action_ids)[:, None]
        with torch.no_grad():
            p, q = (
                e.model(torch.tensor([turn.prompt_ids + turn.action_ids])).logits[0, len(turn.prompt_ids) - 1 : -1]
                for e in (engine, other)
            )
        expected = (0.6 * p.softmax(-1) + 0.4 * q.softmax(-1)).log().gather(1, at)[:, 0]
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=1e-3)


def test_texts_are_learnt_as_they_are_and_never_taught(engine, groups, tmp_path):
    (tmp_path / "texts.txt").write_text("Oslo is in Norway.\n\n\n\nMilk is white, and\nsnow is too.\n")
    recipe = MiniLLM(texts=str(tmp_path / "texts.txt"), texts_per_step=5, texts_tokens=6)
    tools = tools_of(engine, recipe)
    samples = recipe.samples(groups, tools)
    texts = [s for s in samples if s.source == TEXT]
    assert len(texts) == 5
    assert {s.text for s in texts} <= {"Oslo is in Norway.", "Milk is white, and\nsnow is too."}
    assert all([*s.prompt_ids, *s.action_ids] == engine.chat.plain(s.text)[:6] for s in texts)
    recipe.views(samples, groups, tools)
    assert all(s.teacher_ids is None for s in texts)
    again = [s.text for s in recipe.samples(groups, tools) if s.source == TEXT]
    assert again == [s.text for s in texts], "drawn by the step's seed"


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", '{"words": 1}\n'), ("b.txt", " \n\n "), ("none.txt", None)])
def test_texts_that_cannot_be_read_name_the_setting(engine, groups, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_text(content)
    recipe = MiniLLM(texts=str(tmp_path / name))
    with pytest.raises(SetupError, match=r"recipe\.texts="):
        recipe.samples(groups, tools_of(engine, recipe))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mix": 0.2}, "recipe.teacher.kind=external"),
        ({"mix": 0.2, "teacher": {"kind": "external", "model": "m"}, "context": {"sources": ["feedback"]}}, "[none]"),
        ({"mix": 0.6, "teacher": {"kind": "external", "model": "m"}}, "recipe.is_clip=2"),
    ],
)
def test_minillm_refuses(settings, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        MiniLLM(**settings)


# ---- Uni-OPD


def shifts(**settings: Any) -> tuple[list[float], list[bool]]:
    """Attempts of log-ratio -1 and -2 (right), -1 and 0 (wrong), of two tokens each, and a group that is all right."""
    recipe = UniOPD(**settings)
    rewards, words = [1.0, 1.0, 0.0, 0.0, 1.0], [-1.0, -2.0, -1.0, 0.0, -5.0]
    made = [sample([0, 0], r, int(i == 4), i) for i, r in enumerate(rewards)]
    logits = {i: torch.tensor([w - math.log(2), 0.0]).double() for i, w in enumerate(words)}
    table = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    order = iter([i for i in range(5) for _ in range(2)])

    def teacher(prefix: tuple[int, ...]) -> torch.Tensor:
        logq = float(logits[next(order)][0])
        return torch.tensor([logq, math.log(1 - math.exp(logq))]).double()

    _, batch = on_tables(recipe, made, lambda _: table, teacher)
    shift, kept = recipe.calibrated(batch)
    return shift.tolist(), kept.tolist()


def test_the_published_calibration():
    """Means -1.5 and -0.5: the gap is -1, 1.4 is missing to 0.4, half each; a group of one kind stays as it is."""
    shift, kept = shifts()
    assert shift == pytest.approx([0.7, 0.7, -0.7, -0.7, 0.0], abs=1e-5)
    assert all(kept)


HALF = (0.4 + 8 / 3 - 0.5) / 2
"""Over the batch: means (-1 - 2 - 5) / 3 and -0.5, so that 0.4 + 8 / 3 - 0.5 is missing."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"direction": "up"}, [1.4, 1.4, 0, 0, 0]),
        ({"direction": "down"}, [0, 0, -1.4, -1.4, 0]),
        ({"mode": "minmax"}, [1.2, 1.2, -1.2, -1.2, 0]),  # -2 against 0
        ({"scope": "batch"}, [HALF, HALF, -HALF, -HALF, HALF]),
        ({"delta": -1.5}, [0, 0, 0, 0, 0]),
    ],
)
def test_other_calibrations(settings, expected):
    shift, _ = shifts(**settings)
    assert shift == pytest.approx(expected, abs=1e-5)


def test_the_mask_drops_the_best_marked_wrong_or_the_worst_marked_right():
    _, kept = shifts(repair="mask", delta=0.4)
    assert kept[4], "a group of one kind stays"
    assert kept[:4] == [True, False, True, False]  # -1 and -1 are left: no wider gap is to be had with one of each


def test_a_balance_leaves_out_the_surplus():
    _, kept = shifts(ratio=1.0, delta=-9.0)
    right, wrong = kept[0] + kept[1] + kept[4], kept[2] + kept[3]
    assert (right, wrong) == (2, 2)


def test_where_the_order_is_right_it_is_the_plain_surrogate():
    """On the first step after a rollout its gradient is that of sampled-token distillation."""

    def on_policy(w: World) -> None:
        for s in w.samples:
            s.logprobs = None

    one, other = UniOPD(delta=-99.0), get("opd")(form="sampled")
    a, b = World(one, 2, on_policy), World(other, 2, on_policy)
    for w in (a, b):
        w.batch.old_logprobs = w.logp_y().detach()
    torch.testing.assert_close(a.fused()[1][0], b.fused()[1][0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["uni_opd", "lightning_opd"])
def test_sampled_recipes_have_no_other_form_and_no_judge(name):
    with pytest.raises(ValueError, match=r"recipe\.form='full'"):
        get(name)(form="full")
    with pytest.raises(ValueError, match=r"recipe\.intervention"):
        get(name)(intervention={"judge": {"kind": "rule"}})
    assert set(get(name)().needs()) == {"logprob"}


def test_what_a_server_cannot_say_is_refused_before_anything_is_loaded():
    """Sampled tokens' scores are enough for two of them; MiniLLM samples from the teacher's distribution."""
    teacher = {"kind": "server", "url": "http://localhost:1/v1"}
    for name in ("uni_opd", "lightning_opd"):
        get(name)(teacher=teacher).check_teachers()
    for name in ("minillm", "vopd", "tip"):
        with pytest.raises(SetupError, match="full logits"):
            get(name)(teacher=teacher).check_teachers()
