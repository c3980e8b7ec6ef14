"""Write the tickets in `tau2/`: our own, in tau2-bench's layout.

python -m rfenvs.envs.samples.make_tau2 [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rfenvs.envs.tau2.phone import Phone

_INES = ("Ines Aalto", "555-0101", {"customer_id": "C1", "line_id": "L1"})
_TOMAS = ("Tomas Berg", "555-0102", {"customer_id": "C2", "line_id": "L2"})
_Customer = tuple[str, str, dict[str, str]]

_SERVICE = ("assert_service_status", {"expected_status": "connected"})
_DATA = ("assert_mobile_data_status", {"expected_status": True})
_FAST = ("assert_internet_speed", {"expected_speed": 100, "expected_desc": "excellent"})
_MMS = ("assert_can_send_mms", {"expected_status": True})
_HANDED = "transfer_to_human_agents"
_TEST = ("apn", "abroad-both", "pictures-storage", "bill-unpaid", "puk", "refuel-some", "three-causes")


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    side = "user" if hasattr(Phone, name) else "assistant"
    return {"env_type": side, "func_name": name, "arguments": arguments}


def _ticket(
    id: str,
    customer: _Customer,
    text: str,
    broken: list[tuple[str, dict[str, Any]]],
    solution: list[tuple[str, dict[str, Any]]],
    checks: list[tuple[str, dict[str, Any]]],
) -> dict[str, Any]:
    name, number, _ = customer
    start = [("set_user_info", {"name": name, "phone_number": number}), *broken]
    handed = any(tool == _HANDED for tool, _ in solution)
    actions = [
        {"action_id": f"{id}-{i}", "name": tool, "arguments": arguments} for i, (tool, arguments) in enumerate(solution)
    ]
    for action in actions:
        if action["name"] == _HANDED:
            action["compare_args"] = []
    return {
        "id": id,
        "user_scenario": {"instructions": text},
        "ticket": f"{text} Customer: {name}, phone number {number}.",
        "initial_state": {"initialization_actions": [_call(tool, arguments) for tool, arguments in start]},
        "evaluation_criteria": {
            "actions": actions,
            "env_assertions": [_call(tool, arguments) for tool, arguments in checks],
            "reward_basis": ["ENV_ASSERTION", "ACTION"] if handed else ["ENV_ASSERTION"],
        },
    }


def telecom() -> list[dict[str, Any]]:
    """Tickets about phones, lines and bills."""
    ines, tomas = _INES[2], _TOMAS[2]
    overdue = {"new_bill_id": "B9", "contract_ended": False}
    low = [("assert_no_overdue_bill", {"overdue_bill_id": "B9"}), _SERVICE]
    sms, storage = ({"app_name": "messaging", "permission": name} for name in ("sms", "storage"))
    no_data, no_mms = "Mobile data does not work.", "Picture messages are not sent."
    slow = "Mobile data is too slow for the customer, who wants an excellent speed."
    none = "The phone has had no service since this morning."
    t = _ticket
    return [
        t("airplane", _INES, none, [("turn_airplane_mode_on", {})], [("toggle_airplane_mode", {})], [_SERVICE]),
        t("sim-out", _TOMAS, none, [("unseat_sim_card", {})], [("reseat_sim_card", {})], [_SERVICE]),
        t("apn", _INES, none, [("break_apn_settings", {})],
          [("reset_apn_settings", {}), ("reboot_device", {})], [_SERVICE]),
        t("pin", _TOMAS, none, [("lock_sim_card", {"mode": "pin"})],
          [(_HANDED, {"summary": "The SIM card is locked with a PIN."})],
          [("assert_service_status", {"expected_status": "no_service"})]),
        t("puk", _INES, none, [("lock_sim_card", {"mode": "puk"})],
          [(_HANDED, {"summary": "The SIM card is locked with a PUK."})],
          [("assert_service_status", {"expected_status": "no_service"})]),
        t("bill-unpaid", _INES, f"{none} The customer permits payments up to 50 USD.",
          [("suspend_line_for_overdue_bill", {**ines, **overdue}), ("simulate_network_search", {})],
          [("send_payment_request", {"customer_id": "C1", "bill_id": "B9"}), ("make_payment", {}),
           ("resume_line", ines), ("reboot_device", {})], low),
        t("bill-unpaid-small", _TOMAS, f"{none} The customer permits every payment.",
          [("suspend_line_for_overdue_bill", {**tomas, **overdue}), ("simulate_network_search", {})],
          [("send_payment_request", {"customer_id": "C2", "bill_id": "B9"}), ("make_payment", {}),
           ("resume_line", tomas), ("reboot_device", {})], low),
        t("contract-over", _TOMAS, none,
          [("suspend_line_for_overdue_bill", {**tomas, **overdue, "contract_ended": True}),
           ("simulate_network_search", {})],
          [(_HANDED, {"summary": "The contract of the line has ended."})],
          [("assert_service_status", {"expected_status": "no_service"})]),
        t("data-off", _TOMAS, no_data, [("turn_data_off", {})], [("toggle_data", {})], [_DATA]),
        t("abroad-phone", _TOMAS, f"{no_data} The customer is in Norway.",
          [("set_user_location", {"abroad": True}), ("turn_roaming_off", {})], [("toggle_roaming", {})], [_DATA]),
        t("abroad-line", _INES, f"{no_data} The customer is in Peru.",
          [("set_user_location", {"abroad": True}), ("turn_roaming_on", {})], [("enable_roaming", ines)], [_DATA]),
        t("abroad-both", _INES, f"{no_data} The customer is in Japan.",
          [("set_user_location", {"abroad": True}), ("turn_roaming_off", {})],
          [("enable_roaming", ines), ("toggle_roaming", {})], [_DATA]),
        t("refuel", _TOMAS, f"{no_data} The customer would pay for 1.5 GB more.",
          [("set_data_usage", {**tomas, "data_used_gb": 4.6})], [("refuel_data", {**tomas, "gb_amount": 1.5})],
          [_DATA, ("assert_data_refueling_amount", {**tomas, "expected_amount": 1.5})]),
        t("refuel-some", _INES, f"{no_data} The customer would pay for 2 GB more.",
          [("set_data_usage", {**ines, "data_used_gb": 31.0})], [("refuel_data", {**ines, "gb_amount": 2.0})],
          [_DATA, ("assert_data_refueling_amount", {**ines, "expected_amount": 2.0})]),
        t("saver", _INES, slow, [("turn_data_saver_mode_on", {})], [("toggle_data_saver_mode", {})], [_DATA, _FAST]),
        t("vpn", _TOMAS, slow, [("break_vpn", {})], [("disconnect_vpn", {})], [_DATA, _FAST]),
        t("mode", _INES, slow, [("set_network_mode_preference", {"mode": "3g_only"})],
          [("set_network_mode_preference", {"mode": "4g_5g_preferred"})], [_DATA, _FAST]),
        t("saver-and-vpn", _INES, slow, [("turn_data_saver_mode_on", {}), ("break_vpn", {})],
          [("toggle_data_saver_mode", {}), ("disconnect_vpn", {})], [_DATA, _FAST]),
        t("three-causes", _TOMAS, f"{slow} The customer is in Chile.",
          [("set_user_location", {"abroad": True}), ("turn_roaming_off", {}), ("turn_data_off", {}),
           ("set_network_mode_preference", {"mode": "2g_only"})],
          [("toggle_roaming", {}), ("toggle_data", {}), ("set_network_mode_preference", {"mode": "4g_5g_preferred"})],
          [_DATA, _FAST]),
        t("pictures-2g", _TOMAS, no_mms, [("set_network_mode_preference", {"mode": "2g_only"})],
          [("set_network_mode_preference", {"mode": "4g_5g_preferred"})], [_MMS]),
        t("pictures-address", _INES, no_mms, [("break_apn_mms_setting", {})],
          [("reset_apn_settings", {}), ("reboot_device", {})], [_MMS]),
        t("pictures-wifi", _TOMAS, no_mms, [("set_wifi_calling", {"enabled": True, "mms_over_wifi": True})],
          [("toggle_wifi_calling", {})], [_MMS]),
        t("pictures-storage", _INES, no_mms, [("remove_app_permission", storage)],
          [("grant_app_permission", storage)], [_MMS]),
        t("pictures-both", _TOMAS, no_mms, [("remove_app_permission", sms), ("remove_app_permission", storage)],
          [("grant_app_permission", sms), ("grant_app_permission", storage)], [_MMS]),
    ]  # fmt: skip


def mock() -> list[dict[str, Any]]:
    """Tickets about a task list; their databases must come out as after the solution."""

    def ticket(
        id: str, text: str, *solution: tuple[str, dict[str, Any]], basis: tuple[str, ...] = ("DB",)
    ) -> dict[str, Any]:
        actions: list[dict[str, Any]] = [
            {"action_id": f"{id}-{i}", "name": tool, "arguments": arguments}
            for i, (tool, arguments) in enumerate(solution)
        ]
        for action in actions:
            if action["name"] == _HANDED:
                action["compare_args"] = []
        criteria = {"actions": actions, "reward_basis": list(basis)}
        return {"id": id, "user_scenario": {"instructions": text}, "ticket": text, "evaluation_criteria": criteria}

    call = ("create_task", {"user_id": "bo", "title": "Call the dentist"})
    ferns = ("update_task_status", {"task_id": "task_1", "status": "completed"})
    books = ("update_task_status", {"task_id": "task_2", "status": "pending"})
    counted = ticket("make-two", "Bo needs two tasks: 'Call the dentist', then 'Buy stamps'.", call,
                     ("create_task", {"user_id": "bo", "title": "Buy stamps"}),
                     basis=("DB", "ENV_ASSERTION"))  # fmt: skip
    counted["evaluation_criteria"]["env_assertions"] = [
        _call("assert_number_of_tasks", {"user_id": "bo", "expected_number": 2})
    ]
    return [
        ticket("make-one", "Bo needs a task with the title 'Call the dentist'.", call),
        counted,
        ticket("finish", "Ada has watered the ferns.", ferns),
        ticket("reopen", "Ada has found one of the library books: that task is open again.", books),
        ticket("swap", "Ada has watered the ferns, but the books are still here.", ferns, books),
        ticket("dismiss", "Ada has seen the notification n1, and wants it marked as read.",
               ("dismiss_notification", {"notification_id": "n1"})),
        ticket("finish-and-dismiss", "Ada has watered the ferns and wants the notification about it marked as read.",
               ferns,
               ("dismiss_notification", {"notification_id": "n1"})),
        ticket("delete", "Ada wants the task about the ferns deleted.",
               (_HANDED, {"summary": "Delete task_1."}), basis=("DB", "ACTION")),
    ]  # fmt: skip


def main(folder: Path) -> None:
    """Write the files."""
    rows = telecom()
    test = [row["id"] for row in rows if row["id"] in _TEST]
    files = {
        "telecom/sample_tasks.json": rows,
        "telecom/sample_split_tasks.json": {
            "train": [row["id"] for row in rows if row["id"] not in _TEST],
            "test": test,
        },
        "mock/sample_tasks.json": mock(),
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "tau2")
