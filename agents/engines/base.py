"""What an engine is asked for: sample from prompts, and score given ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field


class Sampling(BaseModel):
    """How actions are drawn."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(1.0, ge=0, description="softmax temperature; 0 is greedy")
    top_p: float = Field(
        1.0, gt=0, le=1, description="nucleus mass; training wants 1, so that log-probabilities are exact"
    )
    max_tokens: int = Field(256, ge=1, description="longest action, in tokens")


class EngineSettings(BaseModel):
    """Who samples the policy's actions: in training, in evaluations and in `rfenvs check-teacher`."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["transformers", "vllm"] = Field(
        "transformers", description="transformers: the trained model itself samples; vllm: a copy of it in vLLM"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of vLLM's copy; auto: float32 on CPU, bfloat16 on CUDA"
    )
    gpu_memory_fraction: float = Field(
        0.4, gt=0, lt=1, description="share of the GPU that vLLM takes, weights and cache; the learner needs the rest"
    )
    cpu_cache_gib: float = Field(1.0, gt=0, description="vLLM's key-value cache on a CPU, GiB")
    max_model_len: int | None = Field(
        None, ge=2, description="longest sequence in vLLM, tokens; none: the model's own, or what the cache can hold"
    )
    enforce_eager: bool = Field(True, description="no compilation, no CUDA graphs: vLLM starts at once, but is slower")


@dataclass
class Completion:
    """One sampled action."""

    ids: list[int]
    """Sampled ids, the stop token included."""
    logprobs: list[float]
    """Log-probability of each id under softmax(logits / temperature), nats; at temperature 0, under temperature 1."""
    finish_reason: str
    """``"stop"`` or ``"length"``."""


@dataclass
class Answer:
    """One answer in words."""

    text: str
    ids: list[int]
    """As sampled, the stop token included; of a server that tells text alone: those of its text."""
    logprobs: list[float]
    """As in `Completion`; NaN where unknown."""
    finish_reason: str
    """``"stop"``, ``"length"``, ``"refusal"``; ``"failed"``: a server gave no answer."""


Generate = Callable[[list[list[int]], Sampling, int], list[Completion]]
"""`Engine.generate`."""


class Engine(Protocol):
    """Samples from the current policy. The weights it samples from carry a version, counted by the learner."""

    context_length: int

    def generate(self, prompts: list[list[int]], sampling: Sampling, seed: int) -> list[Completion]:
        """One completion of each prompt, empty where that leaves no room; equal prompts are forwarded once.

        Equal arguments and weights give equal completions.
        """
        ...
