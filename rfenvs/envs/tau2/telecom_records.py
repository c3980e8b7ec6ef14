"""The telecom company's database: plans, customers, lines, bills and devices. Money is in USD, data in GB."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field

from rfenvs.envs.tau2.toolkit import Record

TODAY = datetime.date(2025, 2, 25)
"""The day on which every task plays."""

LineStatus = Literal["Active", "Suspended", "Pending Activation", "Closed"]
BillStatus = Literal["Draft", "Issued", "Awaiting Payment", "Paid", "Overdue", "Disputed"]
AccountStatus = Literal["Active", "Suspended", "Pending Verification", "Closed"]


class Plan(Record):
    """What a line costs and holds a month."""

    plan_id: str
    name: str
    data_limit_gb: float
    price_per_month: float
    data_refueling_price_per_gb: float


class Device(Record):
    """A device that the company knows of."""

    device_id: str
    device_type: Literal["phone", "router", "tablet", "watch", "other"]
    model: str
    imei: str | None = None
    is_esim_capable: bool
    activated: bool = False
    activation_date: datetime.datetime | None = None
    last_esim_transfer_date: datetime.datetime | None = None


class Line(Record):
    """A phone number with its contract."""

    line_id: str
    phone_number: str
    status: LineStatus = "Pending Activation"
    plan_id: str
    device_id: str | None = None
    data_used_gb: float = 0.0
    data_refueling_gb: float = 0.0
    roaming_enabled: bool = False
    contract_end_date: datetime.date | None = None
    last_plan_change_date: datetime.date | None = None
    last_sim_replacement_date: datetime.date | None = None
    suspension_start_date: datetime.date | None = None


class LineItem(Record):
    """One entry of a bill; a negative amount is a credit."""

    description: str
    amount: float
    date: datetime.date
    item_type: str


class Bill(Record):
    """A bill of one customer."""

    bill_id: str
    customer_id: str
    period_start: datetime.date
    period_end: datetime.date
    issue_date: datetime.date
    total_due: float
    due_date: datetime.date
    line_items: list[LineItem] = Field(default_factory=list)
    status: BillStatus = "Draft"


class Address(Record):
    """Where bills go."""

    street: str
    city: str
    state: str
    zip_code: str


class PaymentMethod(Record):
    """A stored way to pay."""

    method_type: Literal["Credit Card", "Debit Card", "PayPal"]
    account_number_last_4: str
    expiration_date: str
    """MM/YYYY."""


class Customer(Record):
    """A customer, with the ids of lines and bills."""

    customer_id: str
    full_name: str
    date_of_birth: str
    """YYYY-MM-DD."""
    email: str
    phone_number: str
    address: Address
    account_status: AccountStatus = "Pending Verification"
    payment_methods: list[PaymentMethod] = Field(default_factory=list)
    line_ids: list[str] = Field(default_factory=list)
    bill_ids: list[str] = Field(default_factory=list)
    created_at: datetime.datetime = datetime.datetime(2025, 1, 1)
    last_extension_date: datetime.date | None = None
    goodwill_credit_used_this_year: float = 0.0


class TelecomDb(Record):
    """The whole database."""

    plans: list[Plan] = Field(default_factory=list)
    customers: list[Customer] = Field(default_factory=list)
    lines: list[Line] = Field(default_factory=list)
    bills: list[Bill] = Field(default_factory=list)
    devices: list[Device] = Field(default_factory=list)
