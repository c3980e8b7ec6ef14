"""Judges: from a student's turn, and what the environment made of it, to skip, weak or strong.

    teacher    the teacher is asked in words (SAGE-OPD, arXiv 2606.19659; `agents.credit.teacher_judge`)
    rule       from feedback alone; the table is at `by_rule`
    oracle     from the exact planner's distances; the table is at `by_plan`
    agreement  from the share of response tokens that are the teacher's likeliest: a proxy, see `by_agreement`

Source of the labels and of failing closed: SAGE-OPD. The rules and the oracle are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from agents.batch import Batch, Sample
from agents.credit.labels import Label, Verdict, failed_closed
from agents.credit.turns import complaints, failure, repeats, returns, unchanged
from agents.errors import SetupError
from agents.trajectory import Group, Trajectory


class JudgeSettings(BaseModel):
    """Who decides which turns the teacher corrects, and from what."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["teacher", "rule", "oracle", "agreement"] = Field(
        "teacher",
        description="teacher: the teacher is asked; rule: from feedback alone; oracle: from the environment's planner; "
        "agreement: from the teacher's likeliest tokens (a proxy)",
    )
    leak_level: int = Field(
        1, ge=0, le=3, description="feedback that gives away more of the answer is not read; 3: all of it is"
    )
    history: int = Field(2, ge=0, description="teacher: earlier turns that it is shown")
    triggers: bool = Field(
        True, description="teacher: a turn that failed outright, or repeats one, is at least weak, whatever it says"
    )
    max_chars: int = Field(2000, ge=100, description="teacher: longest text of the task, a turn or an answer")
    max_tokens: int = Field(64, ge=8, description="teacher: longest verdict; a longer one counts as none")
    cache: int = Field(20_000, ge=0, description="teacher: verdicts remembered while its weights stay the same")
    codes: dict[str, Label] = Field({}, description="rule: labels of reason codes, for example '{closed: weak}'")
    max_rise: int = Field(0, ge=0, description="oracle: how much longer the plan may get for a turn to count as weak")
    skip_above: float = Field(0.8, ge=0, le=1, description="agreement: share of tokens above which a turn is skipped")
    weak_above: float = Field(0.0, ge=0, le=1, description="agreement: share of tokens above which it is weak")

    @model_validator(mode="after")
    def _ordered(self) -> JudgeSettings:
        if self.weak_above > self.skip_above:
            raise ValueError(
                f"weak_above={self.weak_above} is above skip_above={self.skip_above}: nothing could be weak"
            )
        return self


def by_rule(settings: JudgeSettings, trajectory: Trajectory, t: int) -> Verdict:
    """From feedback alone: no model, no reward, no plan. The first row that fits:

    | what the environment said of the turn | label |
    |---|---|
    | a reason code that ``settings.codes`` names | its label |
    | an item of severity error or fatal; "Nothing happens."; a traceback | strong |
    | the same as it said of the same action before, or the action was tried in this very state | strong |
    | an item of severity warning | weak |
    | the state key is unchanged, or one that the episode was in before | weak |
    | anything else | skip |

    Items about the whole episode do not count, nor those above ``settings.leak_level``; state keys are used where the
    environment tells them.
    """
    turn, level = trajectory.turns[t], settings.leak_level
    items = complaints(turn, level)
    for entry in items:
        code = str(entry.get("data", {}).get("code", ""))
        if code in settings.codes:
            return Verdict(settings.codes[code], f"code {code}")
    if why := failure(turn, level):
        return Verdict("strong", why)
    worst = {entry["severity"]: entry["text"] for entry in reversed(items)}
    for severity in ("fatal", "error"):
        if severity in worst:
            return Verdict("strong", worst[severity])
    if repeats(trajectory, t, level):
        return Verdict("strong", "the same action had the same answer before")
    if "warning" in worst:
        return Verdict("weak", worst["warning"])
    if unchanged(turn):
        return Verdict("weak", "the state is unchanged")
    if returns(trajectory, t):
        return Verdict("weak", "back in an earlier state")
    return Verdict("skip", "no complaint")


def by_plan(settings: JudgeSettings, trajectory: Trajectory, t: int) -> Verdict:
    """From an exact planner: d and d' are the fewest actions to the goal before and after the turn.

    | | label |
    |---|---|
    | the goal is reached, or d' < d: a shortest plan holds this action | skip |
    | no plan any more (or none before the turn either) | strong |
    | the state key is unchanged, or the environment says that the action failed | strong |
    | d <= d' <= d + ``max_rise``: a detour, nothing undone | weak |
    | d' above that: the turn undid something | strong |

    Every action costs one; looking around leaves the state as it is and so is strong: a turn was lost.
    """
    turn = trajectory.turns[t]
    before, after = turn.before.get("plan_distance"), turn.after.get("plan_distance")
    if turn.after.get("won"):
        return Verdict("skip", "won")
    if before is None or after is None:
        return Verdict("strong", "no plan is left")
    if after < before:
        return Verdict("skip", f"on a shortest plan, {after} to go")
    if unchanged(turn) or failure(turn, settings.leak_level):
        return Verdict("strong", "the state is unchanged")
    if after <= before + settings.max_rise:
        return Verdict("weak", f"off the plan, {after} to go as far as {before} before")
    return Verdict("strong", f"farther from the goal: {before} to go became {after}")


def by_agreement(settings: JudgeSettings, agrees: Tensor) -> Verdict:
    """A proxy, no judgement: the share of a turn's tokens, [T] bool, that are the teacher's likeliest.

    Above ``skip_above`` skip, above ``weak_above`` weak, else strong. It looks at wording, not at what the
    environment said, and calls a good alternative a mistake.
    """
    share = float(agrees.double().mean()) if len(agrees) else 0.0
    label: Label = "skip" if share > settings.skip_above else "weak" if share > settings.weak_above else "strong"
    return Verdict(label, f"{share:.0%} of its tokens are the teacher's likeliest")


def agreement_labels(settings: JudgeSettings, batch: Batch) -> list[Verdict]:
    """`by_agreement` for each sample of a batch that has been read; a sample that is not taught fails closed."""
    if batch.reading is None:
        return [failed_closed("the teacher did not read this turn") for _ in batch.samples]
    parts: Sequence[Tensor] = torch.split(batch.reading.agrees, batch.lengths.tolist())
    return [
        by_agreement(settings, part) if taught else failed_closed("the teacher did not read this turn")
        for part, taught in zip(parts, batch.taught.tolist(), strict=True)
    ]


def label_by_environment(settings: JudgeSettings, samples: Sequence[Sample], groups: Sequence[Group]) -> list[Verdict]:
    """The verdict of a judge that needs no model, "rule" or "oracle", on each sample.

    Raises:
        SetupError: The oracle is asked, and the environment told no plan distance in any episode.
    """
    if settings.kind == "oracle":
        _require_distances(samples, groups)
    judge = {"rule": by_rule, "oracle": by_plan}[settings.kind]
    return [judge(settings, groups[s.group].trajectories[s.attempt], s.turn) for s in samples]


def _require_distances(samples: Sequence[Sample], groups: Sequence[Group]) -> None:
    episodes = [groups[s.group].trajectories[s.attempt] for s in samples]
    if episodes and all(turn.before.get("plan_distance") is None for e in episodes for turn in e.turns):
        raise SetupError(
            "recipe.intervention.judge.kind='oracle' needs info['plan_distance'], which the environment does not tell; "
            "set env.kwargs to '{expert: true}' if it has a planner, or choose recipe.intervention.judge.kind=rule"
        )
