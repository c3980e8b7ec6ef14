"""Your own agent on an rfenvs environment: plain Gymnasium, no torch.

The agent below knows nothing but the feedback: it corrects its call until the environment is content. Replace
`act` by whatever you have.

    python examples/own_agent.py
"""

import re

import gymnasium

import rfenvs


def act(request: str, feedback: str) -> str:
    """A first guess from the request; after feedback, what the feedback asks for."""
    value = re.findall(r"[A-Z]?[a-z]+|\d+", request.rsplit("User:", 1)[-1])[-1]
    if "ToolError: weather" in feedback:
        return f'call(name="{value}")'
    return f'weather(city="{value}")'


def main(episodes: int = 200) -> float:
    env = gymnasium.make("rfenvs/ToolCall-v0", split="test", max_turns=2)
    solved = 0
    for index in range(episodes):
        request, info = env.reset(options={"task_index": index})
        feedback, over, reward = "", False, 0.0
        while not over:
            _, reward, terminated, truncated, info = env.step(act(request, feedback))
            feedback = rfenvs.feedback_text(info, visibility="policy")
            over = terminated or truncated
        solved += reward >= 1.0
    print(f"{solved} of {episodes} solved")
    return solved / episodes


if __name__ == "__main__":
    main()
