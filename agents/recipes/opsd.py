"""OPSD: self-distilled reasoner (arXiv 2601.18734). One model, two prompts: the teacher's holds the reference solution.

    y   ~ p(. | x)                                       the student answers the plain question
    q_t = q(. | x, reference, y_<t)                      the teacher reads the same tokens, knowing the solution
    D_t = beta KL(q_t || m) + (1 - beta) KL(p_t || m),   m = beta q_t + (1 - beta) p_t
    L   = 1/N sum_t D_t

beta is ``alpha``: 0 is coded as KL(q || p), 1 as KL(p || q), as in the released code; the formula itself vanishes
there. The divergence is over the whole vocabulary, or with ``top_k`` (published: 50) over the teacher's likeliest
tokens, both sides renormalised. ``form="sampled"`` is the paper's policy gradient with advantage log q - log p.

Status: full, from the paper and its released code, but for what follows. The teacher may first write down why the
solution is right ("reason first"): ``context.sources=[reference+rationale]``. How long, and in which words, is our
reading; the text is written once for each task, and kept with a teacher that does not move. The words around the
solution are those of `agents.teachers.wording`; the paper's prompts differ, and their mismatch alone changed results
there. Rollouts are drawn from the whole softmax, where the paper cuts it (top-p 0.95, top-k 20) and scores the uncut
one.

Caution: a later revision cuts each vocabulary entry of the sum at a small value (``clip=0.05, clip_at="entry"``),
because words of style have 6 to 15 times the divergence of others. Such a cut reverses the gradient of the very
tokens that the teacher wants more of (`agents.recipes.pw_opsd`); ``clip_at="position"`` bounds a position and keeps
its direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill, Term
from agents.recipes.base import TaughtRecipe, Texts
from agents.recipes.tools import StepTools
from agents.teachers.contexts import Context, without_thinking
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

EXPLAIN = "\n\nSolution: {reference}\n\nExplain step by step why this is the solution."


class OPSD(TaughtRecipe):
    """Jensen-Shannon divergence from the policy of step 0, shown the reference."""

    name: ClassVar[str] = "opsd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 2e-4},
        "model": {"lora_rank": 64, "lora_alpha": 128.0},
        "batch": {"tasks": 32, "attempts": 1},
        "sampling": {"temperature": 1.1, "max_tokens": 1024},
    }
    gives: ClassVar[tuple[str, ...]] = ("rationale",)

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    context: Context = Context(sources=["reference"], allow_reference=True)
    alpha: float = Field(0.5, ge=0, le=1, description="the paper's beta: 0 forward KL, 1 reverse KL, between: JSD")
    top_k: int = Field(0, ge=0, description="divergence over the likeliest tokens alone; 0: whole vocabulary")
    support: Literal["student", "teacher"] = Field("teacher", description="with top_k: whose likeliest tokens")
    tail: bool = Field(False, description="with top_k: one bucket for the rest, instead of renormalising both sides")
    form: Literal["full", "sampled"] = Field(
        "full", description="full: over the vocabulary or top_k; sampled: a policy gradient on the sampled token"
    )
    clip: float | None = Field(None, gt=0, description="cap of the divergence, nats; null: none")
    clip_at: Literal["position", "entry"] = Field(
        "position",
        description="what is capped: position: a position's sum, its gradient scaled down; entry: each summand, for "
        "replication (it reverses gradients)",
    )
    rationale_tokens: int = Field(512, ge=1, description="longest rationale, with the source 'rationale'")

    _rationales: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> OPSD:
        if self.form == "sampled" and (self.alpha != 1.0 or self.top_k or self.clip is not None):
            raise ValueError(
                "recipe.form='sampled' estimates the whole reverse KL: it needs recipe.alpha=1, recipe.top_k=0 and "
                f"recipe.clip=null, not recipe.alpha={self.alpha}, recipe.top_k={self.top_k}, recipe.clip={self.clip}"
            )
        if "rationale" in self.context.parts and not self.context.allow_reference:
            raise ValueError(
                f"recipe.context.sources={self.context.sources}: a rationale is written from the reference, but "
                "recipe.context.allow_reference is false; set it to true"
            )
        return self

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """What the divergence takes, which for the sampled token is little; and words, for a rationale."""
        found = {"logprob": "recipe.form='sampled'"} if self.form == "sampled" else super().needs(name)
        if "rationale" in self.context.parts:
            found["generate"] = "the source 'rationale' of recipe.context.sources"
        return found

    def given(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> Texts:
        """The references, and where they are asked for the teacher's own words about them."""
        if not {"reference", "rationale"} & set(self.context.parts):
            return {}
        golds = {g: tools.gold(g) for g in {s.group for s in samples}}
        found = {"reference": [golds[s.group] for s in samples]}
        if "rationale" in self.context.parts:
            if self.teacher.kind not in ("frozen", "external", "server"):
                self._rationales.clear()  # another teacher than last time
            asked = {s.group: s for s in reversed(samples) if s.turn == 0 and golds[s.group] is not None}
            new = {g: s for g, s in asked.items() if _task(groups[g]) not in self._rationales}
            replies = tools.ask([_explain(s, golds[g]) for g, s in new.items()], MAIN, max_tokens=self.rationale_tokens)
            for g, reply in zip(new, replies, strict=True):
                self._rationales[_task(groups[g])] = without_thinking(reply.text)
            found["rationale"] = [self._rationales.get(_task(groups[s.group])) for s in samples]
        return found

    def state_dict(self) -> dict[str, Any]:
        """Rationales by task."""
        return {"rationales": dict(self._rationales)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self._rationales = dict(state["rationales"])

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on every token that the teacher scored, mean over tokens."""
        return [self.distill(token_mean(batch.per_token(batch.taught).float()))]

    def distill(self, coefficients: Tensor, **changes: Any) -> Distill:
        """The divergence of the settings, capped where ``clip`` says so."""
        sampled = {"form": "sampled", "support": "student"}
        own = sampled if self.form == "sampled" else {"clip": self.clip, "clip_at": self.clip_at}
        return super().distill(coefficients, **{**own, **changes})


def _task(group: Group) -> str:
    return str(group.task["id"])


def _explain(sample: Sample, reference: str | None) -> list[dict[str, str]]:
    *before, last = sample.messages
    return [*before, {**last, "content": last["content"] + EXPLAIN.format(reference=reference)}]
