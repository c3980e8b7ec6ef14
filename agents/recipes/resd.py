"""RESD: reflection-enhanced self-distillation (arXiv 2605.12741). Failures become lessons that the self-teacher reads.

Status: full (from a detailed note on the paper, not the paper); the wording of the two questions is ours.

    every step:   prune the playbook: what harmed as often as it helped goes, then the stalest over the limit
    a failure:    r = REFLECT(x, y, feedback, playbook)       what went wrong; which lessons helped, which harmed
                  CURATE(r)                                   new lessons, nothing twice                -> playbook
    a success:    the answer goes to the buffer of its task
    context       c = playbook, r, the attempt, its feedback, the buffered answer
    L             = 1/N sum_t sum over the student's top 100 v of p_t(v) f( clip(tau_t(v)) ),  tau = q / p,  f = -log

    with clip to [1/5, 5]; teacher EMA 1e-4; four passes over each rollout batch. Optional weights of samples, of mean
    1: (1 - s)^a on successes and s^b on failures, s the share of successes in the batch.

The model reflects and curates itself (``author="policy"``), or its teacher does. Lessons and buffer are training state:
checkpointed, never in the policy's own prompt, and cut to ``playbook_tokens`` where a teacher reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr

from agents.batch import Batch, Sample
from agents.credit.tokens import mean_one
from agents.losses.reduction import token_mean
from agents.losses.terms import Term
from agents.memory import Memory
from agents.recipes.base import TaughtRecipe, Texts
from agents.recipes.tools import StepTools
from agents.teachers.contexts import Context, without_thinking
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group, Message

REFLECT = """\
{task}

An attempt at this failed. Lines that begin with "> " are quoted.
The attempt:
{attempt}
What was said of it:
{feedback}
Lessons that were at hand:
{playbook}

Say in one or two sentences what went wrong and what to do instead. Then one line for each lesson that mattered:
HELPFUL: <its key>  or  HARMFUL: <its key>"""

CURATE = """\
A lesson from one task must help with others like it. From this reflection:
{reflection}

Lessons that are known already:
{playbook}

