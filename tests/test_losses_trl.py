"""Our loss and its gradient against TRL's, on the same logits.

pip install --no-deps trl==1.16.0 liger-kernel==0.8.5 && pip install datasets accelerate
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from agents.losses.fused import Head, Teacher, fused_loss
from agents.losses.reduction import sequence_mean, token_mean
from agents.losses.terms import Distill, PolicyGradient

torch.set_num_threads(1)

pytestmark = pytest.mark.peer

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
B, T, V, D = 3, 4, 29, 6
N = B * T


@pytest.fixture(scope="module")
def trl() -> Any:
    """TRL's loss functions of self-distillation."""
    reason = "TRL 1.16 is not installed (see the top of this file)"
    return pytest.importorskip("trl.experimental.sdpo.loss_utils", reason=reason, exc_type=ImportError)


@pytest.fixture
def data() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return {
        "hidden": normal(N, D).requires_grad_(),
        "weight": normal(V, D).requires_grad_(),
        "teacher_hidden": normal(N, D),
        "teacher_weight": normal(V, D),
        "targets": torch.randint(V, (N,), generator=g),
        "mask": torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=torch.float64),
        "old": normal(N) - 5.0,
        "advantages": normal(N),
    }


def gradients(data: dict[str, Tensor], loss: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (data["hidden"], data["weight"]))


