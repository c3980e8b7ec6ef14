"""Who scores: the policy itself, at some age.

All four kinds are one mechanism: a shadow of the trainable weights, swapped in while the teacher reads.

    live          no shadow                  phi = theta (reported to collapse; for comparison)
    frozen        shadow of step 0           phi = theta_0 (under LoRA: the base model)
    ema           shadow, in fp32            phi <- (1 - u) phi + u theta, once a rollout batch
    trust_region  shadow of step 0           log q = (1 - u) log q_0 + u log p + const, both on the teacher's context

Source: SDPO (arXiv 2601.20802), teacher regularisation. Shadows are fp32 whatever the model's dtype: in bf16 an
EMA step of 0.01 is rounded away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from agents.batch import Batch, Reading
from agents.engines.hf import HFEngine, Scored
from agents.losses.fused import Head, fused_loss
from agents.losses.fused import Teacher as TeacherLogits


class TeacherSettings(BaseModel):
    """Which weights teach."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["live", "frozen", "ema", "trust_region"] = Field("ema", description="whose weights teach")
    rate: float = Field(
        0.05, ge=0, le=1, description="u: EMA step a rollout batch, or the trust region's mixing weight"
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="divides the teacher's logits, beside the sampling temperature; below 1 it sharpens",
    )


class Teacher:
    """The teacher's weights, and its logits for given ids."""

    def __init__(self, engine: HFEngine, settings: TeacherSettings) -> None:
        self.engine, self.settings = engine, settings
        self.shadow: dict[str, Tensor] = {}
        if settings.kind != "live":
            self.shadow = {name: p.detach().float().clone() for name, p in self._trainable()}

    @classmethod
    def live(cls, engine: HFEngine) -> Teacher:
        """The policy as it is now."""
        return cls(engine, TeacherSettings(kind="live"))

    def _trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.engine.model.named_parameters() if p.requires_grad]

    @contextmanager
    def weights(self) -> Iterator[None]:
        """The engine's model has the shadow's weights inside this block."""
        student = []
        try:
            for name, parameter in self._trainable():
                if name in self.shadow:
                    student.append((parameter, parameter.data))
                    parameter.data = self.shadow[name].to(parameter.dtype)
            yield
        finally:
            for parameter, data in student:
                parameter.data = data

    @torch.no_grad()
    def logits(self, items: Sequence[Scored], sampling_temperature: float) -> TeacherLogits:
        """The teacher's logits for ``items`` (teacher's prompt, action), as hidden states and heads, token order."""
        u = self.settings.rate
        with self.weights():
            parts = [(1.0, *self.read(items))]
        if self.settings.kind == "trust_region":
            parts = [(1.0 - u, *parts[0][1:]), (u, *self.read(items))]
        return TeacherLogits(parts, temperature=sampling_temperature * self.settings.temperature)

    def read(self, items: Sequence[Scored]) -> tuple[Tensor, Head]:
        """Hidden states [N, d] of the actions' tokens under the weights now in the model, and its detached head."""
        hidden = self.engine.read(items)
        head = self.engine.head()
        detached = Head(
            head.weight.detach(), None if head.bias is None else head.bias.detach(), head.scale, head.softcap
        )
        return hidden, detached

    @torch.no_grad()
    def update(self) -> None:
        """After a rollout batch: move an EMA teacher towards the policy."""
        if self.settings.kind == "ema":
            for name, parameter in self._trainable():
                self.shadow[name].lerp_(parameter.detach().float(), self.settings.rate)

    def state_dict(self) -> dict[str, Tensor]:
        """The shadow, fp32."""
        return self.shadow

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        for name, tensor in self.shadow.items():
            tensor.copy_(state[name])


@torch.no_grad()
def read_teacher(batch: Batch) -> Reading:
    """What ``batch.teacher`` says at the tokens of the taught samples."""
    assert batch.teacher is not None
    taught = batch.per_token(batch.taught)
    _, hidden, head = batch.teacher.parts[0]
    targets = batch.targets[taught].to(hidden.device)
    _, stats = fused_loss(hidden, head, targets, [], teacher=batch.teacher, top=1)
    assert stats.top_ids is not None
    assert stats.top_teacher is not None
    agrees = torch.zeros(len(taught), dtype=torch.bool)
    agrees[taught] = (stats.top_ids[:, 0] == targets).cpu()

    def spread(values: Tensor) -> Tensor:
        whole = torch.full((len(taught),), math.nan)
        whole[taught] = values.float().cpu()
        return whole

    return Reading(spread(stats.teacher_logp), spread(stats.teacher_entropy), spread(stats.top_teacher[:, 0]), agrees)
