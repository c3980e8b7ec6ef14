"""Episodes of many turns: what the policy is shown of its history, how episodes end, and what is reproducible."""

from __future__ import annotations

from itertools import pairwise

import corridor
import pytest
from parrot import Lines, Speller
from templates import CHATS, FAMILIES
from test_token_fidelity import holds, talk

from agents.engines.base import Sampling
from agents.errors import SetupError
from agents.history import RolloutSettings, visible_text
from agents.rollout import Environments, rollout
from agents.trajectory import Trajectory

CALM = ("You see a mug.", "You see a desk.", "Nothing happens.")
THOUGHTS = [f"<think>\nidea {k}\n</think>\n\ngo {k}" for k in range(6)]
QWEN = CHATS["qwen3"]


def scripted(family: str, thinking: str, lines: list[str] = THOUGHTS, **settings: object) -> Trajectory:
    chat, env = CHATS[family], settings.pop("env", {})
    how = RolloutSettings(thinking=thinking, **settings)
    return talk(chat, Lines(chat, lines), how, tasks=1, texts=CALM, echo=False, **env)[0]


def template_ids(family: str, messages: list[dict[str, str]]) -> list[int]:
    chat = CHATS[family]
    return chat.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, **FAMILIES[family].variables
    )


def literal(trajectory: Trajectory, k: int) -> list[dict[str, str]]:
    """The conversation before turn ``k`` with all that was said, thinking included."""
    messages = list(trajectory.turns[0].messages)
    for before, turn in zip(trajectory.turns[:k], trajectory.turns[1 : k + 1], strict=True):
        messages += [{"role": "assistant", "content": before.text}, *turn.messages[-turn.new_messages :]]
    return messages


# ---- thinking


@pytest.mark.parametrize("family", FAMILIES)
def test_templates_are_probed(family):
    assert CHATS[family].prefix_stable() == FAMILIES[family].stable


def test_a_template_may_be_stable_until_there_is_a_system_message():
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert CHATS["mistral"].prefix_stable()
    assert not CHATS["mistral"].prefix_stable(opening)
    assert CHATS["llama3"].prefix_stable(opening)


def test_auto_is_keep_where_the_template_is_stable():
    assert [t.prefix > 0 for t in scripted("chatml", "auto").turns] == [False] + [True] * 5
    assert scripted("chatml", "auto").turns == scripted("chatml", "keep").turns


def test_auto_refuses_a_template_that_rewrites_history_before_anything_is_sampled():
    for family in ("qwen3", "qwen3, not thinking"):
        engine = Lines(CHATS[family], THOUGHTS)
        with pytest.raises(SetupError, match=r"rollout\.thinking='auto'.*'keep'.*'template'.*'tool_cycle'"):
            talk(CHATS[family], engine, RolloutSettings(), texts=CALM)
        assert engine.calls == 0


def test_episodes_of_one_turn_need_no_policy():
    (trajectory, *_) = talk(QWEN, Lines(QWEN, THOUGHTS), RolloutSettings(turns=1), texts=CALM)
    assert len(trajectory.turns) == 1
    environments = Environments("rfenvs/ToolCall-v0", "train", {"max_turns": 1})
    rollout(Lines(QWEN, THOUGHTS), QWEN, environments, [0], 1, Sampling(), 0)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "mistral"])
@pytest.mark.parametrize("lines", [THOUGHTS, ["go"], ["<think>\nno end"], ["go", "<think>a</think>b"]])
def test_template_shows_exactly_what_the_template_writes(family, lines):
    trajectory = scripted(family, "template", lines)
    assert len(trajectory.turns) == 6
    for k, turn in enumerate(trajectory.turns):
        assert turn.prompt_ids == template_ids(family, literal(trajectory, k))
        assert turn.prompt_ids == template_ids(family, turn.messages), "messages tell what the policy saw"


