"""The simulated services against the public simulators: results and state, on expected and on random calls."""

import copy
import dataclasses
import importlib
import importlib.util
import json
import random
from typing import Any

import pytest
from bfcl_multi_turn_files import DATA, needs_data

from rfenvs.envs.bfcl_apis import APIS, Toolbox
from rfenvs.envs.bfcl_apis.gorilla_file_system import Folder
from rfenvs.envs.bfcl_multi_turn import BFCLMultiTurnEnv
from rfenvs.envs.bfcl_multi_turn_data import Episode, load
from rfenvs.graders.json_values import canonical
from rfenvs.graders.tool_calls import Call, write_call

PACKAGE = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
MODULES = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api",
    "TicketAPI": "ticket_api", "TradingBot": "trading_bot", "TravelAPI": "travel_booking", "TwitterAPI": "posting_api",
    "VehicleControlAPI": "vehicle_control",
}  # fmt: skip

pytestmark = [
    pytest.mark.peer,
    needs_data,
    pytest.mark.skipif(importlib.util.find_spec("bfcl_eval") is None, reason="bfcl_eval is not installed"),
]


class Peer:
    """The public simulators of one episode, called as their harness does, but without `eval`."""

    def __init__(self, episode: Episode) -> None:
        self.apis = {}
        for name in episode.apis:
            module = importlib.import_module(f"{PACKAGE}.{MODULES[name]}")
            api = getattr(module, name)()
            if name != "MathAPI":
                api._load_scenario(copy.deepcopy(dict(episode.scenario[name])))
            self.apis[name] = api

    def call(self, call: Call) -> tuple[Any, bool]:
        """The result as a JSON value, and whether it is an error."""
        arguments = copy.deepcopy(call.arguments)
        if call.name == "post_tweet":  # its default lists are shared by all tweets of a process
            arguments = {"tags": [], "mentions": []} | arguments
        owner = next(api for api in self.apis.values() if hasattr(api, call.name))
        try:
            result = getattr(owner, call.name)(**arguments)
        except Exception as error:  # what the harness writes as "Error during execution"
            return {"error": str(error)}, True
        return json.loads(json.dumps(result, default=float)), isinstance(result, dict) and "error" in result

    def state(self) -> dict[str, dict[str, Any]]:
        return {name: public(api) for name, api in self.apis.items()}


def public(api: Any) -> dict[str, Any]:
    return {key: tree(value) for key, value in vars(api).items() if not key.startswith("_") and key != "long_context"}


def tree(value: Any) -> Any:
    """A folder of either side as nested dicts; other values as they are."""
    if isinstance(value, Folder) or type(value).__name__ == "Directory":
        return {value.name: {name: tree(entry) for name, entry in value.contents.items()}}
    return value.content if type(value).__name__ == "File" else value


def mine(toolbox: Toolbox) -> dict[str, dict[str, Any]]:
    return {type(api).__name__: compared(api) for api in toolbox.apis}


def compared(api: Any) -> dict[str, Any]:
    names = [entry.name for entry in dataclasses.fields(api) if entry.compare]
    return {name: tree(getattr(api, name)) for name in names}


def close(call: Call, left: Any, right: Any) -> bool:
    """Equal by value; logarithms and roots to the digits that the call asks for."""
    if canonical(left) == canonical(right):
        return True
    digits = call.arguments.get("precision", 0)
    if digits < 1 or not (left.keys() == right.keys() == {"result"}):
        return False
    return left["result"] == pytest.approx(right["result"], rel=10.0 ** (1 - digits))


def toolbox(episode: Episode) -> Toolbox:
    apis = [APIS[name].load(episode.scenario[name]) for name in episode.apis]
    return Toolbox(apis, [tool for api in apis for tool in api.tools])


EPISODES = load(DATA).episodes if DATA is not None else ()


