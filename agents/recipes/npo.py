"""NPO: near-future policy optimisation (arXiv 2604.20733). A failed slot of the group goes to a later success.

Status: partial. The exchange, the gate and guides from another run's later steps are here, which is how the paper's
own early and late interventions work: train on, go back, train again with what the later weights got right. AutoNPO
(when to go back, and how far) is not built: one run has no later checkpoint of itself to take guides from, and going
back is the work of whoever starts runs. The gate's value is not confirmed.

    p(x) <= gate, and a verified guide o' of the task is known:    one failed attempt of the group <- o'
    L as in GRPO on the new group, ratio p / q for o', q being whoever wrote it

Auxiliary trajectories are worth quality over variance. Verified, all are right, so that the nearest future is the best
guide: the first success at the task in a step after this one (`guides`: a run of the same tasks that went further; at
most ``horizon`` steps ahead). Where that knows none, the latest success of this run's own past is taken
(``own_past``): replay as in RLEP, source ``"replay"``, and not the paper's near future, source ``"guided"``.

Our readings: the exchanged slot is the last failure. q is known for the own past, and for a guide whose tokens were
recorded; else the ratio starts at 1, as if the guide had been sampled (the paper finds exact weights unnecessary).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from agents.advantages import group_advantages
from agents.batch import Sample
from agents.guides import Guide, guides_file, read_guides
from agents.recipes.grpo import GRPO
from agents.recipes.tools import StepTools
from agents.trajectory import Group, Trajectory, Turn

if TYPE_CHECKING:
    from agents.config import TrainConfig


class NPO(GRPO):
    """GRPO, in whose weak groups one attempt is exchanged for a verified one."""

    name: ClassVar[str] = "npo"

    guides: str = Field("", description="run directory, or trajectories.jsonl, of a run that went further; empty: none")
    begins_at: int = Field(0, ge=0, description="step of that run from whose weights this one starts")
    horizon: int | None = Field(None, ge=1, description="steps that a guide may be ahead; null: any number")
    own_past: bool = Field(True, description="without a guide, take the latest success of this run at the task")
    gate: float = Field(0.25, ge=0, lt=1, description="pass rate up to which a group is given a guide")

    _past: dict[str, Guide] = PrivateAttr(default_factory=dict)
    _future: dict[str, list[Guide]] | None = PrivateAttr(default=None)

    def check_run(self, run: TrainConfig) -> None:
        """The other run must be there."""
        super().check_run(run)
        if self.guides:
            guides_file(self.guides)

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The rollout with its exchanges; advantages are those of the groups that result."""
        samples, exchanged = super().samples(groups, tools), {"guided": 0, "replay": 0}
        for g, group in enumerate(groups):
            scored = group.scored()
            failed = [a for a, t in enumerate(group.trajectories) if t.scored and t.turns and t.reward < 1]
            if not failed or 1 - len(failed) / len(scored) > self.gate:
                continue
            slot = failed[-1]
            source, guide = self._guide(group, tools)
            if guide is not None:
                turns = guide.samples(g, slot, source, group.trajectories[slot].turns[0], tools.chat)
                if turns and all(len(s.prompt_ids) + len(s.action_ids) <= tools.limit for s in turns):
                    samples = self._exchange(samples, group, g, slot, turns)
                    exchanged[source] += 1
        tools.log |= {f"{source}_slots": n / max(len(groups), 1) for source, n in exchanged.items()}
        self._remember(groups, tools.step)
        return samples

    def _guide(self, group: Group, tools: StepTools) -> tuple[str, Guide | None]:
        """The nearest success ahead, else the last one behind."""
        if self._future is None:
            self._future = read_guides(self.guides) if self.guides else {}
        task, now = _task(group), tools.step + self.begins_at
        limit = float("inf") if self.horizon is None else now + self.horizon
        ahead = [guide for guide in self._future.get(task, []) if now < guide.step <= limit]
        if ahead:
            return "guided", min(ahead, key=lambda guide: guide.step)
        return "replay", self._past.get(task) if self.own_past else None

    def _exchange(self, samples: list[Sample], group: Group, g: int, slot: int, turns: list[Sample]) -> list[Sample]:
        others: list[Trajectory] = list(group.trajectories)
        others[slot] = Trajectory([Turn([], [], [], "", [], turns[0].reward)])
        values = group_advantages([Group(group.task, others)], self.normalise_advantages)
        result: list[Sample] = []
        for sample in samples:
            if (sample.group, sample.attempt) == (g, slot):
                result += turns  # where the failure stood
                turns = []
            else:
                result.append(sample)
        for sample in result:
            if sample.group == g:
                sample.advantage = values[0, sample.attempt]
        return result

    def _remember(self, groups: Sequence[Group], step: int) -> None:
        for group in groups if self.own_past else ():
            right = [t for t in group.scored() if t.reward >= 1 and all(turn.source == "policy" for turn in t.turns)]
            if right:
                self._past[_task(group)] = Guide.of(right[-1], step)

    def state_dict(self) -> dict[str, Any]:
        """The own past."""
        return {"past": {task: guide.to_dict() for task, guide in self._past.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self._past = {task: Guide.from_dict(row) for task, row in state["past"].items()}


def _task(group: Group) -> str:
    return str(group.task.get("id"))
