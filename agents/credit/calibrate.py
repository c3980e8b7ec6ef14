"""Order between right and wrong attempts, restored: a teacher's word is trusted where it ranks them as outcomes do.

    a_i   mean over the tokens of attempt i of log q - log p                the teacher's mark of an attempt
    gap   mean of a over the right ones - mean over the wrong ones          mode "mean"
          min of a over the right ones - max over the wrong ones            mode "minmax"

Wanted is gap >= margin. `margin_shift` adds a constant to right or wrong attempts until it is; `margin_mask` leaves
attempts out instead. Both act on one set of attempts, a group or a batch; where it is all right or all wrong, nothing
can be compared and nothing changes.

Source: Uni-OPD (arXiv 2605.03677).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Mode = Literal["mean", "minmax"]
Direction = Literal["up", "down", "both"]


def margin_gap(marks: Sequence[float], correct: Sequence[bool], mode: Mode) -> float | None:
    """How far right attempts are marked above wrong ones, nats a token; None where there are not both.

    >>> margin_gap([1.0, 3.0, 2.0], [True, True, False], "mean")
    0.0
    >>> margin_gap([1.0, 3.0, 2.0], [True, True, False], "minmax")
    -1.0
    """
    right = [a for a, c in zip(marks, correct, strict=True) if c]
    wrong = [a for a, c in zip(marks, correct, strict=True) if not c]
    if not right or not wrong:
        return None
    if mode == "minmax":
        return min(right) - max(wrong)
    return sum(right) / len(right) - sum(wrong) / len(wrong)


def margin_shift(
    marks: Sequence[float], correct: Sequence[bool], margin: float, mode: Mode, direction: Direction
) -> list[float]:
    """What to add to every token of each attempt, so that the gap is at least ``margin``; 0 where it is already.

    "up": right attempts rise by all that is missing; "down": wrong ones fall by it; "both": half each.

    >>> margin_shift([0.0, 0.0], [True, False], 0.4, "mean", "both")
    [0.2, -0.2]
    """
    gap = margin_gap(marks, correct, mode)
    missing = 0.0 if gap is None else max(0.0, margin - gap)
    up, down = {"up": (missing, 0.0), "down": (0.0, missing), "both": (missing / 2, missing / 2)}[direction]
    return [up if c else -down for c in correct]


def margin_mask(
    marks: Sequence[float], correct: Sequence[bool], margin: float, mode: Mode, least: float = 0.25
) -> list[bool]:
    """Which attempts to keep for the gap to be at least ``margin``: the worst marked right one or the best marked wrong
    one goes, whichever widens the gap more, until it is wide enough.

    At least a share ``least`` of the attempts stays, and one of each kind.

    >>> margin_mask([0.0, 2.0, 1.0, -1.0], [True, True, False, False], 1.5, "mean")
    [False, True, True, True]
    """
    kept = list(range(len(marks)))
    floor = max(2, math.ceil(least * len(marks)))

    def gap(chosen: Sequence[int]) -> float | None:
        return margin_gap([marks[i] for i in chosen], [correct[i] for i in chosen], mode)

    while (now := gap(kept)) is not None and now < margin and len(kept) > floor:
        worst = min((i for i in kept if correct[i]), key=lambda i: marks[i])
        best = max((i for i in kept if not correct[i]), key=lambda i: marks[i])
        left = [[i for i in kept if i != out] for out in (worst, best)]
        wider = [(value, rest) for rest in left if (value := gap(rest)) is not None]
        if not wider:
            break
        kept = max(wider, key=lambda option: option[0])[1]
    return [i in kept for i in range(len(marks))]
