"""Teachers that are the policy at some age: when they move, what they keep, and what they can be asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.errors import SetupError
from agents.teachers.abilities import ABILITIES, require
from agents.teachers.gate import RefreshGate
from agents.teachers.teacher import Teacher, TeacherSettings, make_teachers
from agents.training import checkpoints
from agents.training.learner import Learner, OptimSettings

ITEMS = [([1, 50, 51], [70, 71])]


class Weights:
    """The least of an engine: one tensor to be trained."""

    context_length = 8

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.model = torch.nn.Linear(4, 3, bias=False).to(dtype)

    def now(self) -> torch.Tensor:
        return self.model.weight.detach().clone()

    @torch.no_grad()
    def move(self) -> torch.Tensor:
        self.model.weight.add_(torch.randn_like(self.model.weight))
        return self.now()


def teacher_of(weights: Any, **changes: Any) -> Teacher:
    return Teacher(weights, TeacherSettings(**changes))


def numbers(reward: float | None, truncated: float | None = 0.0) -> dict[str, Any]:
    return {"reward": reward, "truncated": truncated}


# ---- when they move


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0, 1), moves=st.integers(1, 5))
def test_an_ema_is_the_recursion_in_fp32_to_the_bit(dtype, rate, moves):
    weights = Weights(dtype)
    teacher = teacher_of(weights, kind="ema", rate=rate)
    expected = weights.now().float()
    for _ in range(moves):
        expected = torch.lerp(expected, weights.move().float(), rate)
        teacher.update()
        assert torch.equal(teacher.shadow["weight"], expected)
    assert teacher.shadow["weight"].dtype == torch.float32


@settings(max_examples=20, deadline=None)
@given(every=st.integers(1, 4), batches=st.integers(1, 9))
def test_a_periodic_teacher_is_the_policy_of_the_last_whole_period(every, batches):
    weights = Weights()
    teacher = teacher_of(weights, kind="periodic", every=every)
    path = [weights.now()]
    for batch in range(1, batches + 1):
        path.append(weights.move())
        teacher.update()
        assert torch.equal(teacher.shadow["weight"], path[batch - batch % every])


@settings(max_examples=50, deadline=None)
@given(
    rewards=st.lists(st.floats(0, 1), min_size=1, max_size=25),
    cut=st.lists(st.sampled_from([0.0, 0.05, 0.4]), min_size=25, max_size=25),
    every=st.integers(1, 4),
)
def test_a_gated_teacher_is_only_renewed_when_better_and_no_longer(rewards, cut, every):
    weights = Weights()
    teacher = teacher_of(weights, kind="gated", every=every, gain=0.02, longest=0.1)
    level, last, copied = None, 0, weights.now()
    for step, (reward, share) in enumerate(zip(rewards, cut, strict=False), 1):
        now = weights.move()
        teacher.update()
        teacher.observe(numbers(reward, share))
        window = slice(max(last, step - every), step)
        mean = sum(rewards[window]) / every
        if step - last >= every and (level is None or (mean >= level + 0.02 and sum(cut[window]) / every <= 0.1)):
            if level is not None:
                copied = now
            level, last = mean, step
        assert torch.equal(teacher.shadow["weight"], copied), f"step {step}"


def test_the_first_window_of_a_gate_only_measures_and_gaps_are_passed_over():
    gate = RefreshGate(every=2, gain=0.1, longest=0.1)
    said = [gate.observe(numbers(r)) for r in (0.2, None, 0.2, 0.5)]
    assert said == [False] * 4
    assert gate.level == pytest.approx(0.2)
    assert gate.observe(numbers(0.5))
    assert (gate.level, gate.refreshes, gate.rewards) == (0.5, 1, [])


def test_long_replies_keep_a_gate_shut_until_they_are_gone():
    gate = RefreshGate(every=2, gain=0.0, longest=0.1)
    assert not any(gate.observe(numbers(0.2)) for _ in range(2))
    assert not any(gate.observe(numbers(0.9, 0.3)) for _ in range(4))
    assert [gate.observe(numbers(0.9, 0.0)) for _ in range(2)] == [False, True]


# ---- what they keep


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "frozen"}, {"kind": "ema", "rate": 0.3}, {"kind": "trust_region"}, {"kind": "periodic", "every": 3},
        {"kind": "gated", "every": 2, "gain": 0.0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_teacher_that_is_saved_and_restored_goes_on_as_if_nothing_had_been(changes, stop, tmp_path):
    def follow(restart: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        weights = Weights()
        teacher, seen = teacher_of(weights, **changes), []
        for step in range(8):
            if restart and step == stop:
                torch.save(teacher.state_dict(), tmp_path / "state.pt")
                weights_then = weights.now()
                weights.model.weight.data.zero_()
                teacher = teacher_of(weights, **changes)
                teacher.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
                weights.model.weight.data.copy_(weights_then)
            weights.move()
            teacher.update()
            teacher.observe(numbers(0.1 * step))
            seen.append(teacher.shadow["weight"].clone())
        return seen

    whole, broken = follow(False), follow(True)
    assert all(torch.equal(a, b) for a, b in zip(whole, broken, strict=True))
    moved = not torch.equal(whole[0], whole[-1])
    assert moved == (changes["kind"] in ("ema", "periodic", "gated"))


def test_a_shadow_alone_is_restored_too():
    weights = Weights()
    teacher, old = teacher_of(weights, kind="ema"), {"weight": torch.ones(3, 4)}
    teacher.load_state_dict(old)
    assert torch.equal(teacher.shadow["weight"], old["weight"])


def test_a_checkpoint_holds_shadow_and_gate(engine, tmp_path):
    teacher = teacher_of(engine, kind="gated", every=2)
    learner = Learner(engine, OptimSettings(), 1.0)
    for step in range(5):
        teacher.update()
        teacher.observe(numbers(0.1 * step))
    checkpoints.save(tmp_path, 5, learner, {"teacher": teacher})
    again = teacher_of(engine, kind="gated", every=2)
    assert checkpoints.restore(checkpoints.latest(tmp_path), learner, {"teacher": again}) == 5
    assert again.gate == teacher.gate
    assert again.gate.refreshes == 1
    assert again.batches == 5
    assert checkpoints.state_bytes(learner, {"teacher": again}) > checkpoints.state_bytes(learner, {})


# ---- several


def test_teachers_of_equal_weights_share_them_and_are_moved_once():
    weights = Weights()
    plain = {"kind": "ema", "rate": 0.5}
    made = make_teachers(
        weights,
        {
            "a": TeacherSettings(**plain),
            "sharper": TeacherSettings(**plain, temperature=0.5),
            "slower": TeacherSettings(kind="ema", rate=0.1),
            "start": TeacherSettings(kind="frozen"),
            "region": TeacherSettings(kind="trust_region", rate=0.2),
        },
    )
    assert made["sharper"].shadow is made["a"].shadow
    assert made["region"].shadow is made["start"].shadow
    assert made["slower"].shadow is not made["a"].shadow
    start, now = weights.now(), weights.move()
    for teacher in made.values():
        teacher.update()
    assert torch.equal(made["sharper"].shadow["weight"], torch.lerp(start, now, 0.5))
    assert [bool(t.state_dict()) for t in made.values()] == [True, False, True, True, False]
    assert [t.state_bytes for t in made.values()] == [48, 0, 48, 48, 0]


def test_a_shared_teacher_reads_at_its_own_temperature(engine):
    sharp = TeacherSettings(kind="frozen", temperature=0.5)
    made = make_teachers(engine, {"a": TeacherSettings(kind="frozen"), "b": sharp})
    a, b = (made[name].score(ITEMS, 1.0).logits.logits(slice(None)) for name in ("a", "b"))
    assert torch.allclose(b, 2 * a, atol=1e-4)


# ---- what they can be asked for


@pytest.mark.parametrize("kind", ["live", "frozen", "ema", "trust_region", "periodic", "gated"])
def test_a_model_in_this_process_can_do_everything(kind):
    settings = TeacherSettings(kind=kind)
    assert settings.abilities == set(ABILITIES)
    require(settings, set(ABILITIES))


SERVER = {"kind": "server", "url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize(
    ("top_k", "lacks"), [(20, {"logits"}), (0, {"logits", "top_k", "logprob", "generate_from_prefix"})]
)
def test_a_server_can_do_what_its_settings_promise(top_k, lacks):
    asked = TeacherSettings(**SERVER, top_k=top_k)
    require(asked, set(ABILITIES) - lacks)
    for ability in lacks:
        with pytest.raises(SetupError, match=r"recipe\.teacher\.kind='server'"):
            require(asked, {ability})


def test_the_refusal_names_the_settings_of_both_sides_and_the_way_out():
    with pytest.raises(SetupError) as raised:
        require(TeacherSettings(**SERVER), {"logits": "recipe.top_k=0"})
    assert str(raised.value) == (
        "recipe.top_k=0 needs the teacher's full logits, but recipe.teacher.kind='server' gives the 20 likeliest "
        "tokens: set recipe.support=teacher and recipe.top_k=20, or recipe.form=sampled, or take "
        "recipe.teacher.kind=external with the model in this process"
    )


def test_an_ability_that_does_not_exist_is_a_mistake():
    with pytest.raises(ValueError, match="telepathy"):
        require(TeacherSettings(), {"telepathy"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "server"}, "needs teacher.url"),
        ({"kind": "server", "url": "localhost:8000"}, "needs teacher.url"),
        ({"kind": "ema", "url": "http://x/v1"}, r"teacher.url='http://x/v1' belongs to teacher.kind='server'"),
        ({"kind": "external", "model": "a/b", "top_k": 5}, "belongs to teacher.kind='server'"),
        ({"kind": "ema", "every": 3}, "belongs to teacher.kind='periodic' or 'gated'"),
        ({"kind": "periodic", "gain": 0.5}, "belongs to teacher.kind='gated'"),
        ({"kind": "frozen", "model": "a/b"}, "belongs to teacher.kind='external' or 'server'"),
        ({**SERVER, "dtype": "float32"}, "belongs to teacher.kind='external'"),
    ],
)
def test_a_setting_of_another_kind_is_an_error(changes, said):
    with pytest.raises(ValidationError, match=said):
        TeacherSettings(**changes)


def test_a_server_is_not_made_without_asking_it():
    with pytest.raises(ValueError, match="make_teacher"):
        Teacher(Weights(), TeacherSettings(**SERVER))
