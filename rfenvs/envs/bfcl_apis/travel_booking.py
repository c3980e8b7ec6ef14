"""`TravelAPI`: flights, credit cards, bookings and a budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, ToolError, copy_json, hidden, need, tool

_TODAY = date(2024, 9, 1)
"""The day on which travellers must be of age; that of `TradingBot`'s clock, so that no verdict depends on the date."""
_AIRPORTS = {
    "Rivermist": "RMS", "Stonebrook": "SBK", "Maplecrest": "MPC", "Silverpine": "SVP", "Shadowridge": "SHD",
    "Paris": "CDG", "London": "LHR", "Sunset Valley": "SSV", "Oakendale": "OKD", "Willowbend": "WLB",
    "Beijing": "PEK", "Tokyo": "HND", "Hong Kong": "HKG", "Rome": "CIA", "Crescent Hollow": "CRH",
    "Autumnville": "ATV", "Pinehaven": "PHV", "Greenfield": "GFD", "San Francisco": "SFO", "Los Angeles": "LAX",
    "New York": "JFK", "Chicago": "ORD", "Boston": "BOS",
}  # fmt: skip
_CLASSES = {"economy": 1, "business": 2, "first": 5}
_PER_DOLLAR = {
    "RMB": 7, "EUR": 0.8, "JPY": 110, "GBP": 0.7, "CAD": 1.3, "AUD": 1.4, "INR": 70, "RUB": 60, "BRL": 3.8, "MXN": 20,
}  # fmt: skip
_ROUTES = {
    "SFO": (
        "LAX 200, JFK 500, ORD 400, BOS 450, RMS 300, SBK 350, MPC 370, SVP 320, SHD 330, SSV 340, OKD 360, "
        "WLB 310, CRH 380, ATV 390, PHV 420, GFD 430, CIA 700"
    ),
    "LAX": (
        "SFO 100, JFK 600, ORD 500, BOS 550, RMS 310, SBK 320, MPC 330, SVP 340, SHD 350, SSV 360, OKD 370, "
        "WLB 380, CRH 390, ATV 400, PHV 410, GFD 420, HND 430"
    ),
    "JFK": (
        "ORD 300, BOS 250, RMS 450, SBK 460, MPC 470, SVP 480, SHD 490, SSV 500, OKD 510, WLB 520, CRH 530, "
        "ATV 540, PHV 550, GFD 560, LAX 570, HND 800, PVG 950, PEK 1000"
    ),
    "ORD": (
        "LAX 180, BOS 200, RMS 350, SBK 360, MPC 370, SVP 380, SHD 390, SSV 400, OKD 410, WLB 420, CRH 430, "
        "ATV 440, PHV 450, GFD 460"
    ),
    "BOS": (
        "RMS 400, SBK 410, MPC 420, SVP 430, SHD 440, SSV 450, OKD 460, WLB 470, CRH 480, ATV 490, PHV 500, GFD 510"
    ),
    "RMS": (
        "BOS 200, JFK 210, SBK 220, MPC 230, SVP 240, SHD 250, SSV 260, OKD 270, WLB 280, CRH 290, ATV 300, "
        "PHV 310, GFD 320, LAX 330"
    ),
    "SBK": "MPC 200, SVP 210, SHD 220, SSV 230, OKD 240, WLB 250, CRH 260, ATV 270, PHV 280, GFD 290",
    "MPC": "SVP 210, SHD 220, SSV 230, OKD 240, WLB 250, CRH 260, ATV 270, PHV 280, GFD 290",
    "SVP": "SHD 230, SSV 240, OKD 250, WLB 260, CRH 270, ATV 280, PHV 290, GFD 300",
    "SHD": "SSV 220, OKD 230, WLB 240, CRH 250, ATV 260, PHV 270, GFD 280",
    "SSV": "OKD 240, WLB 250, CRH 260, ATV 270, PHV 280, GFD 290",
    "OKD": "WLB 230, CRH 240, ATV 250, PHV 260, GFD 270, LAX 220",
    "WLB": "CRH 250, ATV 260, PHV 270, GFD 280",
    "CRH": "ATV 240, PHV 250, GFD 260, SFO 270, RMS 280, HKG 290, JFK 300",
    "ATV": "PHV 230, GFD 240",
    "PHV": "GFD 220",
    "LHR": "CDG 100",
}
_FARES = {
    (start, end): int(fare)
    for start, routes in _ROUTES.items()
    for end, fare in (route.split() for route in routes.split(", "))
}


