"""Several teachers in one loss: each is a stream with a name, and speaks about some of the tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.losses.head import Teacher
from agents.losses.terms import Distill, Term


@dataclass
class SparseTeacher:
    """What a served model says: the log-probabilities of its K likeliest tokens, and of the sampled one.

    A `Distill` on it has ``support="teacher"`` and ``top_k`` K or None, or form "sampled", "k2" or "k3".
    The numbers hold at the temperature at which they were asked for.
    """

    ids: Tensor
    """[T, K] long, T the number of taught tokens."""
    logprobs: Tensor
    """[T, K], over the whole vocabulary, nats; -inf: no token in this slot."""
    target_logprob: Tensor
    """[T] of the sampled token; NaN where unknown."""

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.logprobs.shape or len(self.target_logprob) != len(self.ids):
            raise ValueError(
                f"ids {tuple(self.ids.shape)} and logprobs {tuple(self.logprobs.shape)} must be [T, K] alike, "
                f"target_logprob {tuple(self.target_logprob.shape)} must be [T]"
            )
        if self.logprobs.numel() and float(self.logprobs.logsumexp(-1).max()) > 0.01:
            raise ValueError("logprobs of a sparse teacher sum to more than 1: give log-probabilities, not logits")

    @property
    def rows(self) -> int:
        """Number of tokens this teacher speaks about."""
        return len(self.ids)

    def take(self, rows: Tensor) -> SparseTeacher:
        """The same teacher on some of its rows."""
        rows = rows.to(self.ids.device)
        return SparseTeacher(self.ids[rows], self.logprobs[rows], self.target_logprob[rows])


@dataclass
class Stream:
    """A teacher, and the tokens it speaks about."""

    teacher: Teacher | SparseTeacher
    """Has one row per taught token, in order."""
    taught: Tensor | None = None
    """[N] bool; None: every token."""


def gather_streams(
    n: int,
    device: torch.device,
    teacher: Teacher | SparseTeacher | None,
    taught: Tensor | None,
    streams: Mapping[str, Stream] | None,
) -> dict[str, Stream]:
    """All streams by name, each with its ``taught``; ``teacher`` is the one called "teacher".

    Raises:
        ValueError: "teacher" is given twice, or rows and ``taught`` disagree.
    """
    found = dict(streams or {})
    if teacher is not None:
        if "teacher" in found:
            raise ValueError("streams has a 'teacher' already: leave out teacher=")
        found["teacher"] = Stream(teacher, taught)
    elif taught is not None and bool(taught.any()):
        raise ValueError(f"taught marks {int(taught.sum())} tokens but there is no teacher")
    result = {}
    for name, stream in found.items():
        mask = stream.taught
        if mask is None:
            mask = torch.ones(n, dtype=torch.bool, device=device)
        if len(mask) != n:
            raise ValueError(f"taught: {len(mask)} rows for {n} targets (stream {name!r})")
        count = int(mask.sum())
        if isinstance(stream.teacher, Teacher):
            rows = [len(hidden) for _, hidden, _ in stream.teacher.parts]
        else:
            rows = [stream.teacher.rows]
        if any(length != count for length in rows):
            raise ValueError(f"stream {name!r}: the teacher's parts have {rows} rows for {count} taught tokens")
        result[name] = Stream(stream.teacher, mask)
    return result


def measured_stream(terms: Sequence[Term], streams: Mapping[str, Stream]) -> str | None:
    """The stream that the statistics are about: that of the first Distill, else "teacher"; None: not given."""
    name = next((term.teacher for term in terms if isinstance(term, Distill)), "teacher")
    return name if name in streams else None


def check_distill(term: Distill, streams: Mapping[str, Stream]) -> None:
    """Raise ValueError where a Distill asks for what its stream does not have."""
    stream = streams.get(term.teacher)
    untaught = term.coefficients != 0
    if stream is not None and stream.taught is not None:
        untaught = untaught & ~stream.taught
    if bool(untaught.any()):
        raise ValueError(f"a Distill coefficient is not 0 where taught is False (stream {term.teacher!r})")
    if stream is None or not bool(term.coefficients.any()):
        return
    if not isinstance(stream.teacher, SparseTeacher):
        if term.top_k is None and (term.ratio_clip is not None or term.renormalise != "both"):
            raise ValueError(f"ratio_clip={term.ratio_clip}, renormalise={term.renormalise!r}: give a top_k")
        return
    k = stream.teacher.ids.shape[1]
    if term.form == "full" and term.support == "teacher" and term.top_k in (None, k):
        return
    if term.form in ("sampled", "k2", "k3"):
        return
    raise ValueError(
        f"stream {term.teacher!r} has {k} tokens of the teacher at each position: give support='teacher' and "
        f"top_k={k} or None, or form 'sampled', 'k2' or 'k3'; not form={term.form!r}, support={term.support!r}, "
        f"top_k={term.top_k}"
    )
