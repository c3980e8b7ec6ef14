"""The agent's side of telecom: look up customers, lines and bills, and change them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, TypeVar

from rfenvs.envs.tau2.telecom_records import TODAY, Bill, BillStatus, Customer, Line, LineItem, Plan, TelecomDb
from rfenvs.envs.tau2.toolkit import Record, Schema, ToolError, Toolkit, assertion, setup, tool
from rfenvs.tasks import digest

_Row = TypeVar("_Row", bound=Record)

_DAY = datetime.timedelta(days=1)
_PAYMENT_TERM = datetime.timedelta(days=14)
_NEXT_MONTH = (TODAY.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
_END_OF_LAST_MONTH = TODAY.replace(day=1) - _DAY


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


_CUSTOMER = _text("Id of the customer.")
_LINE = _text("Id of a line of that customer.")


class TelecomAgent(Toolkit[TelecomDb]):
    """The company's database and the tools on it."""

    # Records by their keys.

    def line(self, line_id: str) -> Line:
        """A line by its id."""
        return _one(self.db.lines, "line_id", line_id, "Line with ID")

    def line_of_number(self, phone_number: str) -> Line:
        """A line by its phone number."""
        return _one(self.db.lines, "phone_number", phone_number, "Line with phone number")

    def plan(self, plan_id: str) -> Plan:
        """A plan by its id."""
        return _one(self.db.plans, "plan_id", plan_id, "Plan with ID")

    def bill(self, bill_id: str) -> Bill:
        """A bill by its id."""
        return _one(self.db.bills, "bill_id", bill_id, "Bill with ID")

    def bills_of(self, customer: Customer, *statuses: BillStatus) -> list[Bill]:
        """A customer's bills, of the given statuses where any are given."""
        bills = [self.bill(bill_id) for bill_id in customer.bill_ids]
        return [bill for bill in bills if not statuses or bill.status in statuses]

    def _line_of(self, customer_id: str, line_id: str) -> Line:
        if line_id not in self.get_customer_by_id(customer_id).line_ids:
            raise ToolError(f"Line {line_id} not found for customer {customer_id}")
        return self.line(line_id)

    # Tools that look.

    @tool(
        "read", "Find a customer by the contact number or the number of a line.", phone_number=_text("Such a number.")
    )
    def get_customer_by_phone(self, phone_number: str) -> Customer:
        """The first customer with that number."""
        for customer in self.db.customers:
            if phone_number == customer.phone_number or any(
                self.line(line_id).phone_number == phone_number for line_id in customer.line_ids
            ):
                return customer
        raise ToolError(f"Customer with phone number {phone_number} not found")

    @tool("read", "Look up a customer by id.", customer_id=_CUSTOMER)
    def get_customer_by_id(self, customer_id: str) -> Customer:
        """The customer with that id."""
        return _one(self.db.customers, "customer_id", customer_id, "Customer with ID")

    @tool(
        "read",
        "Find customers by full name and date of birth.",
        full_name=_text("Full name, in any case."),
        dob=_text("Date of birth, YYYY-MM-DD."),
    )
    def get_customer_by_name(self, full_name: str, dob: str) -> list[Customer]:
        """Every customer of that name born on that day."""
        return [
            customer
            for customer in self.db.customers
            if customer.full_name.lower() == full_name.lower() and customer.date_of_birth == dob
        ]

    @tool(
        "read",
        "Look up a customer, line, device, bill or plan by id.",
        id=_text("The id; its first letter says which."),
    )
    def get_details_by_id(self, id: str) -> Record:
        """The record with that id."""
        if id.startswith("L"):
            return self.line(id)
        if id.startswith("D"):
            return _one(self.db.devices, "device_id", id, "Device with ID")
        if id.startswith("B"):
            return self.bill(id)
        if id.startswith("C"):
            return self.get_customer_by_id(id)
        if id.startswith("P"):
            return self.plan(id)
        raise ToolError(f"Unknown ID format or type: {id}")

    @tool(
        "read",
        "List a customer's bills, the newest first.",
        customer_id=_CUSTOMER,
        limit={"type": "integer", "default": 12, "description": "Most bills to list."},
    )
    def get_bills_for_customer(self, customer_id: str, limit: int = 12) -> list[Bill]:
        """The newest bills."""
        bills = self.bills_of(self.get_customer_by_id(customer_id))
        return sorted(bills, key=lambda bill: bill.issue_date, reverse=True)[: int(limit)]

    @tool("read", "Show a line's data use in this billing cycle.", customer_id=_CUSTOMER, line_id=_LINE)
    def get_data_usage(self, customer_id: str, line_id: str) -> dict[str, Any]:
        """Use, limit and refuelled data, in GB, and the last day of the cycle."""
        line = self._line_of(customer_id, line_id)
        return {
            "line_id": line_id,
            "data_used_gb": line.data_used_gb,
            "data_limit_gb": self.plan(line.plan_id).data_limit_gb,
            "data_refueling_gb": line.data_refueling_gb,
            "cycle_end_date": _NEXT_MONTH - _DAY,
        }

    # Tools that change something.

    @tool(
        "write",
        "Suspend an active line, for six months at most.",
        customer_id=_CUSTOMER,
        line_id=_LINE,
        reason=_text("Why."),
    )
    def suspend_line(self, customer_id: str, line_id: str, reason: str) -> dict[str, Any]:
        """Suspend a line from today."""
        line = self._line_of(customer_id, line_id)
        if line.status != "Active":
            raise ToolError("Line must be active to suspend")
        line.status, line.suspension_start_date = "Suspended", TODAY
        return {"message": "Line suspended successfully. $5/month holding fee will apply.", "line": line}

    @tool("write", "Resume a line that is suspended or waits for activation.", customer_id=_CUSTOMER, line_id=_LINE)
    def resume_line(self, customer_id: str, line_id: str) -> dict[str, Any]:
        """Make a line active; the phone finds its service again after a reboot."""
        line = self._line_of(customer_id, line_id)
        if line.status not in ("Suspended", "Pending Activation"):
            raise ToolError("Line must be suspended to resume")
        line.status, line.suspension_start_date = "Active", None
        return {"message": "Line resumed successfully", "line": line}

    @tool(
        "write",
        "Ask the customer to pay a bill. One request at a time; whether the bill is due is not checked.",
        customer_id=_CUSTOMER,
        bill_id=_text("Id of a bill of that customer."),
    )
    def send_payment_request(self, customer_id: str, bill_id: str) -> str:
        """Let a bill await payment."""
        customer = self.get_customer_by_id(customer_id)
        if self.bills_of(customer, "Awaiting Payment"):
            raise ToolError("A bill is already awaiting payment for this customer")
        if bill_id not in customer.bill_ids:
            raise ToolError(f"Bill {bill_id} not found for customer {customer_id}")
        self.bill(bill_id).status = "Awaiting Payment"
        return f"Payment request sent to the customer for bill {bill_id}"

    @tool("write", "Allow a line to roam abroad.", customer_id=_CUSTOMER, line_id=_LINE)
    def enable_roaming(self, customer_id: str, line_id: str) -> str:
        """Switch roaming on for a line."""
        return self._roaming(customer_id, line_id, True)

    @tool("write", "Forbid a line to roam abroad.", customer_id=_CUSTOMER, line_id=_LINE)
    def disable_roaming(self, customer_id: str, line_id: str) -> str:
        """Switch roaming off for a line."""
        return self._roaming(customer_id, line_id, False)

    def _roaming(self, customer_id: str, line_id: str, wanted: bool) -> str:
        line = self._line_of(customer_id, line_id)
        word = "enabled" if wanted else "disabled"
        if line.roaming_enabled is wanted:
            return f"Roaming was already {word}"
        line.roaming_enabled = wanted
        return f"Roaming {word} successfully"

    @tool("generic", "Hand the ticket to a human agent.", summary=_text("What the matter is."))
    def transfer_to_human_agents(self, summary: str) -> str:
        """Nothing changes; the call itself is what counts."""
        return "Transfer successful"

    @tool(
        "write",
        "Add data to a line; the plan's price per GB goes on the next bill.",
        customer_id=_CUSTOMER,
        line_id=_LINE,
        gb_amount={"type": "number", "description": "GB to add, above 0."},
    )
    def refuel_data(self, customer_id: str, line_id: str, gb_amount: float) -> dict[str, Any]:
        """Add data, and charge for it."""
        line = self._line_of(customer_id, line_id)
        if gb_amount <= 0:
            raise ToolError("Refuel amount must be positive")
        price = self.plan(line.plan_id).data_refueling_price_per_gb
        charge = gb_amount * price
        line.data_refueling_gb += gb_amount
        self._charge(customer_id, charge, f"Data refueling: {gb_amount} GB at ${price}/GB")
        return {
            "message": f"Successfully added {gb_amount} GB of data for line {line_id} for ${charge:.2f}",
            "new_data_refueling_gb": line.data_refueling_gb,
            "charge": charge,
        }

    def _charge(self, customer_id: str, amount: float, description: str) -> None:
        """Put an amount on the customer's draft bill, made for the next month where there is none."""
        customer = self.get_customer_by_id(customer_id)
        draft = next(iter(self.bills_of(customer, "Draft")), None)
        if draft is None:
            draft = Bill(
                bill_id=f"B{digest(customer_id, customer.bill_ids, size=4)}",  # random in tau2-bench
                customer_id=customer_id,
                period_start=_NEXT_MONTH,
                period_end=(_NEXT_MONTH + datetime.timedelta(days=32)).replace(day=1) - _DAY,
                issue_date=_NEXT_MONTH,
                total_due=0,
                due_date=_NEXT_MONTH + _PAYMENT_TERM,
            )
            self.db.bills.append(draft)
            customer.bill_ids.append(draft.bill_id)
        kind = "Credit" if amount < 0 else "Charge"
        draft.line_items.append(LineItem(description=description, amount=amount, date=TODAY, item_type=kind))
        draft.total_due += amount

    # Steps of initial states.

    @setup
    def set_data_usage(self, customer_id: str, line_id: str, data_used_gb: float) -> None:
        """Set how much data a line has used, in GB."""
        self._line_of(customer_id, line_id).data_used_gb = data_used_gb

    @setup
    def suspend_line_for_overdue_bill(
        self, customer_id: str, line_id: str, new_bill_id: str, contract_ended: bool
    ) -> None:
        """Suspend a line over an overdue bill of last month, made for it; its contract may have ended too."""
        line = self.line(line_id)
        if line.status != "Active":
            raise ToolError("Line must be active to suspend for unpaid bill")
        amount = self.plan(line.plan_id).price_per_month
        if amount <= 0:
            raise ToolError("Amount must be positive for overdue bill")
        customer = self.get_customer_by_id(customer_id)
        if self.bills_of(customer, "Overdue"):
            raise ToolError("Customer already has an overdue bill")
        start = _END_OF_LAST_MONTH.replace(day=1)
        charge = LineItem(description=f"Charge for line {line_id}", amount=amount, date=TODAY, item_type="Charge")
        bill = Bill(
            bill_id=new_bill_id,
            customer_id=customer_id,
            period_start=start,
            period_end=_END_OF_LAST_MONTH,
            issue_date=start,
            total_due=amount,
            due_date=start + _PAYMENT_TERM,
            line_items=[charge],
            status="Overdue",
        )
        self.db.bills.append(bill)
        customer.bill_ids.append(new_bill_id)
        line.status, line.suspension_start_date = "Suspended", TODAY
        if contract_ended:
            line.contract_end_date = _END_OF_LAST_MONTH

    # Assertions.

    @assertion("how much data was added to the line")
    def assert_data_refueling_amount(self, customer_id: str, line_id: str, expected_amount: float) -> bool:
        """Whether that many GB were added."""
        return abs(self._line_of(customer_id, line_id).data_refueling_gb - expected_amount) < 1e-6

    @assertion("the status of the line")
    def assert_line_status(self, customer_id: str, line_id: str, expected_status: str) -> bool:
        """Whether the line has that status."""
        return self._line_of(customer_id, line_id).status == expected_status

    @assertion("the overdue bill")
    def assert_overdue_bill_exists(self, customer_id: str, overdue_bill_id: str) -> bool:
        """Whether the customer has that bill, and it is overdue."""
        if overdue_bill_id not in self.get_customer_by_id(customer_id).bill_ids:
            raise ToolError(f"Overdue bill {overdue_bill_id} not found")
        if self.bill(overdue_bill_id).status != "Overdue":
            raise ToolError(f"Overdue bill {overdue_bill_id} is not overdue")
        return True

    @assertion("the overdue bill")
    def assert_no_overdue_bill(self, overdue_bill_id: str) -> bool:
        """Whether there is no such bill, or it is paid."""
        return all(bill.status == "Paid" for bill in self.db.bills if bill.bill_id == overdue_bill_id)


def _one(rows: Iterable[_Row], key: str, value: str, what: str) -> _Row:
    for row in rows:
        if getattr(row, key) == value:
            return row
    raise ToolError(f"{what} {value} not found")