@dataclass(kw_only=True)
class TravelAPI(SimulatedApi):
    """One traveller. Whoever knows the access token may book; a token that is there does not run out by itself."""

    credit_card_list: dict[str, dict[str, Any]] = field(default_factory=dict)
    booking_record: dict[str, dict[str, Any]] = field(default_factory=dict)
    access_token: str | None = None
    token_type: str | None = None
    token_expires_in: int | None = None
    token_scope: str | None = None
    user_first_name: str | None = None
    user_last_name: str | None = None
    budget_limit: float | None = None
    random_seed: int = hidden(141053)

    def _check(self, access_token: str, **fields: Any) -> None:
        need(self.token_expires_in != 0, "Token expired", **fields)
        need(access_token == self.access_token, "Invalid access token", **fields)

    def _number(self, digits: int) -> str:
        return str(self._random.randint(10 ** (digits - 1), 10**digits - 1))

    @tool
    def authenticate_travel(
        self,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        grant_type: str,
        user_first_name: str,
        user_last_name: str,
    ) -> dict[str, Any]:
        """Log in with grant type read_write, read or write; the answer holds the access token."""
        self.access_token, self.token_type, self.token_expires_in = self._number(6), "Bearer", 2
        self.token_scope, self.user_first_name, self.user_last_name = grant_type, user_first_name, user_last_name
        return {
            "expires_in": self.token_expires_in,
            "access_token": self.access_token,
            "token_type": self.token_type,
            "scope": grant_type,
        }

    @tool
    def travel_get_login_status(self) -> dict[str, Any]:
        """Whether the traveller is logged in."""
        return {"status": self.token_expires_in not in (None, 0)}

    @tool
    def get_budget_fiscal_year(
        self, lastModifiedAfter: str | None = None, includeRemoved: str | None = None
    ) -> dict[str, Any]:
        """The fiscal year of the budget."""
        return {"budget_fiscal_year": "2018"}

    @tool
    def register_credit_card(
        self,
        access_token: str,
        card_number: str,
        expiration_date: str,
        cardholder_name: str,
        card_verification_number: int,
    ) -> dict[str, Any]:
        """Register a credit card, with its expiration date as MM/YYYY; the answer holds the card's ID."""
        need(self.token_expires_in is not None, "Token not initialized")
        self._check(access_token)
        need(card_number not in self.credit_card_list, "Card already registered")
        card_id = self._number(12)
        self.credit_card_list[card_id] = {
            "card_number": card_number,
            "expiration_date": expiration_date,
            "cardholder_name": cardholder_name,
            "card_verification_number": card_verification_number,
            "balance": self._random.randint(10000, 99999),
        }
        return {"card_id": card_id}

    @tool
    def get_flight_cost(self, travel_from: str, travel_to: str, travel_date: str, travel_class: str) -> dict[str, Any]:
        """Cost of a flight between airports (three letters) on a day (YYYY-MM-DD) in economy, business or first."""
        need((travel_from, travel_to) in _FARES, "No available route for the given airports.")
        need(travel_class in _CLASSES, f"Invalid travel class. Options are: {', '.join(_CLASSES)}.")
        digits = sum(int(char) for char in travel_date if char.isdecimal())
        fare = _FARES[travel_from, travel_to] * _CLASSES[travel_class]
        return {"travel_cost_list": [float(fare * (1 if digits % 2 else 2))]}

    @tool
    def get_credit_card_balance(self, access_token: str, card_id: str) -> dict[str, Any]:
        """Balance of a registered credit card."""
        self._check(access_token)
        known = list(self.credit_card_list)
        need(card_id in self.credit_card_list, f"Card not registered. Here are a list of card_id's: {known}")
        return {"card_balance": self.credit_card_list[card_id]["balance"]}

    @tool
    def book_flight(
        self, access_token: str, card_id: str, travel_date: str, travel_from: str, travel_to: str, travel_class: str
    ) -> dict[str, Any]:
        """Book a flight between airports (three letters) on a day (YYYY-MM-DD), paid with a registered card."""
        failed = {"booking_status": False}
        self._check(access_token, **failed)
        card = self.credit_card_list.get(card_id)
        if card is None:
            raise ToolError("Card not registered", **failed)
        need("balance" in card, "Balance not found", **failed)
        airports = _AIRPORTS.values()
        need(travel_from in airports, f"Invalid departure airport code: {travel_from}", **failed)
        need(travel_to in airports, f"Invalid destination airport code: {travel_to}", **failed)
        need(_is_date(travel_date), "Invalid date format. Use YYYY-MM-DD.", **failed)
        need(travel_class in _CLASSES, f"Invalid travel class. Must be one of {', '.join(_CLASSES)}", **failed)
        try:
            cost = self.get_flight_cost(travel_from, travel_to, travel_date, travel_class)["travel_cost_list"][0]
        except ToolError as error:
            raise ToolError(str(error), **failed) from None
        need(card["balance"] >= cost, "Insufficient funds", **failed)
        limit = self.budget_limit
        need(limit is None or card["balance"] >= limit, "Balance is less than budget limit", **failed)
        card["balance"] -= cost
        booking_id, transaction_id = self._number(7), self._number(8)
        self.booking_record[booking_id] = {
            "card_id": card_id,
            "travel_date": travel_date,
            "travel_from": travel_from,
            "travel_to": travel_to,
            "travel_class": travel_class,
            "travel_cost": cost,
            "transaction_id": transaction_id,
        }
        return {
            "booking_id": booking_id,
            "transaction_id": transaction_id,
            "booking_status": True,
            "booking_history": {},
        }

    @tool
    def retrieve_invoice(
        self, access_token: str, booking_id: str | None = None, insurance_id: str | None = None
    ) -> dict[str, Any]:
        """The invoice of a booking."""
        self._check(access_token)
        need(booking_id in self.booking_record, "Booking not found")
        booking = self.booking_record[str(booking_id)]
        keys = ("travel_date", "travel_from", "travel_to", "travel_class", "travel_cost", "transaction_id")
        return {"invoice": {"booking_id": booking_id, **{key: booking[key] for key in keys}}}

    @tool
    def get_booking_history(self, access_token: str) -> dict[str, Any]:
        """All bookings, by ID."""
        self._check(access_token)
        return {"booking_history": copy_json(self.booking_record)}

    @tool
    def list_all_airports(self) -> list[str]:
        """The codes of all airports."""
        return list(_AIRPORTS.values())

    @tool
    def cancel_booking(self, access_token: str, booking_id: str) -> dict[str, Any]:
        """Cancel a booking; its card gets the money back."""
        failed = {"cancel_status": False}
        self._check(access_token, **failed)
        need(booking_id in self.booking_record, "Booking not found", **failed)
        booking = self.booking_record[booking_id]
        self.credit_card_list[booking["card_id"]]["balance"] += booking["travel_cost"]
        del self.booking_record[booking_id]
        return {"cancel_status": True}

    @tool
    def compute_exchange_rate(self, base_currency: str, target_currency: str, value: float) -> dict[str, Any]:
        """Exchange an amount between USD and RMB, EUR, JPY, GBP, CAD, AUD, INR, RUB, BRL or MXN."""
        if base_currency == "USD" and target_currency in _PER_DOLLAR:
            return {"exchanged_value": float(value * _PER_DOLLAR[target_currency])}
        need(
            target_currency == "USD" and base_currency in _PER_DOLLAR,
            "No available exchange rate for the given currencies.",
        )
        return {"exchanged_value": round(value / _PER_DOLLAR[base_currency], 2)}

    @tool
    def verify_traveler_information(
        self, first_name: str, last_name: str, date_of_birth: str, passport_number: str
    ) -> dict[str, Any]:
        """Check that the traveller is the user, of age on 1 September 2024, and has a passport of the US."""

        def refused(reason: str) -> dict[str, Any]:
            return {"verification_status": False, "verification_failure": reason}

        if (first_name, last_name) != (self.user_first_name, self.user_last_name):
            return refused(
                "Cannot book flight information for another user."
                f"Expected {self.user_first_name} {self.user_last_name}, got {first_name} {last_name}"
            )
        if not _is_date(date_of_birth):
            return refused("Invalid date of birth format. Please use YYYY-MM-DD.")
        birth = datetime.strptime(date_of_birth, "%Y-%m-%d")
        if _TODAY.year - birth.year - ((_TODAY.month, _TODAY.day) < (birth.month, birth.day)) < 18:
            return refused("Traveler must be at least 18 years old.")
        if not passport_number.startswith("US"):
            return refused("Passport must be issued by the United States.")
        return {"verification_status": True}

    @tool
    def set_budget_limit(self, access_token: str, budget_limit: float) -> dict[str, Any]:
        """Limit the budget, in USD."""
        self._check(access_token)
        self.budget_limit = float(budget_limit)
        return {"budget_limit": self.budget_limit}

    @tool
    def get_nearest_airport_by_city(self, location: str) -> dict[str, Any]:
        """The code of the airport nearest to a city."""
        return {"nearest_airport": _AIRPORTS.get(location, "Unknown")}

    @tool
    def purchase_insurance(
        self, access_token: str, insurance_type: str, booking_id: str, insurance_cost: float, card_id: str
    ) -> dict[str, Any]:
        """Insure a booking, paid with a registered card."""
        failed = {"insurance_status": False}
        self._check(access_token, **failed)
        limit = self.budget_limit
        need(limit is None or limit >= insurance_cost, "Exceeded budget limit", **failed)
        need(booking_id in self.booking_record, "Booking not found", **failed)
        need(card_id in self.credit_card_list, "Credit card not registered", **failed)
        self.credit_card_list[card_id]["balance"] -= insurance_cost
        return {"insurance_id": self._number(9), "insurance_status": True}

    @tool
    def contact_customer_support(self, booking_id: str, message: str) -> dict[str, Any]:
        """Send a message about a booking to customer support."""
        need(booking_id in self.booking_record, "Booking not found")
        return {
            "customer_support_message": "Thank you for contacting customer support. Your message has been received "
            "and we will get back to you shortly."
        }

    @tool
    def get_all_credit_cards(self) -> dict[str, Any]:
        """All registered credit cards, by ID."""
        return {"credit_card_list": self.credit_card_list}


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        return False
    return True
