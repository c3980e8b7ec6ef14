"""Who scores: the policy itself, at some age, or another model.

The first four kinds are one mechanism: a shadow of the trainable weights, swapped in while the teacher reads.

    live          no shadow                  phi = theta (reported to collapse; for comparison)
    frozen        shadow of step 0           phi = theta_0 (under LoRA: the base model)
    ema           shadow, in fp32            phi <- (1 - u) phi + u theta, once a rollout batch
    trust_region  shadow of step 0           log q = (1 - u) log q_0 + u log p + const, both on the teacher's context
    external      no shadow                  phi = another model of the same tokenizer, loaded beside the policy

Source: SDPO (arXiv 2601.20802), teacher regularisation. Shadows are fp32 whatever the model's dtype: in bf16 an
EMA step of 0.01 is rounded away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch, Reading
from agents.engines.base import Completion, Sampling
from agents.engines.hf import HFEngine, Scored
from agents.losses import closed_form
from agents.losses.fused import Head, auto_chunk
from agents.losses.fused import Teacher as TeacherLogits
from agents.teachers.external import load_external


class TeacherSettings(BaseModel):
    """Which weights teach."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["live", "frozen", "ema", "trust_region", "external"] = Field(
        "ema", description="whose weights teach; external: those of another model"
    )
    rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="u: EMA step a rollout batch, or the trust region's mixing weight; other kinds have no use for it",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="divides the teacher's logits, beside the sampling temperature; below 1 it sharpens",
    )
    model: str = Field(
        "", description="kind=external: a Hugging Face directory or hub id with the policy's tokenizer; of any size"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="kind=external: auto is float32 on CPU, bfloat16 on CUDA"
    )
    device: str = Field("auto", description="kind=external: auto is the policy's device")

    @property
    def source(self) -> tuple[str, str, str]:
        """Which external model: its name, dtype and device."""
        return self.model, self.dtype, self.device

    @model_validator(mode="after")
    def _complete(self) -> TeacherSettings:
        if self.kind == "external" and not self.model:
            raise ValueError(
                "teacher.kind='external' needs teacher.model: a directory or hub id with the policy's tokenizer"
            )
        if self.kind != "external":
            for name in ("model", "dtype", "device"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"teacher.{name}={getattr(self, name)!r} belongs to teacher.kind='external'; with "
                        f"kind={self.kind!r} the teacher is the policy itself"
                    )
        return self


class Teacher:
    """The teacher's weights, and its logits for given ids.

    An external model is loaded here, unless it is that of ``beside``.
    """

    def __init__(self, engine: HFEngine, settings: TeacherSettings, beside: Teacher | None = None) -> None:
        self.settings = settings
        self.engine = engine
        """The policy's."""
        self.reader = engine
        """What reads and answers as the teacher: another engine, or the policy's with the teacher's weights."""
        if settings.kind == "external":
            shared = beside is not None and beside.settings.source == settings.source
            self.reader = beside.reader if beside and shared else load_external(engine, *settings.source)
        self.context_length = min(engine.context_length, self.reader.context_length)
        """Tokens that both can read."""
        self.shadow: dict[str, Tensor] = {}
        if settings.kind not in ("live", "external"):
            self.shadow = {name: p.detach().float().clone() for name, p in self._trainable()}

    @classmethod
    def live(cls, engine: HFEngine) -> Teacher:
        """The policy as it is now."""
        return cls(engine, TeacherSettings(kind="live"))

    def _trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.engine.model.named_parameters() if p.requires_grad]

    @contextmanager
    def weights(self) -> Iterator[None]:
        """The policy's model has the shadow's weights inside this block; ``reader`` is then the teacher."""
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
        """Hidden states [N, d] of the actions' tokens under the weights now in the reader, and its detached head."""
        hidden, head = self.reader.read(items), self.reader.head()
        bias = None if head.bias is None else head.bias.detach()
        return hidden, Head(head.weight.detach(), bias, head.scale, head.softcap)

    def generate(self, prompts: list[list[int]], sampling: Sampling, seed: int) -> list[Completion]:
        """The teacher's own answers, as `Engine.generate` gives them; a trust region answers as its reference.

        They are drawn from what `logits` reads: at its own temperature beside the sampling temperature.
        """
        sampling = sampling.model_copy(update={"temperature": sampling.temperature * self.settings.temperature})
        with self.weights():
            return self.reader.generate(prompts, sampling, seed)

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


def make_teachers(engine: HFEngine, settings: Mapping[str, TeacherSettings]) -> dict[str, Teacher]:
    """A teacher for each name; names with equal settings share one."""
    made: list[Teacher] = []
    result: dict[str, Teacher] = {}
    for name, wanted in settings.items():
        known = next((t for t in made if t.settings == wanted), None)
        if known is None:
            loaded = (t for t in made if t.settings.kind == wanted.kind == "external")
            known = Teacher(
                engine, wanted, beside=next((t for t in loaded if t.settings.source == wanted.source), None)
            )
            made.append(known)
        result[name] = known
    return result


@torch.no_grad()
def read_teacher(batch: Batch, stream: str = MAIN) -> Reading:
    """What the teacher of a stream says at the tokens it read: one pass of its head, chunk by chunk."""
    teacher = batch.teachers[stream]
    scored = batch.per_token(batch.read_by(stream))
    places = scored.nonzero()[:, 0]
    _, hidden, head = teacher.parts[0]
    targets = batch.targets[places].to(hidden.device)
    logprob, entropy, confidence = (torch.full((len(scored),), math.nan) for _ in range(3))
    agrees = torch.zeros(len(scored), dtype=torch.bool)
    chunk = auto_chunk(len(head.weight), 8 if head.weight.dtype == torch.float64 else 4)
    for start in range(0, len(places), chunk):
        rows = torch.arange(start, min(start + chunk, len(places)), device=hidden.device)
        logq, target, place = teacher.logits(rows), targets[rows], places[start : start + chunk]
        q = closed_form.log_softmax_(logq)
        likeliest, ids = q.max(-1)
        logprob[place] = logq.gather(-1, target[:, None])[:, 0].float().cpu()
        entropy[place] = closed_form.entropy(logq, q).float().cpu()
        confidence[place] = likeliest.float().cpu()
        agrees[place] = (ids == target).cpu()
    return Reading(logprob, entropy, confidence, agrees)
