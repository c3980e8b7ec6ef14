"""Views under somebody else's question: what a hint says of any task is told apart from what it says of this one.

    view of sample i in stream "contrast1"  =  the prompt of another task's sample  +  the hint of sample i

A teacher that likes a token as much there as here likes it for being generic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from agents.batch import Sample


def partners(samples: Sequence[Sample], count: int, seed: str) -> list[list[Sample | None]]:
    """For each of ``count`` contrasts, a sample of another task for each sample; None where there are too few tasks.

    Tasks are paired round a seeded circle, so that each lends its question as often as the next, and the contrasts of
    a sample are different tasks. Of the other task it is the turn at the same place of an episode, else the last one
    before it.
    """
    tasks: dict[int, dict[int, Sample]] = {}
    for sample in samples:
        tasks.setdefault(sample.group, {}).setdefault(sample.turn, sample)
    circle = sorted(tasks)
    random.Random(f"{seed}:contrast").shuffle(circle)
    place = {group: k for k, group in enumerate(circle)}

    def partner(sample: Sample, step: int) -> Sample | None:
        if step >= len(circle):
            return None
        turns = tasks[circle[(place[sample.group] + step) % len(circle)]]
        return turns[max((t for t in turns if t <= sample.turn), default=min(turns))]

    return [[partner(sample, step) for sample in samples] for step in range(1, count + 1)]
