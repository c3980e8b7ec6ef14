"""A TorchRL rollout on an rfenvs environment: the feedback stays in the tensordict, step by step.

pip install "rfenvs[torchrl]"
python examples/torchrl_rollout.py
"""

import gymnasium
from tensordict import TensorDictBase

import rfenvs
from rfenvs.bridges.torchrl import wrap


def policy(state: TensorDictBase) -> TensorDictBase:
    """Replace this by your model: it reads text and writes text."""
    told = " ".join(entry["text"] for entry in state["feedback"])
    state["action"] = 'weather(city="Oslo")' if "missing" in told else 'weather(town="Oslo")'
    return state


def main() -> TensorDictBase:
    env = wrap(gymnasium.make("rfenvs/ToolCall-v0", split="test", max_turns=3))
    rollout = env.rollout(3, policy)
    following = rollout["next"]
    for turn, action in enumerate(rollout["action"]):
        print(f"> {action}")
        print(rfenvs.feedback_text({"feedback": following["feedback"][turn]}) or "(solved)")
    print("rewards", following["reward"].flatten().tolist(), "ended by", following["stop_reason"][-1])
    return rollout


if __name__ == "__main__":
    main()
