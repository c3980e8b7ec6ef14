"""Who scores: the policy itself, at some age, or another model.

The kinds that are the policy are one mechanism: a shadow of the trainable weights, swapped in while the teacher reads.

    live          no shadow                  phi = theta (reported to collapse; for comparison)
    frozen        shadow of step 0           phi = theta_0 (under LoRA: the base model)
    ema           shadow, in fp32            phi <- (1 - u) phi + u theta, once a rollout batch
    periodic      shadow                     phi <- theta, every K rollout batches
    gated         shadow                     phi <- theta, when the policy has become better (`agents.teachers.gate`)
    trust_region  shadow of step 0           log q = (1 - u) log q_0 + u log p + const, both on the teacher's context
    external      no shadow                  phi = another model of the same tokenizer, loaded beside the policy
    server        no shadow                  another model, asked over HTTP (`agents.teachers.served`)

Source: SDPO (arXiv 2601.20802), teacher regularisation. Shadows are fp32 whatever the model's dtype: in bf16 an
EMA step of 0.01 is rounded away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.engines.base import Answer, Completion, Sampling
from agents.engines.hf import HFEngine, Scored
from agents.losses.fused import Head
from agents.losses.fused import Teacher as TeacherLogits
from agents.losses.stream import SparseTeacher
from agents.teachers.external import load_external
from agents.teachers.gate import RefreshGate
from agents.teachers.reading import read_teacher
from agents.teachers.settings import TeacherSettings
from agents.trajectory import Message

if TYPE_CHECKING:
    from agents.training.ranks import Ranks

__all__ = ["Scores", "Teacher", "TeacherSettings", "make_teacher", "make_teachers", "read_teacher"]

_SHADOWED = ("frozen", "ema", "periodic", "gated", "trust_region")


@dataclass
class Scores:
    """A teacher's word on some items."""

    logits: TeacherLogits | SparseTeacher | None
    """Rows are the actions' tokens of the items that did not fail, item after item; None: all failed."""
    failed: list[int] = field(default_factory=list)
    """Indices of items that could not be scored: they are to be left untaught."""


