"""The examples of other people's agents run: an OpenAI-compatible server, and TorchRL."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import gymnasium
import pytest
from every_id import make, offline

import rfenvs
from rfenvs.tasks import KNOWN_BAD

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that gives its replies in turn, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[str] = []
        self.finish_reason = "stop"
        self.asked: list[list[dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        number = len(self.server.asked)
        self.server.asked.append(request["messages"])
        text = self.server.replies[min(number, len(self.server.replies) - 1)]
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": self.server.finish_reason}
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_an_openai_agent_earns_what_its_answers_are_worth(id: str, server: Server) -> None:
    env = make(id)
    index = next(i for i in range(env.num_tasks(env.split)) if not env.get_task(i).flagged(KNOWN_BAD))
    golds = env.gold_actions(env.get_task(index))
    assert index == 0, "the example plays the first tasks"
    server.replies = golds or ["I don't know."]
    (total,) = example("openai_agent").main(id, server.url, "m", **offline(id))
    assert total == pytest.approx(1.0 if golds else 0.0)
    prompt = env.reset(options={"task_index": 0})[1]["messages"]
    assert server.asked[0] == prompt
    for earlier, later in zip(server.asked, server.asked[1:], strict=False):
        assert later[: len(earlier)] == earlier
        assert later[len(earlier)]["role"] == "assistant"
    env.close()


def test_feedback_reaches_the_model_and_a_cut_answer_the_grader(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = ["nonsense"]
    example("openai_agent").main("rfenvs/ToolCall-v0", server.url, "m", max_turns=2)
    assert server.asked[1][-2:][0] == {"role": "assistant", "content": "nonsense"}
    assert server.asked[1][-1]["content"].startswith("SyntaxError")
    server.finish_reason = "length"
    example("openai_agent").main("rfenvs/ToolCall-v0", server.url, "m")
    assert "cut off by the length limit" in capsys.readouterr().out


torchrl = pytest.mark.skipif(importlib.util.find_spec("torchrl") is None, reason="torchrl is not installed")


@pytest.mark.peer
@torchrl
def test_a_torchrl_rollout_keeps_the_feedback() -> None:
    rollout = example("torchrl_rollout").main()
    actions, following = list(rollout["action"]), rollout["next"]
    assert len(actions) == 3
    env = gymnasium.make("rfenvs/ToolCall-v0", split="test", max_turns=3)
    env.reset(options={"task_id": rollout["task"][0]["id"]})
    for turn, action in enumerate(actions):
        observation, reward, terminated, truncated, info = env.step(action)
        assert following["feedback"][turn] == info["feedback"]
        assert following["observation"][turn] == observation
        assert following["stop_reason"][turn] == info["stop_reason"]
        assert following["reward"][turn].item() == reward
        assert following["scored"][turn].item() is True
        assert following["turn"][turn].item() == turn + 1
        assert following["done"][turn].item() == (terminated or truncated)


@pytest.mark.peer
@torchrl
@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_torchrl_accepts_the_specs_of_every_id(id: str) -> None:
    from torchrl.envs.utils import check_env_specs

    from rfenvs.bridges.torchrl import wrap

    check_env_specs(wrap(gymnasium.make(id, max_turns=2, **offline(id))))


@pytest.mark.skipif(importlib.util.find_spec("torchrl") is not None, reason="torchrl is installed")
def test_without_torchrl_the_bridge_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r'pip install "rfenvs\[torchrl\]"'):
        importlib.import_module("rfenvs.bridges.torchrl")