def test_template_starts_a_row_anew_only_where_history_is_rewritten():
    assert [t.prefix > 0 for t in scripted("chatml", "template").turns] == [False] + [True] * 5
    assert [t.prefix > 0 for t in scripted("qwen3", "template").turns] == [False] * 6
    assert [t.prefix > 0 for t in scripted("qwen3", "template", ["go"]).turns] == [False] + [True] * 5
    assert [t.prefix > 0 for t in scripted("qwen3, not thinking", "template", ["go"]).turns] == [False] * 6
    loop = scripted("qwen3", "template", env={"roles": ["tool", "tool", "user"]})
    assert [t.prefix > 0 for t in loop.turns] == [False, True, True, False, True, True]
    for k, turn in enumerate(loop.turns):
        assert turn.prompt_ids == template_ids("qwen3", literal(loop, k))


@pytest.mark.parametrize("family", ["chatml", "llama3", "qwen3", "other end"])
def test_tool_cycle_drops_thinking_at_a_user_message(family):
    trajectory = scripted(family, "tool_cycle", env={"roles": ["tool", "tool", "user"]})
    assert [t.prefix > 0 for t in trajectory.turns] == [False, True, True, False, True, True]
    for k, turn in enumerate(trajectory.turns):
        said = [m["content"] for m in turn.messages if m["role"] == "assistant"]
        first = 3 * (k // 3)
        assert said == [visible_text(t) for t in THOUGHTS[:first]] + THOUGHTS[first:k]


@pytest.mark.parametrize("family", FAMILIES)
def test_keep_keeps_all_thinking_in_one_row(family):
    trajectory = scripted(family, "keep")
    assert [t.prefix > 0 for t in trajectory.turns] == [False] + [True] * 5
    said = [m["content"] for m in trajectory.turns[-1].messages if m["role"] == "assistant"]
    assert said == THOUGHTS[:5]


# ---- windows


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("window", [0, 1, 2, 4])
def test_a_window_shows_the_task_and_the_last_turns(family, window):
    trajectory = scripted(family, "keep", history=window)
    whole = scripted(family, "keep")
    for k, turn in enumerate(trajectory.turns):
        said = [m["content"] for m in turn.messages if m["role"] == "assistant"]
        assert said == THOUGHTS[max(0, k - window) : k]
        left_out = max(0, k - window)
        assert turn.messages[0]["content"].startswith(CALM[0])
        latest = whole.turns[k].messages[-1]["content"]
        assert latest in turn.messages[-1]["content"]
        text = CHATS[family].tokenizer.decode(turn.prompt_ids)
        assert (f"[{left_out} earlier turn" in text) == (left_out > 0)
        for j, line in enumerate(THOUGHTS[:k]):
            assert (visible_text(line) in text) or j < left_out
            assert holds(turn.prompt_ids, CHATS[family].tokenizer.encode(line, add_special_tokens=False)) == (
                j >= left_out
            )
        assert (turn.prefix > 0) == (0 < k <= window)


def test_what_was_said_last_before_the_window_follows_the_task():
    turn = scripted("chatml", "keep", history=1).turns[3]
    task, action, reply = turn.messages
    whole = scripted("chatml", "keep").turns[3].messages
    assert task["content"] == f"{CALM[0]}\n\n[2 earlier turns are left out.]\n\n{whole[4]['content']}"
    assert [action, reply] == whole[5:]
    assert turn.prompt_ids == template_ids("chatml", turn.messages)


def test_a_window_bounds_the_prompt():
    whole = [len(t.prompt_ids) for t in scripted("chatml", "keep", env={"turns": 20}).turns]
    window = [len(t.prompt_ids) for t in scripted("chatml", "keep", history=2, env={"turns": 20}).turns]
    assert max(window[5:]) < 1.2 * min(window[5:])
    assert whole[-1] > 3 * window[-1]


def test_a_window_and_a_thinking_policy_go_together():
    for turn in scripted("chatml", "tool_cycle", history=2).turns:
        assert "idea" not in CHATS["chatml"].tokenizer.decode(turn.prompt_ids)


# ---- how episodes end


def test_the_last_turn_of_the_rollouts_budget_is_the_last():
    trajectory = scripted("chatml", "keep", turns=3)
    assert (len(trajectory.turns), trajectory.stop_reason) == (3, "rollout_turns")
    assert (trajectory.scored, trajectory.truncated, trajectory.reward) == (True, True, 0.75)
    own = scripted("chatml", "keep", turns=6)
    assert (len(own.turns), own.stop_reason, own.truncated) == (6, "completed", False)


def test_a_history_that_fills_the_context_ends_the_episode_with_what_it_earned():
    chat = CHATS["chatml"]
    lengths = [len(t.prompt_ids) for t in scripted("chatml", "keep").turns]
    engine = Lines(chat, THOUGHTS, context_length=lengths[3])
    trajectory = talk(chat, engine, RolloutSettings(), tasks=1, texts=CALM)[0]
    assert (len(trajectory.turns), trajectory.stop_reason) == (3, "context_overflow")
    assert (trajectory.scored, trajectory.truncated, trajectory.reward) == (True, True, 0.75)


def test_a_task_that_fills_the_context_is_not_scored():
    chat = CHATS["chatml"]
    trajectory = talk(chat, Lines(chat, THOUGHTS, context_length=5), RolloutSettings(), tasks=1, texts=CALM)[0]
    assert (trajectory.turns, trajectory.scored, trajectory.stop_reason) == ([], False, "context_overflow")


def test_an_episode_that_the_environment_could_not_judge_stays_unscored():
    trajectory = scripted("chatml", "keep", env={"broken_at": 2})
    assert (len(trajectory.turns), trajectory.scored) == (3, False)


def test_an_empty_action_is_an_action():
    chat = CHATS["chatml"]
    engine = Lines(chat, [""])
    engine.chat = type("Silent", (), {"tokenizer": chat.tokenizer, "end_of_turn": lambda self: []})()
    trajectory = talk(chat, engine, RolloutSettings(), tasks=1, texts=CALM)[0]
    assert [t.action_ids for t in trajectory.turns] == [[]] * 6
    assert all(b.prompt_ids[: len(a.prompt_ids)] == a.prompt_ids for a, b in pairwise(trajectory.turns))


# ---- many at once


class Counting(Speller):
    """Notes how many prompts each call brings."""

    def generate(self, prompts, sampling, seed):
        self.sizes = [*getattr(self, "sizes", []), len(prompts)]
        return super().generate(prompts, sampling, seed)


def test_one_call_a_turn_for_all_and_finished_episodes_leave():
    chat = CHATS["chatml"]
    environments = Environments(corridor.ID, "train", {"max_turns": 7})
    engine = Counting(chat)
    plans = [len(corridor.Corridor().gold_actions(corridor.Corridor().task("train", i))) for i in range(8)]

    class Planner:
        context_length = 1 << 20

        def __init__(self):
            self.sizes = []

        def generate(self, prompts, sampling, seed):
            self.sizes.append(len(prompts))
            turn = len(self.sizes) - 1
            commands = [p[turn] for p in golds if len(p) > turn]
            return [corridor.Script(chat, [c]).generate([[]], sampling, 0)[0] for c in commands]

    planner = Planner()
    golds = [corridor.Corridor().gold_actions(corridor.Corridor().task("train", i)) for i in range(8)]
    groups = rollout(planner, chat, environments, list(range(8)), 1, Sampling(), 0)
    assert planner.sizes == [sum(length > turn for length in plans) for turn in range(max(plans))]
    assert [(len(g.trajectories[0].turns), g.trajectories[0].reward) for g in groups] == [(n, 1.0) for n in plans]
    assert [g.task["index"] for g in groups] == list(range(8))
    rollout(engine, chat, environments, list(range(8)), 2, Sampling(max_tokens=5), 0)
    assert engine.sizes == [16] * 7


@pytest.mark.parametrize("workers", [1, 4])
def test_equal_arguments_give_equal_groups(engine, workers):
    def run(seed):
        environments = Environments(corridor.ID, "train", {"max_turns": 4}, workers)
        groups = rollout(engine, engine.chat, environments, [0, 1, 2], 2, Sampling(max_tokens=6), seed)
        environments.close()
        return groups

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_turns_carry_the_state_before_and_after():
    environments = Environments(corridor.ID, "train", {"max_turns": 4})
    chat = CHATS["chatml"]
    (group,) = rollout(Lines(chat, ["go right"]), chat, environments, [0], 1, Sampling(), 0)
    turns = group.trajectories[0].turns
    assert all(a.after == b.before for a, b in pairwise(turns))
    assert set(turns[0].before) == {
        "state_key", "admissible_commands", "expert_action", "expert_plan", "plan_distance", "won",
    }  # fmt: skip


# ---- keys and values of earlier turns


def test_reuse_changes_no_number(engine):
    """Turn by turn on the same histories: the same log-probabilities with the memory as without, for windows too."""
    from agents.engines.reuse import Memory

    sampling = Sampling(max_tokens=8)
    engine.stop_ids |= set(range(100, 140))  # random weights would hardly ever stop
    prompts = [[1, *range(40, 50 + 3 * k)] for k in range(5)] + [[1, 40, 41]] * 2
    memory, stale = Memory(1 << 20), []
    for turn in range(4):
        plain = engine.generate(prompts, sampling, seed=turn)
        reused = engine.generate(prompts, sampling, seed=turn, memory=memory)
        for a, b in zip(plain, reused, strict=True):
            assert (a.ids, a.finish_reason) == (b.ids, b.finish_reason)
            assert a.logprobs == pytest.approx(b.logprobs, abs=2e-5)
        forwarded = {(*p, *c.ids[:-1]) for p, c in zip(prompts, plain, strict=True)}
        assert memory.tokens == sum(map(len, forwarded)) + len(stale), (
            "what was taken is gone, what was forwarded is there"
        )
        prompts = [[*p, *c.ids, 2, 60 + k] for k, (p, c) in enumerate(zip(prompts, plain, strict=True))]
        if turn == 2:
            stale = prompts[0][:-3]
            prompts[0] = prompts[0][:3] + prompts[0][9:]  # a history that was written anew


def test_a_small_memory_forgets_the_oldest_rows(engine):
    from agents.engines.reuse import Memory

    memory = Memory(40)
    prompts = [[1, *range(40 + k, 50 + k)] for k in range(5)]
    first = engine.generate(prompts, Sampling(max_tokens=4), 0, memory)
    assert 0 < memory.tokens <= 40
    following = [[*p, *c.ids, 3] for p, c in zip(prompts, first, strict=True)]
    known = memory.tokens
    expected = engine.generate(following, Sampling(max_tokens=4), 1)
    for a, b in zip(expected, engine.generate(following, Sampling(max_tokens=4), 1, memory), strict=True):
        assert a.ids == b.ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=2e-5)
    assert 0 < memory.tokens <= 40
    assert known <= 40


def test_a_rollout_reuses_and_says_the_same(engine):
    def run(reuse, **settings):
        engine.reuse = reuse
        environments = Environments(corridor.ID, "train", {"max_turns": 5})
        how = RolloutSettings(**settings)
        groups = rollout(engine, engine.chat, environments, [0, 1], 3, Sampling(max_tokens=6), 0, settings=how)
        return [[turn.action_ids for turn in t.turns] for g in groups for t in g.trajectories]

    assert run(0) == run(10_000) == run(100)
    assert run(0, history=1) == run(10_000, history=1)


def test_a_full_context_cuts_only_the_row_that_fills_it(engine):
    engine.stop_ids = set()
    engine.context_length = 20
    long, short = engine.generate([[1, *range(40, 57)], [1, 40]], Sampling(max_tokens=12), 0)
    assert (len(long.ids), len(short.ids)) == (2, 12)
    assert {long.finish_reason, short.finish_reason} == {"length"}
