"""What an engine is asked for: sample from prompts, and score given ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field


class Sampling(BaseModel):
    """How actions are drawn."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(1.0, ge=0, description="softmax temperature; 0 is greedy")
    top_p: float = Field(
        1.0, gt=0, le=1, description="nucleus mass; training wants 1, so that log-probabilities are exact"
    )
    max_tokens: int = Field(256, ge=1, description="longest action, in tokens")


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
