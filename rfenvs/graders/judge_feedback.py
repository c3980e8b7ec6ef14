"""Feedback items of a judgement: a critique that the policy may read, and for the teacher what it may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rfenvs.feedback import Item, LeakLevel, Visibility, item
from rfenvs.graders.judge_gate import Gate
from rfenvs.graders.judge_leaks import mask
from rfenvs.graders.judging import Judged, Result
from rfenvs.graders.rubric import Rubric

_NO_ANSWER = ("empty", "too_short", "master_key")


def gated(gate: Gate) -> Item:
    """Why an answer was not judged at all."""
    data = {"code": gate.code}
    if gate.code in _NO_ANSWER:
        return item("format_error", gate.text, leak_level=0, data=data)
    return item("invalid_action", gate.text, leak_level=1 if gate.code == "quotes_rubric" else 0, data=data)


def critiques(
    judged: Judged, *, source: str, answers: Sequence[str], rubric: Rubric, known: Sequence[str]
) -> list[Item]:
    """The judge's reason for each criterion that is not met; where it gives something away, masked and whole.

    Args:
        judged: The judgement.
        source: `judge:<name>`.
        answers: Reference answers, which the policy is not to learn.
        rubric: The same of the rubric.
        known: What the policy has seen or written.
    """
    secrets = [text for c in rubric.criteria for text in (c.name, c.text, *c.levels)]
    items = []
    for number, result in failed(judged):
        safe, leaked = mask(result.reason, answers=answers, rubric=secrets, known=known)
        head = f"Criterion {number} of {len(rubric.criteria)} is {'met only in part' if result.rank else 'not met'}"
        data = {
            "code": "partly_met" if result.rank else "not_met",
            "criterion": number,
            "agreement": round(result.agreement, 4),
            "feedback_confidence": "low" if result.low_confidence else "normal",
            "masked": leaked,
        }
        items.append(_said(f"{head}: {safe}" if safe else f"{head}.", source, 1, data, result.share))
        if leaked:
            whole = f"{head}: {result.reason}"
            items.append(_said(whole, source, 3, {**data, "code": "unmasked"}, result.share))
    return items


def failed_criteria(judged: Judged, *, source: str) -> list[Item]:
    """How many criteria are met, and for the teacher the text of those that are not."""
    if not judged.results:
        return []
    missed = failed(judged)
    counted = sum(result.criterion.weight > 0 for result in judged.results)
    text = f"The answer meets {counted - len(missed)} of {counted} criteria."
    items = [_said(text, source, 1, {"code": "criteria"})]
    for number, result in missed:
        text = f"The answer does not fully meet this criterion: {result.criterion.text}"
        items.append(_said(text, source, 3, {"code": "failed_criterion", "criterion": number}, result.share))
    return items


def expected(reference: str, rubric: Rubric) -> Item:
    """The answer key, for the teacher."""
    answer = f"A reference answer:\n{reference}\n" if reference else ""
    text = f"{answer}Answers are judged by these criteria:\n{_written(rubric)}"
    return item("reference", text, visibility="teacher", leak_level=3, data={"code": "expected"})


def rubric_alone(rubric: Rubric) -> Item:
    """The rubric, for a teacher that is to answer by it."""
    text = f"A good answer is one that does well by these criteria:\n{_written(rubric)}"
    data = {"code": "rubric"}
    return item("reference", text, severity="warning", visibility="teacher", leak_level=3, data=data)


def failed(judged: Judged) -> list[tuple[int, Result]]:
    """Criteria that count and have not their best verdict, with their numbers from 1."""
    return [(n, result) for n, result in enumerate(judged.results, 1) if result.criterion.weight > 0 and not result.met]


def _said(text: str, source: str, leak_level: LeakLevel, data: dict[str, Any], score: float | None = None) -> Item:
    visibility: Visibility = "teacher" if leak_level >= 3 else "policy"
    return item(
        "judge_critique", text, source=source, visibility=visibility, leak_level=leak_level, score=score, data=data
    )


def _written(rubric: Rubric) -> str:
    """The criteria that count, with what their choices stand for."""
    lines = []
    for criterion in rubric.criteria:
        if criterion.weight > 0:
            lines.append(f"- {criterion.text}")
            if criterion.levels:
                pairs = zip(criterion.choices, criterion.levels, strict=True)
                lines += [f"  {choice}: {level}" for choice, level in pairs]
    return "\n".join(lines)
