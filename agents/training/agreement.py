"""Do learner and sampler agree? Their log-probabilities of the same tokens, under the same weights.

Where the sampler is the learner's own model they are equal up to rounding. A copy in another engine differs by its
kernels and its dtype, and by a lot if it holds other weights. The truncated importance weights of the loss
(`agents.losses.surrogate.importance_weights`) correct small differences; these numbers say how small they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from agents.batch import Batch
from agents.engines.base import Engine, Sampling
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.losses.fused import token_stats
from agents.losses.surrogate import importance_weights
from agents.training.learner import StepResult

START_LIMIT = 0.5
"""Mean nats a token above which a run does not start: bfloat16 gave 0.04 on a CPU, other weights several."""
PROBE = [list(range(5, 5 + n)) for n in (4, 9)]


def sampler_agreement(results: Sequence[tuple[Batch, StepResult]]) -> dict[str, float | None]:
    """Numbers of one step's optimiser batches, from what the learner measured anyway; None where it measured nothing.

    ``sampler_gap_mean``, ``sampler_gap_max``: of |log p_learner - log p_sampler| over the sampled tokens, nats.
    ``importance_mean``: of the weights w = p_learner / p_sampler, cut as the loss cuts them; ``importance_truncated``:
    share of tokens whose weight was cut.
    """
    pairs = [_pair(batch, result) for batch, result in results]
    found = [(ours, theirs, clip) for ours, theirs, clip in pairs if len(ours)]
    names = ("sampler_gap_mean", "sampler_gap_max", "importance_mean", "importance_truncated")
    if not found:
        return dict.fromkeys(names)
    gaps = torch.cat([(ours - theirs).abs() for ours, theirs, _ in found])
    weights, cut = [], []
    for ours, theirs, clip in found:
        _, w = importance_weights(ours, None, theirs, clip)
        weights.append(w)
        cut.append((w >= (math.inf if clip is None else clip)).float())
    values = (gaps.mean(), gaps.max(), torch.cat(weights).mean(), torch.cat(cut).mean())
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _pair(batch: Batch, result: StepResult) -> tuple[Tensor, Tensor, float | None]:
    """Learner's and sampler's log-probabilities of the policy's own tokens, and the cap of their weights.

    The learner's are those at the weights that sampled: before the first of several optimiser steps.
    """
    if result.stats is None:
        return torch.zeros(0), torch.zeros(0), None
    ours = (result.stats.logp if batch.old_logprobs is None else batch.old_logprobs).float()
    own = [s.logprobs if s.source == "policy" else None for s in batch.samples]  # others saw another prompt or policy
    drawn = [x for s, said in zip(batch.samples, own, strict=True) for x in said or [math.nan] * len(s.action_ids)]
    theirs = torch.tensor(drawn, dtype=torch.float32)
    known = torch.isfinite(ours) & torch.isfinite(theirs)
    return ours[known], theirs[known], result.is_clip


def require_agreement(sampler: Engine, engine: HFEngine, temperature: float) -> None:
    """Raise `SetupError` where a sampler that has just taken the learner's weights does not speak like the learner."""
    done = sampler.generate(PROBE, Sampling(temperature=temperature, max_tokens=8), seed=0)
    items = [(prompt, completion.ids) for prompt, completion in zip(PROBE, done, strict=True)]
    hidden = engine.read(items)
    targets = torch.tensor([token for _, ids in items for token in ids], device=hidden.device)
    ours = token_stats(hidden, engine.head(), targets, temperature=temperature)[0].float().cpu()
    gap = float((ours - torch.tensor([x for c in done for x in c.logprobs])).abs().mean())
    if not gap < START_LIMIT:
        raise SetupError(
            f"engine.kind='vllm': after taking the weights of {type(engine.model).__name__}, vLLM's log-probabilities "
            f"are {gap:.2f} nats a token from the learner's. Its names of this model's weights, or its mathematics, "
            "differ; set engine.kind=transformers"
        )