class Teacher:
    """The teacher's weights, and its logits for given ids.

    An external model is loaded here. Where ``beside`` has the same weights, by `TeacherSettings.source`, both share
    them, and ``beside`` alone moves and saves them. A server is a `agents.teachers.served.ServerTeacher`;
    `make_teacher` makes either.
    """

    def __init__(self, engine: HFEngine, settings: TeacherSettings, beside: Teacher | None = None) -> None:
        if settings.kind == "server":
            raise ValueError("teacher.kind='server': use make_teacher, which asks the server what it can do")
        self.settings = settings
        self.abilities = settings.abilities
        """What it can be asked for, see `agents.teachers.abilities`."""
        self.engine = engine
        """The policy's."""
        self.reader = engine
        """What reads and answers as the teacher: another engine, or the policy's with the teacher's weights."""
        self.owner = True
        """Whether the weights are its own, to move and to save."""
        self.ranks: Ranks | None = None
        """Where several processes hold this teacher and are asked the same: each reads its share."""
        self.shadow: dict[str, Tensor] = {}
        self.batches = 0
        """Rollout batches that were learnt from."""
        self.gate = RefreshGate(settings.every, settings.gain, settings.longest) if settings.kind == "gated" else None
        if beside is not None and beside.settings.source == settings.source:
            self.owner, self.reader, self.shadow = False, beside.reader, beside.shadow
        elif settings.kind == "external":
            self.reader = load_external(engine, settings.model, settings.dtype, settings.device)
        elif settings.kind in _SHADOWED:
            self.shadow = {name: p.detach().float().clone() for name, p in self._trainable()}
        self.context_length = min(engine.context_length, self.reader.context_length)
        """Tokens that both can read."""

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

    @property
    def stays(self) -> bool:
        """Whether an optimiser step leaves the teacher as it is; `update` may move it."""
        return self.settings.kind not in ("live", "trust_region")

    # ---- what it is asked

    def score(
        self, items: Sequence[Scored], sampling_temperature: float, before: TeacherLogits | SparseTeacher | None = None
    ) -> Scores:
        """Its word on the actions of ``items`` (teacher's prompt, action), at least one; ``before`` as in `logits`."""
        return Scores(self.logits(items, sampling_temperature, before if isinstance(before, TeacherLogits) else None))

    @torch.no_grad()
    def logits(
        self, items: Sequence[Scored], sampling_temperature: float, before: TeacherLogits | None = None
    ) -> TeacherLogits:
        """The teacher's logits for ``items`` (teacher's prompt, action), as hidden states and heads, token order.

        What it said ``before`` of the same items, since the last `update`, is not read again where it cannot differ.
        """
        u = self.settings.rate
        if before is not None and self.settings.kind != "live":
            if self.stays:
                return before
            parts = [(1.0, *before.parts[0][1:])]
        else:
            with self.weights():
                parts = [(1.0, *self.read(items))]
        if self.settings.kind == "trust_region":
            parts = [(1.0 - u, *parts[0][1:]), (u, *self.read(items))]
        return TeacherLogits(parts, temperature=sampling_temperature * self.settings.temperature)

    def read(self, items: Sequence[Scored]) -> tuple[Tensor, Head]:
        """Hidden states [N, d] of the actions' tokens under the weights now in the reader, and its detached head."""
        read, head = self.reader.read, self.reader.head()
        hidden = read(items) if self.ranks is None else self.ranks.read(read, items)
        bias = None if head.bias is None else head.bias.detach()
        return hidden, Head(head.weight.detach(), bias, head.scale, head.softcap)

    def generate(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        seed: int,
        conversations: Sequence[Sequence[Message]] | None = None,
    ) -> list[Completion]:
        """The teacher's own answers, as `Engine.generate` gives them; a trust region answers as its reference.

        They are drawn from what `logits` reads: at its own temperature beside the sampling temperature.
        ``conversations`` are what the prompts are the ids of: a server that takes no ids is asked those.
        """
        with self.weights():
            return self.reader.generate(prompts, self.sampling(sampling), seed)

    def say(self, conversations: Sequence[Sequence[Message]], sampling: Sampling, seed: int) -> list[Answer]:
        """The teacher's answers to conversations; where the last message is the assistant's, it is continued."""
        chat = self.engine.chat
        prompts = []
        for messages in conversations:
            begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
            prompts.append(chat.encode(messages) if begun is None else chat.encode(messages[:-1]) + chat.plain(begun))
        return [
            Answer(chat.decode(c.ids), c.ids, c.logprobs, c.finish_reason)
            for c in self.generate(prompts, sampling, seed)
        ]

    def sampling(self, sampling: Sampling) -> Sampling:
        """How the teacher answers where the policy would be drawn from by ``sampling``."""
        return sampling.model_copy(update={"temperature": sampling.temperature * self.settings.temperature})

    # ---- how it moves

    @torch.no_grad()
    def update(self) -> None:
        """After a rollout batch that was learnt from: an EMA moves towards the policy, a periodic copy may be due."""
        if not self.owner:
            return
        self.batches += 1
        if self.settings.kind == "ema":
            for name, parameter in self._trainable():
                self.shadow[name].lerp_(parameter.detach().float(), self.settings.rate)
        elif self.settings.kind == "periodic" and self.batches % self.settings.every == 0:
            self._copy()

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """After a step, with its metrics: a gated teacher may become the policy of now."""
        if self.owner and self.gate is not None and self.gate.observe(metrics):
            self._copy()

    @torch.no_grad()
    def _copy(self) -> None:
        for name, parameter in self._trainable():
            self.shadow[name].copy_(parameter.detach())

    # ---- checkpoints

    @property
    def state_bytes(self) -> int:
        """Size of what `state_dict` holds."""
        return sum(t.numel() * 4 for t in self.shadow.values()) if self.owner else 0

    def state_dict(self) -> dict[str, Any]:
        """The shadow (fp32), and the counters that say when it moves; empty where another teacher keeps them."""
        if not (self.owner and self.shadow):
            return {}
        gate = {"gate": self.gate.state_dict()} if self.gate else {}
        return {"shadow": self.shadow, "batches": self.batches, **gate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; a plain mapping of tensors is a shadow alone, as older runs saved it."""
        if not (self.owner and self.shadow):
            return
        shadow = state.get("shadow", state)
        for name, tensor in self.shadow.items():
            tensor.copy_(shadow[name])
        self.batches = int(state.get("batches", 0))
        if self.gate and "gate" in state:
            self.gate.load_state_dict(state["gate"])


def make_teacher(engine: HFEngine, settings: TeacherSettings, beside: Teacher | None = None) -> Teacher:
    """A teacher of the policy of ``engine``; a server is asked what it can do.

    Raises:
        SetupError: A model cannot be loaded, a server not be used, or its tokenizer is not the policy's.
    """
    if settings.kind == "server":
        from agents.teachers.served import ServerTeacher

        return ServerTeacher(engine, settings, beside)
    return Teacher(engine, settings, beside)


def make_teachers(engine: HFEngine, settings: Mapping[str, TeacherSettings]) -> dict[str, Teacher]:
    """Teachers by name. Those with the same weights share them: the first moves and saves them, the others follow.

    So `update`, `observe` and `state_dict` may be called on each.
    """
    made: dict[str, Teacher] = {}
    for name, one in settings.items():
        beside = next((t for t in made.values() if t.settings.source == one.source), None)
        made[name] = make_teacher(engine, one, beside)
    return made
