"""The telecom world: what the company does shows on the customer's side, and the other way round."""

from __future__ import annotations

from rfenvs.envs.tau2.phone import Phone
from rfenvs.envs.tau2.phone_records import PaymentRequest, PhoneDb
from rfenvs.envs.tau2.telecom_agent import TelecomAgent
from rfenvs.envs.tau2.telecom_records import TelecomDb
from rfenvs.envs.tau2.toolkit import World


class TelecomWorld(World):
    """A telecom company and one customer's phone."""

    def __init__(self, db: TelecomDb, phone: PhoneDb) -> None:
        self.agent, self.phone = TelecomAgent(db), Phone(phone)
        super().__init__(self.agent, self.phone)

    def sync(self) -> None:
        """Tell the phone's surroundings the state of its line, book a payment, deliver a payment request.

        The phone's connection itself changes at its next network search.
        """
        around = self.phone.around
        if around.phone_number is None:
            return
        line = self.agent.line_of_number(around.phone_number)
        around.line_active = line.status == "Active"
        around.roaming_allowed = line.roaming_enabled
        limit = self.agent.plan(line.plan_id).data_limit_gb + line.data_refueling_gb
        around.mobile_data_usage_exceeded = line.data_used_gb >= limit
        if around.payment_request is not None and around.payment_request.paid:
            self.agent.bill(around.payment_request.bill_id).status = "Paid"
            around.payment_request = None
        if around.payment_request is None:
            customer = self.agent.get_customer_by_phone(around.phone_number)
            waiting = self.agent.bills_of(customer, "Awaiting Payment")
            if waiting:
                around.payment_request = PaymentRequest(bill_id=waiting[0].bill_id, amount_due=waiting[0].total_due)
