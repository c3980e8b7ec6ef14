"""SORT: plan-guided learning of references (arXiv 2605.11505). Tasks that all attempts failed teach by their solution.

Status: full; the size of the buffer, the wording of the request for a plan and its length are our reading.

    s     = plan that the policy extracts from the reference y*
    w_t   = stopgrad( p(y*_t | x, y*_<t)^(1 - beta)  p(y*_t | x, s, y*_<t)^beta )         beta 1/2: sqrt(p_b p_s)
    L_aux = - mean_t w_t log p(y*_t | x, y*_<t)

A token counts as far as the policy can already say it, or could with the plan: what is strange either way is not
forced upon it. beta = 0 is DFT. Failed tasks wait in a queue, which is part of a checkpoint; at ``buffer`` of them one
auxiliary optimiser step follows that step's own, of GRPO, which is left as it is.

Our readings: a task waits once; its plan is made when the step fires, by the weights of that moment, which also give
both probabilities; where there is no plan (no room for one) the weight is p_b, as in DFT. The environment must tell the
right answer, in one action: tasks of several turns never enter the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from agents.batch import Batch, Sample
from agents.losses.reduction import token_mean
from agents.losses.terms import Likelihood, Term
from agents.recipes.grpo import GRPO
from agents.recipes.tools import StepTools, golden
from agents.teachers.hints import Hint
from agents.teachers.wording import reworded
from agents.trajectory import Group, Message

_ASK = (
    "Write down the plan that this solution follows, in a few short steps. Do not repeat the solution, and do not "
    "give its result."
)


class SORT(GRPO):
    """GRPO, and weighted likelihood of the references of tasks that every attempt failed."""

    name: ClassVar[str] = "sort"

    beta: float = Field(0.5, ge=0, le=1, description="how much of a token's weight is its probability under the plan")
    buffer: int = Field(32, ge=1, description="failed tasks that make an auxiliary optimiser step")
    aux_weight: float = Field(1.0, ge=0, description="of the likelihood in that step")
    plan_tokens: int = Field(256, ge=1, description="longest plan, in tokens")

    _queue: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The rollout; and the oldest of the queue, where it is long enough."""
        failed = {g for g, group in enumerate(groups) if group.scored() and all(t.reward < 1 for t in group.scored())}
        for sample in golden(groups, tools, failed):
            task = str(groups[sample.group].task.get("id"))
            self._queue[task] = {
                "prompt_ids": sample.prompt_ids, "messages": sample.messages,
                "action_ids": sample.action_ids, "text": sample.text,
            }  # fmt: skip
        fired = list(self._queue)[: self.buffer] if len(self._queue) >= self.buffer else []
        references = self._references([self._queue.pop(task) for task in fired], len(groups), tools)
        tools.log["queue"] = float(len(self._queue))
        return [*super().samples(groups, tools), *references]

    def _references(self, waited: list[dict[str, Any]], first: int, tools: StepTools) -> list[Sample]:
        """The references as sequences, each with what its tokens' weights are made of; groups from ``first`` on."""
        asked = [_request(w["messages"], w["text"]) for w in waited]
        plans = [reply.text.strip() for reply in tools.ask(asked, max_tokens=self.plan_tokens)]
        guided = [w["prompt_ids"] for w in waited]
        for k, (w, plan) in enumerate(zip(waited, plans, strict=True)):
            ids = tools.chat.encode(reworded("paper", w["messages"], Hint(notes=(("strategy", plan),))))
            if plan and len(ids) + len(w["action_ids"]) <= tools.limit:
                guided[k] = ids
        alone = tools.logprobs([(w["prompt_ids"], w["action_ids"]) for w in waited])
        with_plan = tools.logprobs([(ids, w["action_ids"]) for ids, w in zip(guided, waited, strict=True)])
        return [
            Sample(
                w["prompt_ids"], w["action_ids"], None, w["messages"], w["text"], 1.0, [], first + k, 0, 0,
                source="reference", notes={"alone": alone[k], "with_plan": with_plan[k], "plan": plans[k]},
            )
            for k, w in enumerate(waited)
        ]  # fmt: skip

    def batches(self, samples: Sequence[Sample], steps: int) -> list[list[Sample]]:
        """GRPO's steps; then the references have one of their own."""
        own = [s for s in samples if s.source == "policy"]
        references = [s for s in samples if s.source == "reference"]
        return [*(super().batches(own, steps) if own else []), *([references] if references else [])]

    def idle(self, batch: Batch) -> Tensor | None:
        """Flat groups, but no references."""
        return batch.made_by("policy") & (batch.advantages == 0)

    def terms(self, batch: Batch) -> list[Term]:
        """GRPO on the policy's tokens, weighted likelihood on those of references."""
        own, given = batch.per_token(batch.made_by("policy")), batch.per_token(batch.made_by("reference"))
        terms: list[Term] = [self.surrogate(batch, token_mean(own.float()))] if own.any() else []
        if given.any():
            alone, with_plan = _noted(batch, "alone"), _noted(batch, "with_plan")
            weights = ((1 - self.beta) * alone + self.beta * with_plan).exp()
            batch.log["reference_weight"] = float(weights[given].mean())
            terms.append(Likelihood(self.aux_weight * token_mean(given.float(), weights)))
        return terms

    def state_dict(self) -> dict[str, Any]:
        """The queue."""
        return {"queue": [[task, dict(waiting)] for task, waiting in self._queue.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it, in order."""
        self._queue = {task: dict(waiting) for task, waiting in state["queue"]}


def _request(messages: Sequence[Message], solution: str) -> list[Message]:
    *before, last = messages
    return [*before, {**last, "content": f"{last['content']}\n\nCorrect solution:\n\n{solution}\n\n{_ASK}"}]


def _noted(batch: Batch, name: str) -> Tensor:
    """[N] numbers that samples carry for their tokens; 0 elsewhere."""
    return torch.tensor([x for s in batch.samples for x in s.notes.get(name, [0.0] * len(s.action_ids))])