def assert_same(data: dict[str, Tensor], ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs() > 1e-4
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-8)
    for a, b in zip(gradients(data, ours), gradients(data, theirs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-8)


def full_logits(data: dict[str, Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    student = data["hidden"] @ data["weight"].t() / temperature
    return student, data["teacher_hidden"] @ data["teacher_weight"].t() / temperature


def ours(data: dict[str, Tensor], term: Distill, temperature: float, **options: Any) -> Tensor:
    teacher = Teacher([(1.0, data["teacher_hidden"], Head(data["teacher_weight"]))], temperature)
    loss, _ = fused_loss(
        data["hidden"],
        Head(data["weight"]),
        data["targets"],
        [term],
        teacher=teacher,
        temperature=temperature,
        chunk=5,
        **options,
    )
    return loss


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_full_vocabulary(trl: Any, data: dict[str, Tensor], alpha: float, temperature: float) -> None:
    coefficients = token_mean(data["mask"])
    student, teacher = full_logits(data, temperature)
    per_token = trl.compute_full_logit_self_distillation_loss(student, teacher, distillation_alpha=alpha)
    assert_same(data, ours(data, Distill(coefficients, alpha), temperature), (per_token * coefficients).sum())


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_top_k(trl: Any, data: dict[str, Tensor], alpha: float, tail: bool) -> None:
    coefficients = token_mean(data["mask"])
    student, teacher = full_logits(data, 1.0)
    per_token = trl.compute_topk_self_distillation_loss(
        student, teacher, distillation_topk=5, distillation_alpha=alpha, distillation_add_tail=tail
    )
    term = Distill(coefficients, alpha, top_k=5, tail=tail)
    assert_same(data, ours(data, term, 1.0), (per_token * coefficients).sum())


def test_sampled_token(trl: Any, data: dict[str, Tensor]) -> None:
    coefficients = token_mean(data["mask"])
    student, teacher = full_logits(data, 1.0)
    per_token = trl.compute_sampled_token_self_distillation_loss(
        student, teacher, data["targets"], distillation_alpha=1.0
    )
    term = Distill(coefficients, alpha=1.0, form="sampled")
    assert_same(data, ours(data, term, 1.0), (per_token * coefficients).sum())


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_clipped_importance_weight(trl: Any, data: dict[str, Tensor], alpha: float) -> None:
    coefficients = token_mean(data["mask"])
    student, teacher = full_logits(data, 1.0)
    logp = student.log_softmax(-1).gather(-1, data["targets"][:, None])[:, 0]
    ratios = (logp - data["old"])[data["mask"] > 0].exp()
    assert ratios.min() < 2.0 < ratios.max()  # the cap acts on some tokens and not on others
    per_token = trl.compute_full_logit_self_distillation_loss(student, teacher, distillation_alpha=alpha)
    per_token = trl.apply_importance_sampling_clipping(per_token, logp, data["old"], 2.0)
    term = Distill(coefficients, alpha, is_clip=2.0)
    theirs = (per_token * coefficients).sum()
    assert_same(data, ours(data, term, 1.0, old_logprobs=data["old"]), theirs)


def sdpo_trainer(**settings: Any) -> Any:
    """TRL's trainer reduced to what its loss methods read of it: no model, no data."""
    reason = "TRL 1.16 is not installed (see the top of this file)"
    module = pytest.importorskip("trl.experimental.sdpo.sdpo_trainer", reason=reason, exc_type=ImportError)

    class Model:
        training = True

    class Accelerator:
        @staticmethod
        def gather(value: Tensor) -> Tensor:
            return value

    class Args:
        pass

    trainer = object.__new__(module.SDPOTrainer)
    trainer.args = Args()
    trainer.model = Model()
    trainer.accelerator = Accelerator()
    trainer._log_self_distillation_metric = lambda *_: None
    trainer._metrics = {"train": {"self_distillation/policy_loss": []}}
    for name, value in settings.items():
        setattr(trainer.args, name, value)
        setattr(trainer, name, value)
    return trainer, module


def test_mean_over_sequences_counts_masked_out_ones(data: dict[str, Tensor]) -> None:
    trainer, module = sdpo_trainer(distillation_mode="full_logits", distillation_alpha=0.5, distillation_is_clip=2.0)
    student, teacher = full_logits(data, 1.0)
    shaped = module.DistillationLogits(
        completion_ids=data["targets"].view(B, T),
        completion_mask=torch.ones(B, T),
        loss_mask=data["mask"].view(B, T),
        student_logits=student.view(B, T, V),
        teacher_logits=teacher.view(B, T, V),
    )
    inputs = {"old_per_token_logps": data["old"].view(B, T)}
    theirs = trainer._compute_self_distillation_loss(trainer.model, inputs, shaped)
    coefficients = sequence_mean(data["mask"], torch.arange(N) // T, B)
    assert_same(data, ours(data, Distill(coefficients), 1.0, old_logprobs=data["old"]), theirs)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_clipped_surrogate(data: dict[str, Tensor], loss_type: str) -> None:
    trainer, _ = sdpo_trainer(
        importance_sampling_level="token", epsilon_low=0.2, epsilon_high=0.28, loss_type=loss_type
    )
    student, _ = full_logits(data, 1.0)
    inputs = {
        "completion_ids": data["targets"].view(B, T),
        "completion_mask": data["mask"].view(B, T),
        "old_per_token_logps": data["old"].view(B, T),
        "advantages": data["advantages"].view(B, T),
    }
    theirs = trainer._compute_policy_loss(inputs, student.view(B, T, V))
    coefficients = token_mean(data["mask"])
    if loss_type == "grpo":
        coefficients = sequence_mean(data["mask"], torch.arange(N) // T, B)
    loss, _ = fused_loss(
        data["hidden"],
        Head(data["weight"]),
        data["targets"],
        [PolicyGradient(coefficients, data["advantages"])],
        old_logprobs=data["old"],
    )
    assert_same(data, loss, theirs)


@pytest.mark.parametrize("beta", ALPHAS)
def test_generalised_jensen_shannon_of_gkd(data: dict[str, Tensor], beta: float) -> None:
    reason = "TRL 1.16 is not installed (see the top of this file)"
    gkd = pytest.importorskip("trl.experimental.gkd.gkd_trainer", reason=reason, exc_type=ImportError)
    student, teacher = (z[None] for z in full_logits(data, 1.0))
    labels = torch.where(data["mask"] > 0, data["targets"], -100)[None]
    theirs = gkd.GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta=beta, temperature=0.8)
    assert_same(data, ours(data, Distill(token_mean(data["mask"]), beta), 0.8), theirs)


@pytest.mark.parametrize("beta", ALPHAS)
def test_liger_fused_jensen_shannon(data: dict[str, Tensor], beta: float) -> None:
    liger = pytest.importorskip(
        "liger_kernel.chunked_loss", reason="liger-kernel is not installed", exc_type=ImportError
    )
    peer = liger.LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False, chunk_size=4
    )
    labels = torch.where(data["mask"] > 0, data["targets"], -100)
    to = {name: data[name].detach().float() for name in ("hidden", "weight", "teacher_hidden", "teacher_weight")}
    hidden, weight = to["hidden"].requires_grad_(), to["weight"].requires_grad_()
    theirs = peer(hidden, weight, to["teacher_hidden"], to["teacher_weight"], labels)
    mine = ours(data, Distill(token_mean(data["mask"]), beta), 1.0)
    torch.testing.assert_close(mine.float(), theirs, atol=1e-5, rtol=1e-4)
    expected = torch.autograd.grad(theirs, (hidden, weight))
    for a, b in zip(gradients(data, mine), expected, strict=True):
        torch.testing.assert_close(a.float(), b, atol=1e-5, rtol=1e-4)
