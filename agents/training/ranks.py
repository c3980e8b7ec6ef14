"""Data parallel by plain collectives: every rank works on its share of one batch, all take the same step.

Coefficients hold the denominators of the whole batch before anything is shared out, so the sum of what the ranks
found is the gradient of the whole batch, whoever worked on which sample. No wrapper around the model is needed: each
rank holds all weights and the whole annotated batch, forwards its share, and

    share = ranks.mine(items)             # of what every rank knows: no messages
    gradients, loss <- sum over ranks     # flat, in a few calls
    clip, step                            # the same on every rank

Weights stay equal because every rank makes the same step from the same sums. A gradient that is not finite on one rank
is not finite in the sum: no rank steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Scored = tuple[Sequence[int], Sequence[int]]
"""(prompt ids, action ids), as in `agents.engines.hf`."""

BUCKET_BYTES = 256_000_000
"""Most that one reduction of gradients holds beside them."""


class Ranks:
    """This process among those of an initialised process group (gloo on CPUs, nccl on GPUs).

    Every method that is named a collective must be called by all ranks, in the same order.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, device: torch.device | str = "cpu") -> None:
        if not dist.is_initialized():
            raise RuntimeError("no process group: call torch.distributed.init_process_group before the ranks are used")
        self.group, self.device = group, torch.device(device)
        """Where small tensors travel: the accelerator under nccl, which takes no others."""
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def mine(self, items: Sequence[Scored]) -> list[int]:
        """The indices, in order, of the (prompt, action) pairs that this rank works on: about as many tokens for all.

        Pairs of one prompt share it, so they go together as far as the balance allows.
        """
        families = [tuple(prompt) for prompt, _ in items]
        sharing = Counter(families)
        costs = [len(action) + -(-len(prompt) // sharing[tuple(prompt)]) for prompt, action in items]
        return shares(costs, families, self.size)[self.rank]

    def read(self, read: Callable[[Sequence[Scored]], Tensor], items: Sequence[Scored]) -> Tensor:
        """A collective: what ``read`` (`HFEngine.read`) gives for the items, [N, d], each read by one rank."""
        mine = self.mine(items)
        lengths = torch.tensor([len(action) for _, action in items])
        ends = lengths.cumsum(0)
        found = read([items[i] for i in mine]) if mine else None
        shapes: list[Any] = [None] * self.size
        dist.all_gather_object(shapes, None if found is None else (found.shape[1], found.dtype), group=self.group)
        width, dtype = next(shape for shape in shapes if shape is not None)
        whole = torch.zeros(int(ends[-1]), width, dtype=dtype, device=self.device if found is None else found.device)
        if found is not None:
            whole[spans(ends, lengths, mine).to(whole.device)] = found
        dist.all_reduce(whole, group=self.group)
        return whole

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """A collective: replace each tensor by its sum over all ranks. Same shapes, dtypes and order everywhere."""
        for bucket in _buckets(tensors):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            dist.all_reduce(flat, group=self.group)
            for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """A collective: every gradient becomes the sum over all ranks; a rank that has none adds 0."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.sum_([p.grad for p in parameters if p.grad is not None])

    def total(self, value: float) -> float:
        """A collective: the sum of a number over all ranks, in float64."""
        number = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(number, group=self.group)
        return float(number)

    def gather(self, rows: Tensor, mine: Tensor, everyone: Tensor) -> Tensor:
        """A collective: ``rows`` [N, ...] with what every rank filled in, this one at ``mine``, all at ``everyone``.

        Both are indices; no two ranks fill in the same row, and rows that are not ``everyone``'s stay as they are here.
        """
        whole = torch.zeros_like(rows, device=self.device)
        whole[mine.to(self.device)] = rows[mine].to(self.device)
        dist.all_reduce(whole, group=self.group)
        rows[everyone] = whole.to(rows.device)[everyone]
        return rows


def spans(ends: Tensor, lengths: Tensor, items: Sequence[int]) -> Tensor:
    """The token indices of some items, which lie one after another, item i up to ``ends[i]``."""
    return torch.cat([torch.arange(int(ends[i] - lengths[i]), int(ends[i])) for i in items] or [ends[:0]])


def shares(costs: Sequence[int], families: Sequence[Hashable], size: int) -> list[list[int]]:
    """Item indices of each of ``size`` ranks, in order; equal arguments give equal shares.

    Items of one family share a prompt, which each rank that has some of them forwards: a family stays together, unless
    it costs more than one rank's part, ``sum(costs) / size``, and is cut into runs of at most that. The costliest
    family or run goes first, to whoever has least to do so far (Graham 1969, longest processing time first). With fewer
    runs than ranks, some ranks get nothing.
    """
    members: dict[Hashable, list[int]] = {}
    for i, family in enumerate(families):
        members.setdefault(family, []).append(i)
    most = -(-sum(costs) // size)
    runs: list[list[int]] = []
    for member in members.values():
        used = most
        for i in member:
            if used + costs[i] > most:
                runs.append([])
                used = 0
            runs[-1].append(i)
            used += costs[i]
    totals = [0] * size
    result: list[list[int]] = [[] for _ in range(size)]
    work = [sum(costs[i] for i in run) for run in runs]
    for k in sorted(range(len(runs)), key=lambda k: (-work[k], k)):
        rank = min(range(size), key=lambda r: (totals[r], r))
        totals[rank] += work[k]
        result[rank] += runs[k]
    return [sorted(share) for share in result]


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Runs of tensors of one dtype and device, of at most `BUCKET_BYTES` or a single tensor."""
    buckets: list[list[Tensor]] = []
    used = 0
    for tensor in tensors:
        last = buckets[-1][-1] if buckets else None
        like = last is not None and (last.dtype, last.device) == (tensor.dtype, tensor.device)
        if not like or used + tensor.nbytes > BUCKET_BYTES:
            buckets.append([])
            used = 0
        buckets[-1].append(tensor)
        used += tensor.nbytes
    return buckets
