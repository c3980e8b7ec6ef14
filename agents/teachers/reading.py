"""What a teacher says at the tokens that were sampled: numbers that recipes and judges read."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.batch import MAIN, Batch, Reading
from agents.losses import closed_form
from agents.losses.fused import Teacher as TeacherLogits
from agents.losses.fused import auto_chunk
from agents.losses.stream import SparseTeacher


def read_teacher(batch: Batch, stream: str = MAIN) -> Reading:
    """What the teacher of a stream says at the tokens it read, [N]; see `read`."""
    where = batch.per_token(batch.read_by(stream))
    return spread(read(batch.teachers[stream], batch.targets[where]), where)


@torch.no_grad()
def read(teacher: TeacherLogits | SparseTeacher, targets: Tensor) -> Reading:
    """Log-probability, entropy, confidence and agreement at each of the T rows of ``teacher``, [T] each, on the CPU.

    Of a teacher with logits the numbers are exact: one pass of its head, chunk by chunk. A sparse teacher names K
    tokens; its entropy is that of the K and one bucket for the rest, at most the true one, and its likeliest token is
    the likeliest of the K.

    Args:
        teacher: Of T rows.
        targets: [T] sampled tokens.
    """
    return _read_sparse(teacher, targets) if isinstance(teacher, SparseTeacher) else _read_logits(teacher, targets)


def spread(reading: Reading, where: Tensor) -> Reading:
    """The [T] numbers at the places of ``where``, [N] bool with T set; NaN (``agrees``: False) elsewhere."""

    def full(values: Tensor, empty: float | bool) -> Tensor:
        result = torch.full((len(where),), empty, dtype=values.dtype)
        result[where] = values
        return result

    return Reading(
        full(reading.logprob, math.nan),
        full(reading.entropy, math.nan),
        full(reading.confidence, math.nan),
        full(reading.agrees, False),
    )


def _read_logits(teacher: TeacherLogits, targets: Tensor) -> Reading:
    _, hidden, head = teacher.parts[0]
    targets = targets.to(hidden.device)
    logprob, entropy, confidence = (torch.empty(len(targets)) for _ in range(3))
    agrees = torch.zeros(len(targets), dtype=torch.bool)
    chunk = auto_chunk(len(head.weight), 8 if head.weight.dtype == torch.float64 else 4)
    for start in range(0, len(targets), chunk):
        here = slice(start, min(start + chunk, len(targets)))
        logq, target = teacher.logits(torch.arange(here.start, here.stop, device=hidden.device)), targets[here]
        q = closed_form.log_softmax_(logq)
        likeliest, ids = q.max(-1)
        logprob[here] = logq.gather(-1, target[:, None])[:, 0].float().cpu()
        entropy[here] = closed_form.entropy(logq, q).float().cpu()
        confidence[here] = likeliest.float().cpu()
        agrees[here] = (ids == target).cpu()
    return Reading(logprob, entropy, confidence, agrees)


def _read_sparse(teacher: SparseTeacher, targets: Tensor) -> Reading:
    logq = teacher.logprobs.float().cpu()
    q = logq.exp()
    rest = (1.0 - q.sum(-1)).clamp(min=0.0)
    terms = torch.where(q > 0, q * logq, 0.0).sum(-1) + torch.where(rest > 0, rest * rest.log(), 0.0)
    likeliest, slot = q.max(-1)
    agrees = teacher.ids.cpu().gather(-1, slot[:, None])[:, 0] == targets.cpu()
    return Reading(teacher.target_logprob.float().cpu(), -terms, likeliest, agrees)
