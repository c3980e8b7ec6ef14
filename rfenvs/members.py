"""`Member`: one environment of a vector environment, whose failures are kept apart from its neighbours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from rfenvs.env import TextEnv
from rfenvs.feedback import item, stamp

StepResult = tuple[Any, float, bool, bool, dict[str, Any]]
"""Observation, reward, terminated, truncated, info."""

_USER_ERRORS = ValueError, TypeError, KeyError
_log = logging.getLogger(__name__)


class Member:
    """One environment and what is known of its episode.

    Args:
        number: Its index in the vector environment.
        make: Makes the environment; called again after a failure.
        autoreset: What `step` does about an episode that is over.
    """

    __slots__ = "autoreset", "broken", "env", "make", "number", "observation", "over", "propagates"

    def __init__(
        self,
        number: int,
        make: Callable[[], gymnasium.Env[Any, Any]],
        autoreset: AutoresetMode = AutoresetMode.DISABLED,
    ) -> None:
        self.number = number
        self.make = make
        self.autoreset = autoreset
        self.env = make()
        self.propagates: tuple[type[Exception], ...] = getattr(self.env.unwrapped, "propagates", ())
        self.observation: Any = None
        """The last one; None before the first reset."""
        self.over = True
        """Whether the next call has to be a reset."""
        self.broken = False
        """Whether the environment raised, and has to be replaced."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, a fresh one where it failed before; what it raises is raised."""
        self.over = True
        try:
            if self.broken:
                self._replace()
            self.observation, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            self.broken = not isinstance(error, _USER_ERRORS)
            error.add_note(f"Raised by reset() of sub-environment {self.number}.")
            raise
        self.over = False
        return self.observation, info

    def step(self, action: Any) -> StepResult:
        """Step the environment; where it raises, its episode ends unscored."""
        if self.over and self.autoreset is AutoresetMode.NEXT_STEP:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        try:
            result: StepResult = self.env.step(action)  # type: ignore[assignment]
            self.observation = result[0]
        except self.propagates as error:
            error.add_note(f"Raised by step() of sub-environment {self.number}.")
            raise
        except Exception as error:  # one failed environment is data: the sample is dropped, the others go on
            _log.exception("Sub-environment %d failed; its next reset makes a fresh one", self.number)
            self.broken = True
            result = self._abandon(error)
        self.over = over = result[2] or result[3]
        if over and self.autoreset is AutoresetMode.SAME_STEP:
            final_observation, reward, terminated, truncated, final_info = result
            observation, info = self.reset()
            info = {"final_obs": final_observation, "final_info": final_info, **info}
            return observation, reward, terminated, truncated, info
        return result

    def _abandon(self, error: Exception) -> StepResult:
        base = self.env.unwrapped
        if isinstance(base, TextEnv):
            observation, reward, terminated, truncated, info = base.abandon(error)
        else:
            text = f"The episode was abandoned: {type(error).__name__} in the environment."
            problem = item("env_error", text, severity="fatal", source="env", visibility="log")
            observation, reward, terminated, truncated = "", 0.0, False, True
            info = {"stop_reason": "env_error", "scored": False, "feedback": stamp([problem], 0)}
        if observation in self.env.observation_space:
            self.observation = observation
        return self.observation, reward, terminated, truncated, info

    def _replace(self) -> None:
        """Put a fresh environment in the place of a broken one; it goes on with the old one's random state."""
        old = self.env
        try:
            old.close()
        except Exception:  # it is broken, and nothing else is known of it
            _log.exception("Closing the failed sub-environment %d failed", self.number)
        self.env = self.make()
        if old.unwrapped._np_random is not None:
            self.env.unwrapped.np_random = old.unwrapped.np_random
        self.broken = False
