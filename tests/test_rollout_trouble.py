"""Rollouts where something goes wrong: environments that raise, prompts at the edge of the context."""

from __future__ import annotations

import corridor
import gymnasium
import pytest
from parrot import Speller
from templates import CHATS

from agents.engines.base import Completion, Sampling
from agents.history import RolloutSettings
from agents.rollout import Drive, Environments, rollout
from rfenvs.spaces import Text
from sandboxes import SandboxUnavailable

CHAT = CHATS["chatml"]


class Raises(gymnasium.Env[str, str]):
    """Of another author, without splits: raises ``error`` at the second action of the given tasks."""

    def __init__(self, tasks=(), error=None, unscored_at=-1):
        self.observation_space = self.action_space = Text()
        self.tasks, self.error = tasks, error or RuntimeError("socket closed")
        self.unscored_at, self.broken = unscored_at, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        assert not self.broken, "an environment that raised is not used again"
        self.seed, self.turn = seed, 0
        return f"Task {seed}.", {}

    def step(self, action):
        self.turn += 1
        if self.turn == 2 and self.seed in self.tasks:
            self.broken = True
            raise self.error
        return f"Number {self.np_random.integers(1000)}.", 0.5, self.turn == 3, False, {
            "scored": self.turn != self.unscored_at
        }  # fmt: skip


gymnasium.register("tests/Raises-v0", entry_point=Raises, disable_env_checker=True)


def play(environments, tasks=(0, 1, 2), engine=None, **changes):
    engine = engine or Speller(CHAT)
    groups = rollout(engine, CHAT, environments, list(tasks), 2, Sampling(max_tokens=5), 0, **changes)
    return [t for g in groups for t in g.trajectories]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_environment_that_raises_loses_its_own_episode_only(workers, caplog):
    environments = Environments("tests/Raises-v0", "train", {"tasks": (1,)}, workers)
    for _ in range(2):  # the second rollout finds fresh ones
        episodes = play(environments)
        assert [t.scored for t in episodes] == [True, True, False, False, True, True]
        assert [len(t.turns) for t in episodes] == [3, 3, 1, 1, 3, 3]
        assert {(t.stop_reason, t.truncated) for t in episodes if not t.scored} == {("env_error", True)}
    assert "socket closed" in caplog.text


def test_where_all_of_them_raise_so_does_the_rollout():
    environments = Environments("tests/Raises-v0", "train", {"tasks": (0, 1, 2)})
    with pytest.raises(RuntimeError, match="socket closed"):
        play(environments)
    assert all(t.scored for t in play(environments, tasks=(3,)))


def test_a_missing_sandbox_is_no_accident_of_one_episode():
    environments = Environments("tests/Raises-v0", "train", {"tasks": (1,), "error": SandboxUnavailable("no docker")})
    with pytest.raises(SandboxUnavailable):
        play(environments)


def test_an_episode_with_a_turn_that_could_not_be_judged_is_not_scored():
    environments = Environments("tests/Raises-v0", "train", {"unscored_at": 2})
    assert [(t.scored, len(t.turns)) for t in play(environments, tasks=(0,))] == [(False, 3)] * 2


def test_environments_without_splits_are_told_none_and_tasks_are_seeds():
    one, other = (Environments("tests/Raises-v0", split) for split in ("train", "test"))
    replies = [[t.reply for t in e.turns] for e in play(one) + play(other)]
    assert replies[:6] == replies[6:]
    assert replies[0] == replies[1] != replies[2]


def test_no_length_of_the_context_breaks_an_episode():
    """Around every prompt of an episode: what does not fit is cut, and no action passes the limit."""
    environments = Environments(corridor.ID, "train", {"max_turns": 3})

    class Filling(Speller):
        def generate(self, prompts, sampling, seed):
            rooms = [min(sampling.max_tokens, self.context_length - len(p)) for p in prompts]
            assert min(rooms) >= 1, "no prompt without room for an action is put to the model"
            return [Completion([100 + k for k in range(n)], [-1.0] * n, "length") for n in rooms]

    whole = play(environments, (0,), Filling(CHAT))[0]
    edges = {n + d for t in whole.turns for n in (len(t.prompt_ids),) for d in range(-2, 7)}
    for limit in sorted(edges):
        for trajectory in play(environments, (0,), Filling(CHAT, context_length=limit)):
            fits = sum(len(t.prompt_ids) < limit for t in whole.turns)
            assert len(trajectory.turns) == fits
            assert trajectory.scored == (fits > 0)
            assert (trajectory.stop_reason == "context_overflow") == (fits < 3)


@pytest.mark.parametrize("advise", [False, True])
def test_where_the_prompt_leaves_a_models_expert_no_room_the_policy_acts(engine, advise):
    environments = Environments(corridor.ID, "train", {"max_turns": 5})
    engine.context_length = 150
    expert = Drive(expert_share=1.0, advise=advise, expert=lambda p, s: engine.generate(p, Sampling(max_tokens=8), s))
    chat = engine.chat
    (group,) = rollout(Speller(chat), chat, environments, [0], 1, Sampling(max_tokens=5), 0, drive=expert)
    sources = [(len(t.prompt_ids) < 150, t.source, t.advice is not None) for t in group.trajectories[0].turns]
    assert sources == [(fits, "expert" if fits else "policy", fits and advise) for fits, _, _ in sources]
    assert {fits for fits, *_ in sources} == {True, False}


def test_a_window_and_a_crash_go_together():
    environments = Environments("tests/Raises-v0", "train", {"tasks": (0,)})
    episodes = play(environments, (0, 1), settings=RolloutSettings(history=0))
    assert [t.scored for t in episodes] == [False, False, True, True]
