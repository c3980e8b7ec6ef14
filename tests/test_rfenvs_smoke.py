import gymnasium

import rfenvs


def test_an_episode_through_gym_make() -> None:
    env = gymnasium.make("rfenvs/ToolCall-v0")
    observation, info = env.reset(seed=0)
    assert observation and info["feedback"] == []
    _, reward, terminated, truncated, info = env.step("nonsense")
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert rfenvs.feedback_text(info)
    env.reset(options={"task_index": 5})
    answer = rfenvs.get_task("rfenvs/ToolCall-v0", "train", 5).reference
    _, reward, *_, info = env.step(answer)
    assert reward == 1.0 and info["feedback"] == []