def test_every_expected_call_gives_the_same_result_and_state() -> None:
    for episode in EPISODES:
        ours, peer = toolbox(episode), Peer(episode)
        for turn in episode.gold:
            for call in turn:
                result, failed = peer.call(call)
                outcome = ours.call(call)
                if failed:
                    assert outcome.problem is not None
                else:
                    assert close(call, outcome.result, result), (episode.id, call)
            assert mine(ours) == peer.state(), episode.id


def words(episode: Episode) -> list[str]:
    """Texts that are likely to name something: keys and values of the scenario, and arguments of expected calls."""
    found: list[str] = [
        "", "nowhere", "..", ".", "/", "2024-05-06", "economy", "first", "USD", "EUR", "JFK", "LAX", "Buy", "START",
        "on", "engage", "fuel", "engine", "doors", "USR001", "USR003", "driver", "km", "m",
    ]  # fmt: skip

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                walk(key)
                walk(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                walk(entry)
        elif isinstance(value, str):
            found.append(value)

    walk(dict(episode.scenario))
    walk([call.arguments for turn in episode.gold for call in turn])
    return found


def draw(rng: random.Random, schema: dict[str, Any], texts: list[str], numbers: list[Any]) -> Any:
    kind = schema["type"]
    kind = kind[0] if isinstance(kind, list) else kind
    match kind:
        case "string":
            return rng.choice(texts)
        case "integer":
            return int(rng.choice([n for n in numbers if float(n).is_integer()]))
        case "number":
            return rng.choice(numbers)
        case "boolean":
            return rng.random() < 0.5
        case "array":
            return [draw(rng, schema["items"], texts, numbers) for _ in range(rng.randrange(4))]
    return {rng.choice(["title", "status", "priority", "owner"]): rng.choice(texts)}


def numbers_of(episode: Episode) -> list[Any]:
    found: list[Any] = [0, 1, 2, 3, 5, 0.5, 1.0, 10, 65, 100.0, 2000]

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                if isinstance(key, str) and key.isdecimal():
                    found.append(int(key))
                walk(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                walk(entry)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(value)

    walk(dict(episode.scenario))
    return [n for n in found if abs(n) < 1e12]


def mutated(rng: random.Random, episode: Episode, texts: list[str], numbers: list[Any]) -> Call:
    """An expected call, one with another argument, or any call at all."""
    golds = [call for turn in episode.gold for call in turn]
    schemas = {name: t["parameters"] for api in episode.apis for name, t in APIS[api].tools.items()}
    if golds and rng.random() < 0.5:
        call = rng.choice(golds)
        arguments = dict(call.arguments)
        if arguments and rng.random() < 0.5:
            key = rng.choice(list(arguments))
            arguments[key] = draw(rng, schemas[call.name]["properties"][key], texts, numbers)
        return Call(call.name, arguments)
    name = rng.choice(list(schemas))
    schema = schemas[name]
    return Call(
        name,
        {
            key: draw(rng, entry, texts, numbers)
            for key, entry in schema["properties"].items()
            if key in schema["required"] or rng.random() < 0.5
        },
    )


def on_purpose(call: Call, ours: Any, peer: Any) -> str:
    """Why two results may differ; the empty string where they may not. The page of the environment lists these."""
    text = str(peer.get("error", "")) if isinstance(peer, dict) else ""
    if call.name in ("logarithm", "square_root", "power", "round_number"):
        return "bounded and real arithmetic"
    if call.name == "verify_traveler_information":
        return "the date of today"
    if call.name == "lockDoors" and "no door" in str(ours):
        return "unknown doors change nothing"
    if call.name in ("cp", "mv") and (
        "already exists" in text or "of itself" in str(ours) or "File exists" in str(ours)
    ):
        return "copies onto what is there, and into themselves"
    if {"", ".", ".."} & {v for v in call.arguments.values() if isinstance(v, str)} and "Invalid" in str(ours):
        return "entries without a proper name"
    if call.name == "get_user_tickets" and "created_by" in text:
        return "tickets of nobody"
    if call.name == "echo" and "Is a directory" in str(ours):
        return "writing to a folder"
    if "error" in str(ours) and text:
        return "another wording of an error"
    return ""


def test_random_and_mutated_calls_give_the_same_results_and_states() -> None:
    differing: dict[str, int] = {}
    total = 0
    for number, episode in enumerate(EPISODES):
        rng = random.Random(number)
        texts, numbers = words(episode), numbers_of(episode)
        for _ in range(4):
            ours, peer = toolbox(episode), Peer(episode)
            for _ in range(40):
                call = mutated(rng, episode, texts, numbers)
                total += 1
                outcome = ours.call(call)
                if outcome.problem is not None and outcome.problem["data"]["code"] != "refused":
                    continue  # a wrong type, which the public simulators let through
                try:
                    result, _ = peer.call(call)
                except (TypeError, ValueError, RecursionError):
                    break
                if not close(call, outcome.result, result):
                    reason = on_purpose(call, outcome.result, result)
                    assert reason, (episode.id, call, outcome.result, result)
                    differing[reason] = differing.get(reason, 0) + 1
                    if mine(ours) != peer.state():
                        break
                assert mine(ours) == peer.state(), (episode.id, call)
    assert total > 20_000
    assert differing.get("another wording of an error", 0) < total / 10


def played(env: BFCLMultiTurnEnv, index: int, turns: list[list[Call]]) -> bool:
    env.reset(options={"task_index": index})
    for turn in turns:
        for message in ["\n".join(write_call(call.name, call.arguments) for call in turn), "Done."]:
            if message:
                _, reward, terminated, *_ = env.step(message)
                if terminated:
                    return reward == 1.0
    raise AssertionError("the episode is not over")


def checked(row: dict[str, Any], answer: list[list[str]], turns: list[list[Call]], name: str) -> bool:
    """The verdict of the public checker."""
    checker = importlib.import_module("bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker")
    steps = [[[write_call(call.name, call.arguments) for call in turn]] if turn else [] for turn in turns]
    return bool(checker.multi_turn_checker(steps, answer, row, "multi_turn_base", name)["valid"])


def another(rng: random.Random, episode: Episode) -> list[list[Call]]:
    """The expected calls with one lost, doubled, moved to another turn, changed, or another one added."""
    turns = [list(turn) for turn in episode.gold]
    places = [(number, at) for number, turn in enumerate(turns) for at in range(len(turn))]
    number, at = rng.choice(places)
    call = turns[number][at]
    match rng.randrange(5):
        case 0:
            del turns[number][at]
        case 1:
            turns[number].insert(at, call)
        case 2:
            del turns[number][at]
            turns[rng.randrange(len(turns))].append(call)
        case 3:
            turns[number][at] = mutated(rng, episode, words(episode), numbers_of(episode))
        case _:
            turns[number].insert(at, mutated(rng, episode, words(episode), numbers_of(episode)))
    return turns


def test_verdicts_are_those_of_the_public_checker() -> None:
    assert DATA is not None
    env = BFCLMultiTurnEnv(data=str(DATA))
    rows, answers = (
        [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]
        for name in ("BFCL_v4_multi_turn_base.json", "possible_answer/BFCL_v4_multi_turn_base.json")
    )
    verdicts: dict[tuple[bool, bool], list[Any]] = {}
    for index, episode in enumerate(EPISODES):
        rng = random.Random(index)
        for attempt in range(6):
            turns = another(rng, episode)
            public = checked(rows[index], answers[index]["ground_truth"], turns, f"m{attempt}")
            verdicts.setdefault((played(env, index, turns), public), []).append((episode.id, turns))
    assert len(verdicts[True, True]) > 100
    assert len(verdicts[False, False]) > 100
    assert verdicts.keys() == {(True, True), (False, False)}, verdicts
