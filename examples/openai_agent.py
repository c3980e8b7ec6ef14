"""Any model behind an OpenAI-compatible server on any rfenvs environment: plain Gymnasium and the standard library.

python examples/openai_agent.py rfenvs/ToolCall-v0 --url http://localhost:8000/v1 --model my-model
"""

import argparse
import json
import os
import urllib.request

import gymnasium

import rfenvs


def complete(url: str, model: str, messages: list[dict[str, str]]) -> rfenvs.Action:
    """The model's next message; the environment learns whether it was cut off."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    body = json.dumps({"model": model, "messages": messages}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", body, headers)) as reply:
        choice = json.load(reply)["choices"][0]
    return rfenvs.Action(choice["message"]["content"] or "", finish_reason=choice["finish_reason"])


def main(id: str, url: str, model: str, episodes: int = 1, **kwargs: object) -> list[float]:
    env = gymnasium.make(id, **kwargs)
    returns = []
    for index in range(episodes):
        _, info = env.reset(options={"task_index": index})
        messages, total, over = info["messages"], 0.0, False
        while not over:
            action = complete(url, model, messages)
            _, reward, terminated, truncated, info = env.step(action)
            messages += [{"role": "assistant", "content": str(action)}, *info["messages"]]
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
        print(info["task"]["id"], total, rfenvs.feedback_text(info))
    env.close()
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("id")
    parser.add_argument("--url", default="https://api.openai.com/v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--episodes", type=int, default=1)
    main(**vars(parser.parse_args()))
