"""Who teaches, as settings: which weights or which server, and what it can be asked for."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agents.errors import SetupError
from agents.teachers.abilities import BLACK_BOX, EVERYTHING, TOP_K

Kind = Literal["live", "frozen", "ema", "trust_region", "periodic", "gated", "external", "server"]

_BELONGS: dict[str, tuple[str, ...]] = {
    "model": ("external", "server"),
    "dtype": ("external",),
    "device": ("external",),
    "every": ("periodic", "gated"),
    "gain": ("gated",),
    "longest": ("gated",),
    **dict.fromkeys(
        ("url", "api_key_variable", "top_k", "concurrency", "timeout_s", "retries", "max_failed", "cache"), ("server",)
    ),
}
"""Settings that only some kinds have."""


class TeacherSettings(BaseModel):
    """Which weights teach."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Field(
        "ema",
        description="whose weights teach: the policy's now (live), at the start (frozen), their running mean (ema), a "
        "mixture of now and start (trust_region), those of a while ago (periodic, gated), another model's (external), "
        "or those behind an OpenAI-compatible server (server)",
    )
    rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="u: EMA step a rollout batch, or the trust region's mixing weight; other kinds have no use for it",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="divides the teacher's logits, beside the sampling temperature; below 1 it sharpens",
    )
    model: str = Field(
        "",
        description="kind=external: a Hugging Face directory or hub id with the policy's tokenizer; of any size. "
        "kind=server: its name there; empty: the only one",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="kind=external: auto is float32 on CPU, bfloat16 on CUDA"
    )
    device: str = Field("auto", description="kind=external: auto is the policy's device")
    every: int = Field(
        10,
        ge=1,
        description="kind=periodic: rollout batches from one copy of the policy to the next; kind=gated: at least so "
        "many, and the steps over which reward and length are averaged",
    )
    gain: float = Field(
        0.01, ge=0, description="kind=gated: how much the mean reward must have risen since the last copy"
    )
    longest: float = Field(
        0.1, ge=0, le=1, description="kind=gated: share of replies cut at the token limit above which nothing is copied"
    )
    url: str = Field("", description="kind=server: the address, up to and with /v1")
    api_key_variable: str = Field(
        "OPENAI_API_KEY", description="kind=server: environment variable that holds the key, where one is needed"
    )
    top_k: int = Field(
        20, ge=0, description="kind=server: likeliest tokens asked for at each position; 0: text alone (black box)"
    )
    concurrency: int = Field(16, ge=1, description="kind=server: requests at a time")
    timeout_s: float = Field(120.0, gt=0, description="kind=server: longest wait for one answer")
    retries: int = Field(4, ge=0, description="kind=server: how often a request is tried again")
    max_failed: float = Field(
        0.5, ge=0, le=1, description="kind=server: share of failed requests of a step above which the run stops"
    )
    cache: str = Field("", description="kind=server: folder that keeps its scores; empty: kept in memory alone")

    @property
    def source(self) -> tuple[object, ...]:
        """Whose weights: teachers with equal sources share them, whatever temperature they are read at."""
        match self.kind:
            case "frozen" | "trust_region":
                return ("start",)
            case "ema":
                return "ema", self.rate
            case "periodic":
                return "periodic", self.every
            case "gated":
                return "gated", self.every, self.gain, self.longest
            case "external":
                return "external", self.model, self.dtype, self.device
            case "server":
                return ("server", *(getattr(self, name) for name, kinds in _BELONGS.items() if "server" in kinds))
            case _:
                return ("live",)

    @property
    def another(self) -> bool:
        """Whether another model teaches, which needs to see no more than the policy."""
        return self.kind in ("external", "server")

    @property
    def abilities(self) -> frozenset[str]:
        """What the teacher can be asked for, among `agents.teachers.abilities.ABILITIES`."""
        if self.kind != "server":
            return EVERYTHING
        return TOP_K if self.top_k else BLACK_BOX

    def check_temperature(self, sampling_temperature: float) -> None:
        """Raise `SetupError` where a server would be compared at another temperature than that of its scores, 1."""
        asked = sampling_temperature * self.temperature
        if self.kind == "server" and self.top_k and not math.isclose(asked, 1.0, rel_tol=1e-3):
            raise SetupError(
                f"recipe.teacher.temperature={self.temperature:g} beside sampling.temperature={sampling_temperature:g} "
                f"asks for the teacher at temperature {asked:g}, but recipe.teacher.kind='server' tells its likeliest "
                "tokens at 1: set sampling.temperature=1 and recipe.teacher.temperature=1"
            )

    @model_validator(mode="after")
    def _complete(self) -> TeacherSettings:
        if self.kind == "external" and not self.model:
            raise ValueError(
                "teacher.kind='external' needs teacher.model: a directory or hub id with the policy's tokenizer"
            )
        if self.kind == "server" and not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"teacher.kind='server' needs teacher.url, an address such as http://localhost:8000/v1, "
                f"not {self.url!r}"
            )
        for name, kinds in _BELONGS.items():
            if self.kind not in kinds and getattr(self, name) != type(self).model_fields[name].default:
                here = "" if self.another else "; here the teacher is the policy itself"
                raise ValueError(
                    f"teacher.{name}={getattr(self, name)!r} belongs to teacher.kind="
                    f"{' or '.join(map(repr, kinds))}, not to kind={self.kind!r}{here}"
                )
        return self
