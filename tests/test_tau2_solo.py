"""rfenvs/Tau2Solo-v0: tickets, tools, end states, and what is said about them."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rfenvs
from rfenvs.envs.samples import make_tau2
from rfenvs.envs.tau2.data import SPECS, load
from rfenvs.envs.tau2.evaluate import matches
from rfenvs.envs.tau2.rows import Action, TaskRow, start
from rfenvs.envs.tau2_solo import MOST_CALLS, Tau2SoloEnv
from rfenvs.graders.call_syntax import Call
from rfenvs.rows import DataError
from rfenvs.tasks import KNOWN_BAD, NO_OP_PASSES

ID = "rfenvs/Tau2Solo-v0"
DATA = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "tau2"
SAMPLES = Path(__file__).parents[1] / "rfenvs" / "envs" / "samples" / "tau2"


def env(**kwargs: Any) -> Tau2SoloEnv:
    return Tau2SoloEnv(**{"data": "sample", **kwargs})


def play(env: Tau2SoloEnv, task_id: str, *actions: str) -> tuple[list[str], float, bool, bool, dict[str, Any]]:
    """The observations after each action, and what the last step returned beside them."""
    env.reset(options={"task_id": task_id})
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation)
    return seen, reward, terminated, truncated, info


def codes(info: dict[str, Any]) -> list[str]:
    return [entry["data"]["code"] for entry in info["feedback"]]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("leak_level", [0, 1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"policy": "workflow"}, {"task_set": "small"}, {"domain": "mock"}])
def test_the_sample_is_sound(split: str, leak_level: int, options: dict[str, Any]) -> None:
    report = rfenvs.validate(ID, split, 100, data="sample", leak_level=leak_level, **options)
    assert report.ok, str(report)
    assert report.flagged == 0


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("domain", "tasks", "flagged"), [("telecom", 20, 0), ("mock", 7, 2)])
def test_the_public_tasks_are_sound(split: str, domain: str, tasks: int, flagged: int) -> None:
    if not (DATA / domain).is_dir():
        pytest.skip(f"{DATA / domain} is missing: set RFENVS_TEST_DATA")
    report = rfenvs.validate(ID, split, 100, data=str(DATA / domain), domain=domain, task_set="small", leak_level=3)
    assert report.ok, str(report)
    assert (report.tasks, report.flagged) == (tasks, flagged)


def test_mock_tasks_that_solo_mode_cannot_play_are_named() -> None:
    if not (DATA / "mock").is_dir():
        pytest.skip(f"{DATA / 'mock'} is missing: set RFENVS_TEST_DATA")
    played = env(data=str(DATA / "mock"), domain="mock")
    assert set(played.excluded) == {
        "create_task_1_nl_eval", "update_task_with_message_history", "update_task_with_history_and_env_assertions",
    }  # fmt: skip
    tasks = [played.get_task(index) for index in range(played.num_tasks("train"))]
    assert {task.id for task in tasks if task.flagged(KNOWN_BAD)} == {
        "update_task_with_initialization_data", "update_task_with_user_tools",
    }  # fmt: skip
    assert played.data_revision == SPECS["mock"].revision, "the files have the pinned hashes"


def test_the_prompt_holds_policy_tools_and_ticket() -> None:
    observation, info = env().reset(options={"task_id": "vpn"})
    system, user = info["messages"]
    assert "Policy of the help desk" in system["content"]
    assert "Technical support" in system["content"]
    assert user["content"].startswith("<ticket>\nMobile data is too slow")
    names = [tool["name"] for tool in info["tools"]]
    assert names[-1] == "done"
    assert all(f"\n{name}(" in observation for name in names)
    assert len(names) == len(set(names)) == 13 + 30 + 1


def test_a_ticket_resolved_step_by_step() -> None:
    seen, reward, terminated, truncated, info = play(
        env(split="test"),
        "bill-unpaid",
        'get_customer_by_phone(phone_number="555-0101")',
        '{"name": "send_payment_request", "arguments": {"customer_id": "C1", "bill_id": "B9"}}',
        "check_payment_request()",
        "make_payment()",
        'resume_line(customer_id="C1", line_id="L1")',
        "check_status_bar()",
        "reboot_device()",
        "done()",
    )
    assert json.loads(seen[0])["customer_id"] == "C1"
    assert seen[2] == "You have a payment request for bill B9 of 35.0 USD."
    assert "No Signal" in seen[5], "service comes back at the reboot, not before"
    assert seen[6].startswith("Restarting network services...\nStatus Bar: 📶⁴ Excellent | 5G")
    assert (reward, terminated, truncated, seen[7]) == (1.0, True, False, "")
    assert info["feedback"] == []
    assert info["reward_parts"] == {"db": 1.0, "env_assertion": 1.0, "action": 1.0, "communicate": 1.0}
    assert info["metrics"] == {"calls": 7.0, "errors": 0.0, "assertions_met": 1.0}


@pytest.mark.parametrize(
    ("call", "code", "text"),
    [
        ("nope()", "unknown_tool", "Error: Tool 'nope' not found."),
        ("set_user_location(abroad=False)", "unknown_tool", "Error: Tool 'set_user_location' not found."),
        ("_charge(amount=1)", "unknown_tool", "Error: Tool '_charge' not found."),
        ('get_customer_by_id(customer_id="C7")', "refused", "Error: Customer with ID C7 not found"),
        ('get_details_by_id(id="Q")', "refused", "Error: Unknown ID format or type: Q"),
        ("get_customer_by_id()", "missing", 'Error: TypeError in get_customer_by_id: "customer_id" is missing.'),
        ("toggle_data(on=True)", "unexpected", 'Error: TypeError in toggle_data: there is no "on".'),
        ('refuel_data(customer_id="C1", line_id="L1", gb_amount="2")', "type",
         'Error: TypeError in refuel_data: "gb_amount" must be a number, got the string "2".'),
        ('refuel_data(customer_id="C1", line_id="L1", gb_amount=-1)', "refused",
         "Error: Refuel amount must be positive"),
        ('resume_line(customer_id="C1", line_id="L1")', "refused", "Error: Line must be suspended to resume"),
    ],
)  # fmt: skip
def test_errors_are_answered_and_change_nothing(call: str, code: str, text: str) -> None:
    played = env()
    played.reset(options={"task_id": "vpn"})
    assert played._world is not None
    before = played._world.state()
    observation, reward, terminated, _, info = played.step(call)
    assert observation == text
    (entry,) = info["feedback"]
    assert (entry["text"], entry["data"]["code"], entry["leak_level"], entry["visibility"]) == (text, code, 0, "policy")
    assert (reward, terminated, info["metrics"]["errors"]) == (0.0, False, 1.0)
    assert played._world.state() == before


def test_several_calls_run_in_order_and_each_is_answered() -> None:
    (seen,), *_, info = play(env(), "data-off", "toggle_data()\nnope()\ntoggle_data()")
    assert [line for line in seen.splitlines() if "Status" not in line] == [
        "Mobile Data is now ON.", "Error: Tool 'nope' not found.", "Mobile Data is now OFF.",
    ]  # fmt: skip
    assert info["metrics"] == {"calls": 3.0, "errors": 1.0, "assertions_met": 0.0}


def test_calls_beside_done_are_not_run() -> None:
    *_, reward, _, _, info = play(env(), "data-off", "toggle_data()\ndone()")
    assert reward == 0.0
    assert codes(info)[0] == "not_run"


def test_feedback_says_more_at_every_leak_level_and_never_more_than_asked() -> None:
    expected = {
        0: [],
        1: ["assertion"],
        2: ["assertion", "database", "progress", "extra_action"],
        3: ["assertion", "database", "progress", "extra_action", "expected"],
    }
    for level, said in expected.items():
        *_, reward, terminated, _, info = play(env(leak_level=level), "abroad-line", "toggle_wifi()", "done()")
        assert (reward, terminated) == (0.0, True)
        assert [code for code in codes(info) if code] == said if said else len(info["feedback"]) == 1
        assert all(entry["leak_level"] <= level for entry in info["feedback"])
        told = " ".join(entry["text"] for entry in info["feedback"])
        assert ("enable_roaming" in told) == (level == 3)
    blamed = {entry["data"]["code"]: entry for entry in info["feedback"]}
    assert blamed["extra_action"]["turn"] == 0
    assert blamed["database"]["data"]["places"] == [
        "lines/L1/roaming_enabled", "device/wifi_enabled", "surroundings/roaming_allowed",
    ]  # fmt: skip
    assert blamed["expected"]["text"].startswith('A solution: enable_roaming(customer_id="C1", line_id="L1"); done()')


def test_where_the_database_counts_its_places_are_named_to_the_policy() -> None:
    (*_, last), reward, _, _, info = play(
        env(domain="mock"), "swap", 'update_task_status(task_id="task_1", status="completed")', "done()"
    )
    assert reward == 0.0
    assert last == "At the end, these are not as they should be: tasks/task_2/status."
    assert info["reward_parts"] == {"db": 0.0, "env_assertion": 1.0, "action": 0.0, "communicate": 1.0}


def test_handing_over_needs_the_call_but_not_its_words() -> None:
    handed = 'transfer_to_human_agents(summary="locked")'
    assert play(env(), "pin", handed, "done()")[1] == 1.0
    *_, reward, _, _, info = play(env(), "pin", "done()")
    assert reward == 0.0
    assert codes(info) == ["missing_action"]
    assert play(env(), "pin", "transfer_to_human_agents()", "done()")[1] == 0.0, "a call that breaks its schema"


def test_an_action_needs_all_its_arguments_unless_the_row_names_some() -> None:
    whole = Action(name="f", arguments={"a": 1, "b": "x"})
    assert matches(whole, Call("f", {"b": "x", "a": 1.0}))
    for arguments in ({}, {"a": 1}, {"a": 1, "b": "y"}, {"a": 1, "b": "x", "c": 0}):
        assert not matches(whole, Call("f", arguments))
    some = whole.model_copy(update={"compare_args": ("a",)})
    assert matches(some, Call("f", {"a": 1, "b": "y"}))
    assert not matches(some, Call("f", {"b": "x"}))
    assert not matches(some, Call("g", {"a": 1}))


def test_a_basis_of_ones_own_replaces_the_tasks() -> None:
    detour = ("toggle_wifi()", "toggle_data()", "done()")
    assert play(env(), "data-off", *detour)[1] == 1.0
    *_, reward, _, _, info = play(env(basis=("DB", "ENV_ASSERTION")), "data-off", *detour)
    assert reward == 0.0
    assert codes(info) == ["database"]
    assert info["reward_parts"] == {"db": 0.0, "env_assertion": 1.0, "action": 1.0, "communicate": 1.0}
    assert env(basis=("COMMUNICATE",)).get_task(0).flagged(NO_OP_PASSES)


def test_text_ends_the_episode_unless_asked_otherwise() -> None:
    *_, reward, terminated, _, info = play(env(), "vpn", "I have fixed it.")
    assert (reward, terminated, info["stop_reason"]) == (0.0, True, "parse_error")
    assert codes(info) == ["syntax", "not_closed"]
    seen, reward, terminated, _, info = play(
        env(on_text="retry"), "vpn", "I have fixed it.", "disconnect_vpn()", "done()"
    )
    assert seen[0].startswith("Error: this is no tool call")
    assert (reward, terminated) == (1.0, True)


def test_too_many_errors_and_too_many_turns_end_without_reward() -> None:
    *_, reward, terminated, truncated, info = play(env(max_errors=2), "vpn", "disconnect_vpn()", "nope()", "nope()")
    assert (reward, terminated, truncated, info["stop_reason"]) == (0.0, True, False, "tool_stopped")
    assert codes(info) == ["unknown_tool", "too_many_errors", "not_closed"]
    *_, reward, terminated, truncated, info = play(env(max_turns=2), "vpn", "disconnect_vpn()", "check_vpn_status()")
    assert (reward, terminated, truncated, info["stop_reason"]) == (0.0, False, True, "max_turns")
    assert info["feedback"][0]["data"]["code"] == "not_closed"
    *_, info = play(env(), "vpn", "\n".join(["check_status_bar()"] * (MOST_CALLS + 1)))
    assert codes(info) == ["too_many_calls"]


def test_episodes_and_environments_share_no_state() -> None:
    first, second = env(), env()
    first.reset(options={"task_id": "vpn"})
    second.reset(options={"task_id": "vpn"})
    first.step("disconnect_vpn()")
    assert "poor" in second.step("check_vpn_status()")[0]
    first.reset(options={"task_id": "saver"})
    first.step("connect_vpn()")
    assert "excellent" in first.step("check_vpn_status()")[0], "in tau2-bench a broken VPN outlives its episode"

    def solve(number: int) -> float:
        played = env(split="test" if number % 2 else "train")
        total = 0.0
        for index in range(played.num_tasks(played.split)):
            played.reset(options={"task_index": index})
            total += sum(played.step(action)[1] for action in played.gold_actions(played.get_task(index)))
        return total

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(solve, range(16))) == [17.0, 7.0] * 8


def test_equal_actions_give_equal_texts() -> None:
    actions = [
        'refuel_data(customer_id="C2", line_id="L2", gb_amount=1.5)',
        'get_customer_by_id(customer_id="C2")',
        "done()",
    ]
    first, second = (play(env(leak_level=3), "refuel", *actions) for _ in range(2))
    assert first == second
    assert len(json.loads(first[0][1])["bill_ids"]) == 2, "a bill was made for the charge"


_ARGUMENTS = st.dictionaries(
    st.sampled_from(["customer_id", "line_id", "gb_amount", "mode", "apn_settings", "limit", "id", "app_name"]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
              st.sampled_from(["C1", "L1", "B1", "messaging", ""]), st.text(max_size=5),
              st.fixed_dictionaries({}, optional={"apn_name": st.sampled_from(["internet", "x"])}),
              st.fixed_dictionaries({"mms_port": st.integers()})),
    max_size=4,
)  # fmt: skip
_NAMES = st.sampled_from(
    [*load("telecom", "sample", "base", "manual").world().tools, "set_user_info", "__init__", "db"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_NAMES, _ARGUMENTS), min_size=1, max_size=6))
def test_any_call_is_answered_and_scored(calls: list[tuple[str, dict[str, Any]]]) -> None:
    played = env(max_errors=100)
    played.reset(seed=0)
    text = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])
    observation, _, _, truncated, info = played.step(text)
    assert observation
    assert info["scored"]
    assert not truncated
    assert played.step("done()")[4]["scored"]


def test_bad_rows_are_refused_when_loading(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    for file in (SAMPLES / "telecom").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    rows = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    own = folder / "mine.json"

    def loaded(*rows: dict[str, Any]) -> int:
        own.write_text(json.dumps(rows), encoding="utf-8")
        load.cache_clear()
        return env(data=str(own)).num_tasks("train")

    assert loaded(*rows[:3]) == 3, "a file of tasks, with the world next to it"
    with pytest.raises(DataError, match="given twice"):
        loaded(rows[0], rows[0])
    broken = json.loads(json.dumps(rows[0]))
    broken["initial_state"]["initialization_actions"][0]["func_name"] = "__init__"
    with pytest.raises(DataError, match="no function '__init__'"):
        loaded(broken)
    broken = json.loads(json.dumps(rows[0]))
    broken["evaluation_criteria"]["reward_basis"] = ["LUCK"]
    with pytest.raises(DataError, match="reward_basis"):
        loaded(broken)
    with pytest.raises(DataError, match="no task is left"):
        loaded({**rows[0], "ticket": None})
    (folder / "db.toml").write_text("[[plans]]\nplan_id = 3", encoding="utf-8")
    with pytest.raises(DataError, match="database of telecom"):
        loaded(rows[0])


@pytest.mark.parametrize(
    "options",
    [{"domain": "airline"}, {"task_set": "tiny"}, {"policy": "poster"}, {"on_text": "ignore"}, {"basis": ()},
     {"basis": ("NL_ASSERTION",)}, {"basis": "DB"}, {"max_errors": 0}, {"leak_level": 4}],
)  # fmt: skip
def test_wrong_settings_name_the_setting(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        env(**options)


def test_the_sample_is_what_its_maker_writes(tmp_path: Path) -> None:
    for folder in ("telecom", "mock"):
        (tmp_path / folder).mkdir()
    make_tau2.main(tmp_path)
    for file in tmp_path.rglob("*.json"):
        assert file.read_bytes() == (SAMPLES / file.relative_to(tmp_path)).read_bytes()


def test_initial_states_merge_nested_values() -> None:
    row = TaskRow.model_validate(
        {"id": "x", "initial_state": {"initialization_data": {
            "agent_data": {"tasks": {"task_3": {"task_id": "task_3", "title": "New", "status": "pending"}},
                           "users": {"bo": {"tasks": ["task_3"]}}},
            "user_data": {"notifications": {"n1": {"status": "read"}}}}}}
    )  # fmt: skip
    state = start(load("mock", "sample", "base", "manual").world(), row).state()
    assert list(state["assistant"]["tasks"]) == ["task_1", "task_2", "task_3"]
    assert state["assistant"]["users"]["bo"] == {"user_id": "bo", "name": "Bo", "tasks": ["task_3"]}
    assert state["user"]["notifications"]["n1"]["status"] == "read"


def test_the_page_shows_what_its_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "environments" / "tau2-solo.md").read_text(encoding="utf-8")
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    exec(compile(code, "tau2-solo.md", "exec"), {})
    assert capsys.readouterr().out == shown


def test_a_step_takes_well_under_a_millisecond() -> None:
    played = env()
    played.reset(options={"task_id": "vpn"})
    call = 'get_customer_by_phone(phone_number="555-0102")'
    best = min(_timed(played, call) for _ in range(50))
    assert best < 1e-3


def _timed(played: Tau2SoloEnv, action: str) -> float:
    start = time.perf_counter()
    played.step(action)
    return time.perf_counter() - start
