"""Run a function on two ranks: real processes, gloo over loopback."""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRELOAD = ["torch.distributed", "transformers.models.llama.modeling_llama", "agents.training.learner"]
"""Imported once, in the process that ranks are forked from: one that never ran torch, unlike the test's."""


def two_ranks(function: Callable[..., Any], *arguments: Any, timeout: float = 120.0) -> list[Any]:
    """What ``function(rank, *arguments)`` returns on each of two ranks of an initialised process group.

    ``function`` is a module's, its arguments and results can be pickled. Raises `RuntimeError` with the traceback
    where a rank raises, and where one is not done after ``timeout`` seconds.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        processes = [
            context.Process(target=_rank, args=(rank, folder, pipes[rank][1], function, arguments), daemon=True)
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        try:
            results = []
            for rank, (receiver, _) in enumerate(pipes):
                if not receiver.poll(timeout):
                    raise RuntimeError(f"rank {rank} is not done after {timeout:g} s")
                done, result = pickle.loads(receiver.recv_bytes())  # plain bytes: tensors are not shared
                if not done:
                    raise RuntimeError(f"rank {rank}:\n{result}")
                results.append(result)
            return results
        finally:
            for process in processes:
                process.join(5)
                process.kill()


def _rank(rank: int, folder: str, sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=(Path(folder) / "store").as_uri(), rank=rank, world_size=2)
        sender.send_bytes(pickle.dumps((True, function(rank, *arguments))))
    except BaseException:
        sender.send_bytes(pickle.dumps((False, traceback.format_exc())))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