Write at most two new lessons, general and short, one a line, each begun with "LESSON: ". If none is new: NONE."""

_TAG = re.compile(r"^\s*(HELPFUL|HARMFUL):\s*\[?(\w+)\]?\s*$", re.MULTILINE | re.ASCII)
_LESSON = re.compile(r"^\s*LESSON:\s*(\S.*?)\s*$", re.MULTILINE)


class RESD(TaughtRecipe):
    """A self-teacher with a playbook, a reflection and a buffer of solutions."""

    name: ClassVar[str] = "resd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6, "epochs": 4},
        "batch": {"tasks": 32, "attempts": 1},
    }
    gives: ClassVar[tuple[str, ...]] = ("playbook", "reflection", "own", "demonstration")

    teacher: TeacherSettings = TeacherSettings(kind="ema", rate=1e-4)
    context: Context = Context(sources=["playbook+reflection+own+feedback+demonstration"], wording="paper")
    alpha: float = Field(1.0, ge=0, le=1, description="divergence: 1 reverse KL, 0 forward KL, between: JSD")
    tail: bool = Field(False, description="one bucket for the rest of the vocabulary")
    ratio_clip: float | None = Field(5.0, gt=1, description="q / p is clipped to [1 / c, c]; null: not")
    threshold: float = Field(1.0, description="reward from which on an attempt counts as solved")
    author: Literal["policy", "teacher"] = Field("policy", description="who reflects and curates")
    author_tokens: int = Field(256, ge=8, description="longest reflection, and longest list of new lessons")
    playbook_entries: int = Field(120, ge=1, description="lessons that are kept, at most")
    playbook_tokens: int = Field(1024, ge=1, description="tokens of the playbook that anybody reads at once")
    buffer_entries: int = Field(10_000, ge=1, description="solved tasks whose answer is kept")
    success_power: float = Field(0.0, ge=0, description="a: successes weigh (1 - s)^a")
    failure_power: float = Field(0.0, ge=0, description="b: failures weigh s^b")

    _playbook: Memory | None = PrivateAttr(default=None)
    _buffer: Memory | None = PrivateAttr(default=None)

    @property
    def playbook(self) -> Memory:
        """The lessons."""
        self._playbook = self._playbook or Memory(self.playbook_entries)
        return self._playbook

    @property
    def buffer(self) -> Memory:
        """Answers that solved a task, by task."""
        self._buffer = self._buffer or Memory(self.buffer_entries, longest=20_000)
        return self._buffer

    def state_dict(self) -> dict[str, Any]:
        """Lessons and buffer."""
        return {"playbook": self.playbook.state_dict(), "buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self.playbook.load_state_dict(state["playbook"])
        self.buffer.load_state_dict(state["buffer"])

    def given(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> Texts:
        """Reflect on failures, remember, and say what there is to say about each sample."""
        step, keys = self._step, [str(groups[s.group].task.get("id")) for s in samples]
        self.playbook.prune()
        read = self.playbook.render(self.playbook_tokens, lambda text: len(tools.chat.plain(text)), step)
        known = [self.buffer.get(key) for key in keys]  # before this step's own successes
        failed = [i for i, s in enumerate(samples) if s.reward < self.threshold]
        asked = [_reflect(samples[i], read) for i in failed]
        replies = [r.text for r in tools.ask(asked, who=self.author, max_tokens=self.author_tokens)] if asked else []
        reflections = dict(zip(failed, replies, strict=True))
        self._curate(replies, read, tools)
        for sample, key in zip(samples, keys, strict=True):
            if sample.reward >= self.threshold:
                self.buffer.add(without_thinking(sample.text), step, key=key)
        tools.log["playbook"] = float(len(self.playbook))
        told = {i: _TAG.sub("", without_thinking(text)).strip() for i, text in reflections.items()}
        return {
            "playbook": [read or None for _ in samples],
            "reflection": [told.get(i) or None for i in range(len(samples))],
            "own": [s.text if s.reward < self.threshold else None for s in samples],
            "demonstration": known,
            **super().given(samples, groups, tools),
        }

    def _curate(self, reflections: Sequence[str], read: str, tools: StepTools) -> None:
        """Tag lessons as the reflections say, and add what is new."""
        for text in reflections:
            for verdict, key in _TAG.findall(text):
                self.playbook.tag(key, self._step, helpful=verdict == "HELPFUL")
        asked: list[list[Message]] = [
            [
                {
                    "role": "user",
                    "content": CURATE.format(reflection=_quote(without_thinking(text)), playbook=read or "(none)"),
                }
            ]
            for text in reflections
        ]
        for reply in tools.ask(asked, who=self.author, max_tokens=self.author_tokens) if asked else []:
            for lesson in _LESSON.findall(without_thinking(reply.text))[:2]:
                self.playbook.add(lesson, self._step)

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on the student's likeliest tokens, with clipped ratios."""
        taught, few = batch.per_token(batch.taught), self.top_k > 0
        weights = taught.float()
        if self.success_power or self.failure_power:
            share = float(batch.correct.float().mean())
            each = torch.where(
                batch.correct, torch.tensor((1 - share) ** self.success_power), torch.tensor(share**self.failure_power)
            )
            weights = mean_one(batch.per_token(each), taught, batch.sequence, len(batch), "batch")
        kept = {"renormalise": "none" if few and not self.tail else "both"}
        return [self.distill(token_mean(taught.float(), weights), ratio_clip=self.ratio_clip if few else None, **kept)]


def _reflect(sample: Sample, playbook: str) -> list[Message]:
    said = "\n".join(str(entry["text"]) for entry in sample.feedback if not entry.get("reveals_reference"))
    task = "\n\n".join(m["content"] for m in sample.messages if m["role"] != "assistant")
    content = REFLECT.format(
        task=task, attempt=_quote(sample.text), feedback=_quote(said or "(nothing)"), playbook=playbook or "(none)"
    )
    return [{"role": "user", "content": content}]


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines() or ["(nothing)"])
