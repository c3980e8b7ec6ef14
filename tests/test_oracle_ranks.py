"""The oracle on two ranks: each takes its share of the samples of a world, gradients are summed over real gloo.

Coefficients are those of the whole batch before anything is shared out, so the sum is the whole's loss and gradient.
"""

from __future__ import annotations

import random

import torch
import torch.distributed as dist
from oracle import world
from test_oracle import REFERENCES
from torch.testing import assert_close
from two_ranks import two_ranks

SEEDS = (4, 5)


def test_two_ranks_equal_the_whole_and_the_equation():
    """Every recipe, on random shares: ragged turns, random masks."""
    assert two_ranks(every_recipe, timeout=240) == [sorted(REFERENCES)] * 2


def every_recipe(rank: int) -> list[str]:
    def flat(found: tuple[torch.Tensor, list[torch.Tensor]]) -> torch.Tensor:
        return torch.cat([found[0].reshape(1), *(gradient.flatten() for gradient in found[1])])

    for name in sorted(REFERENCES):
        for seed in SEEDS:
            case = f"{name}, seed {seed}: {{}}".format
            w = world(name, REFERENCES[name], seed)
            owners = random.Random(f"{name}:{seed}").choices(range(2), k=len(w.samples))
            mine = torch.tensor([t for i, owner in enumerate(owners) if owner == rank for t in w.tokens(i)]).long()
            whole, equation = flat(w.fused()), flat(w.referred(REFERENCES[name].loss))
            total = flat(w.fused([mine])) if len(mine) else torch.zeros_like(whole)
            dist.all_reduce(total)
            assert_close(total, whole, atol=1e-6, rtol=1e-6, msg=case)
            assert_close(total, equation, atol=1e-6, rtol=1e-6, msg=case)
    return sorted(REFERENCES)
