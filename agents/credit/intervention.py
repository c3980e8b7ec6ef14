"""Teach only where it is needed: one setting that any taught recipe takes (SAGE-OPD, arXiv 2606.19659).

    after the rollout    d_k = judge(history, turn, what the environment answered)       skip, weak, strong
    after scoring        w_t = m(d_k) c_k,  Z = sum |a| / sum |a| w                       `agents.credit.weights`
    the loss             every divergence term:  a_t -> Z w_t a_t                         other terms as they were

``a_t`` are the recipe's own coefficients, so that a mean over tokens stays one over tokens, and a mean over sequences
one over sequences. With ``opd`` this is SAGE-OPD.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from torch import Tensor

from agents.batch import Batch, Sample
from agents.chat import Chat
from agents.credit.judges import JudgeSettings, agreement_labels, label_by_environment
from agents.credit.labels import FAILED_CLOSED, Verdict, counts, known
from agents.credit.teacher_judge import TeacherJudge
from agents.credit.weights import Scope, Totals, confidence, normaliser, scaled, totals, turn_weights
from agents.losses.terms import Distill, Term
from agents.teachers.teacher import Teacher
from agents.trajectory import Group


class Intervention(BaseModel):
    """Which turns are taught, and how much."""

    model_config = ConfigDict(extra="forbid")

    judge: JudgeSettings = JudgeSettings()
    weak: float = Field(0.5, ge=0, le=1, description="weight of a weak turn, a strong one having 1 (alpha)")
    confidence: Scope = Field(
        "turn",
        description="trust in the teacher, its top-1 probability: turn: the mean of the turn; token: each token's own; "
        "off: 1",
    )
    max_scale: float | None = Field(None, ge=1, description="cap of the normaliser Z; null: none, as published")

    _teacher_judge: TeacherJudge = PrivateAttr(default_factory=TeacherJudge)

    @property
    def reads_teacher(self) -> bool:
        """Whether the weights need `Batch.reading`."""
        return self.confidence != "off" or self.judge.kind == "agreement"

    def annotate(self, samples: Sequence[Sample], groups: Sequence[Group], teacher: Teacher, chat: Chat) -> None:
        """Label the taught samples in place, where the judge can before the teacher has scored them."""
        taught = [s for s in samples if s.teacher_ids is not None]
        if self.judge.kind == "agreement":
            return
        if self.judge.kind == "teacher":
            verdicts = self._teacher_judge.label(self.judge, taught, groups, teacher, chat)
        else:
            verdicts = label_by_environment(self.judge, taught, groups)
        for sample, verdict in zip(taught, verdicts, strict=True):
            _write(sample, verdict)

    def skipped(self, batch: Batch) -> Tensor:
        """[samples] bool: the weight is 0 whatever the teacher's confidence; none yet where its reading is judged."""
        return (self._turn_weights(batch) == 0) & (self.judge.kind != "agreement")

    def apply(self, batch: Batch, terms: Sequence[Term], whole: Totals | None = None) -> list[Term]:
        """The same terms, the divergences among them on the turns that need it.

        A sample without a label counts as strong. ``whole``: the sums of the whole optimiser batch, where ``batch`` is
        a share of it.
        """
        weights = self.weights(batch)
        result: list[Term] = []
        for term in terms:
            if isinstance(term, Distill):
                z = normaliser(whole or totals(term.coefficients, weights), self.max_scale)
                self._log(batch, term.coefficients, weights, z)
                term = dataclasses.replace(term, coefficients=scaled(term.coefficients, weights, z))
            result.append(term)
        return result

    def weights(self, batch: Batch) -> Tensor:
        """w = m c, [N] float64, before normalisation; 0 where a turn is skipped, anything where nothing is taught."""
        if self.reads_teacher and batch.reading is None and batch.scored.any():
            raise ValueError("these weights are made from the teacher's reading, and batch.reading is None")
        if self.judge.kind == "agreement" and batch.reading is not None:
            verdicts = agreement_labels(self.judge, batch)
            for sample, verdict in zip(batch.samples, verdicts, strict=True):
                if sample.teacher_ids is not None:
                    _write(sample, verdict)
        m = batch.per_token(self._turn_weights(batch))
        if self.confidence == "off" or batch.reading is None:
            return m
        c = confidence(batch.reading.confidence, batch.sequence, len(batch), self.confidence)
        return torch.where(m > 0, m * c, 0.0)  # of what is skipped the teacher may have read nothing

    def _turn_weights(self, batch: Batch) -> Tensor:
        return turn_weights([known(s.label) for s in batch.samples], self.weak)

    def _log(self, batch: Batch, coefficients: Tensor, weights: Tensor, z: float) -> None:
        """Into the metrics of the step: turns by label, share of taught tokens with a signal, confidence, Z."""
        counted = coefficients != 0
        if not counted.any():
            return
        judged = [s for s, taught in zip(batch.samples, batch.taught.tolist(), strict=True) if taught]
        for label, n in counts(known(s.label) for s in judged).items():
            batch.log[f"turns_{label}"] = float(n)
        batch.log["judge_failed"] = sum(s.label_reason.startswith(FAILED_CLOSED) for s in judged) / len(judged)
        batch.log["active_share"] = float((weights[counted] > 0).double().mean())
        if batch.reading is not None and batch.scored.any():
            read = batch.reading.confidence.detach()[counted & batch.per_token(batch.scored)]
            batch.log["confidence"] = float(read.double().mean())
        if z > 0:
            batch.log["weight_scale"] = z


def _write(sample: Sample, verdict: Verdict) -> None:
    sample.label, sample.label_reason = verdict.label, verdict.reason
