"""The oracle on two ranks: each takes its share of the samples of a world, gradients are summed over real gloo.

Coefficients are those of the whole batch before anything is shared out, so the sum is the whole's loss and gradient.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

SEEDS = (4, 5)


def test_two_ranks_equal_the_whole_and_the_equation(tmp_path):
    """Every recipe, on random shares: ragged turns, random masks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "test_oracle"])  # once for both
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    ranks = [
        context.Process(target=_rank, args=(rank, str(tmp_path / "store"), pipes[rank][1]), daemon=True)
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    try:
        for number, (receiver, _) in enumerate(pipes):
            assert receiver.poll(240), f"rank {number} is not done"
            failed, names = receiver.recv()
            assert not failed, failed
    finally:
        for process in ranks:
            process.join(5)
            process.kill()
    from test_oracle import REFERENCES

    assert names == sorted(REFERENCES)


def _rank(rank: int, store: str, sender: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", init_method=Path(store).as_uri(), rank=rank, world_size=2)
        sender.send(("", _every_recipe(rank)))
        dist.barrier()
    except BaseException:
        sender.send((traceback.format_exc(), []))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _every_recipe(rank: int) -> list[str]:
    import torch
    import torch.distributed as dist
    from oracle import world
    from test_oracle import REFERENCES
    from torch.testing import assert_close

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
