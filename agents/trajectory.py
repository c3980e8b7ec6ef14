"""Every type that flows from the rollout to the learner.

    Group  =  trajectories of one task  =  lists of turns

One turn is one call of the policy: the ids it was shown, the ids it sampled, and what the environment said
about them. Nothing here knows of torch: ids are lists of int, log-probabilities lists of float (nats).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger(__name__)

Message = dict[str, str]
"""A chat message: ``{"role": "system" | "user" | "assistant" | "tool", "content": str}``."""

STATE_KEYS = ("state_key", "admissible_commands", "expert_action", "expert_plan", "plan_distance", "won")
"""What an environment may tell trusted code about its state, in ``info``; never shown to the policy."""


@dataclass
class Turn:
    """One action of the policy and the environment's answer to it.

    ``prompt_ids + action_ids`` is exactly what the model saw and sampled; neither is ever re-encoded.
    """

    prompt_ids: list[int]
    """Everything the policy was shown before it acted, this turn's observation included."""
    action_ids: list[int]
    """Sampled ids, the stop token included when one was sampled."""
    logprobs: list[float]
    """Sampler's log-probability of each action id, at the sampling temperature; same length as ``action_ids``."""
    text: str
    """The action as the environment received it: decoded, stop token removed."""
    messages: list[Message]
    """The conversation as the policy saw it before this action."""
    reward: float = 0.0
    feedback: list[dict[str, Any]] = field(default_factory=list)
    """Feedback items that followed this action (`rfenvs.FEEDBACK_SCHEMA`)."""
    finish_reason: str = "stop"
    """``"stop"``: a stop token was sampled; ``"length"``: the token budget ran out."""
    source: str = "policy"
    """Who acted: ``"policy"``; or ``"expert"``, whose ids were not sampled, so that ``logprobs`` is empty."""
    prefix: int = 0
    """``prompt_ids[:prefix]`` is the turn before, prompt and action, exactly; 0 where the row starts anew."""
    stem: int = 0
    """``prompt_ids[:stem]`` ends with the action before as it is shown here: ``prefix``, where the row goes on."""
    new_messages: int = 0
    """The last so many of ``messages`` came after the action before: they are ``prompt_ids[stem:]``."""
    before: dict[str, Any] = field(default_factory=dict)
    """State of the environment when this action was chosen: those of `STATE_KEYS` that it tells."""
    after: dict[str, Any] = field(default_factory=dict)
    """The same, after it."""
    advice: str | None = None
    """The expert's action at this turn, where the rollout asked for it (`agents.rollout.Drive.advise`)."""
    reply: str = ""
    """What the environment answered, as text; the policy does not see it after the last action."""


def judged(task: str, reward: float, scored: bool) -> tuple[float, bool]:
    """A reward, and whether it is one: what is not finite would poison every mean, so it counts as not scored.

    Says so in a warning that names the ``task``; the number is then 0.
    """
    if math.isfinite(reward):
        return reward, scored
    _log.warning("Task %s: the environment gave the reward %s: the attempt is not scored", task, reward)
    return 0.0, False


@dataclass
class Trajectory:
    """One episode.

    ``scored`` is False where the environment could not judge it: such a trajectory is never trained on and
    never counts as reward 0.
    """

    turns: list[Turn]
    stop_reason: str = ""
    scored: bool = True
    truncated: bool = False
    """The episode was cut, by the environment or by the rollout, before it came to its own end."""

    @property
    def reward(self) -> float:
        """Sum of the turns' rewards."""
        return float(sum(turn.reward for turn in self.turns))

    @property
    def tokens(self) -> int:
        """Number of tokens that the policy sampled."""
        return sum(len(turn.action_ids) for turn in self.turns if turn.source == "policy")


@dataclass
class Group:
    """Several attempts at one task: the unit of group-relative advantages and of sibling demonstrations."""

    task: dict[str, Any]
    """``info["task"]`` of the environment: id, index, split, env_id, data_revision."""
    trajectories: list[Trajectory]

    def scored(self) -> list[Trajectory]:
        """The trajectories that the environment could judge."""
        return [t for t in self.trajectories if t.scored]
