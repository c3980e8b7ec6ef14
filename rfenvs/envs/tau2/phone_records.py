"""The customer's side of telecom: the phone's settings, and what surrounds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rfenvs.envs.tau2.toolkit import Record

Signal = Literal["none", "poor", "fair", "good", "excellent"]
Technology = Literal["none", "2G", "3G", "4G", "5G"]
NetworkMode = Literal["4g_5g_preferred", "4g_only", "3g_only", "2g_only"]
SimStatus = Literal["active", "missing", "locked_pin", "locked_puk"]
Connection = Literal["connected", "searching", "no_service", "emergency_only"]
Performance = Literal["unknown", "poor", "fair", "good", "excellent"]


class Apn(Record):
    """Access point settings; `reset_at_reboot` is a reset that waits for the next reboot."""

    apn_name: Literal["internet", "broken"] = "internet"
    reset_at_reboot: bool = False
    mms_apn: str | None = "mms"
    mmsc_url: str | None = "http://mms.carrier.com/mms/wapenc"
    mms_proxy: str | None = None
    mms_port: int | None = None


class Vpn(Record):
    """The VPN server that the phone is connected to."""

    server_address: str | None = None
    protocol: str | None = None
    server_performance: Performance = "unknown"


class Permissions(Record):
    """What an app may do."""

    sms: bool = False
    storage: bool = False
    phone: bool = False
    network: bool = False


class App(Record):
    """An installed app."""

    app_name: str
    permissions: Permissions = Field(default_factory=Permissions)


def _apps() -> dict[str, App]:
    return {
        "messaging": App(app_name="messaging", permissions=Permissions(sms=True, storage=True, phone=True)),
        "browser": App(app_name="browser", permissions=Permissions(network=True, storage=True)),
    }


class Device(Record):
    """The phone. Signal, technology and connection follow from the rest: `Phone.search` sets them."""

    sim_card_status: SimStatus = "active"
    sim_card_missing: bool = False
    airplane_mode: bool = False
    network_signal_strength: Signal = "good"
    network_technology_connected: Technology = "5G"
    network_connection_status: Connection = "connected"
    battery_level: int = 80
    data_enabled: bool = True
    roaming_enabled: bool = False
    network_mode_preference: NetworkMode = "4g_5g_preferred"
    active_apn_settings: Apn = Field(default_factory=Apn)
    wifi_enabled: bool = False
    wifi_connected: bool = False
    wifi_ssid: str | None = None
    wifi_signal_strength: Signal = "none"
    wifi_calling_enabled: bool = False
    wifi_calling_mms_over_wifi: bool = False
    data_saver_mode: bool = False
    vpn_enabled_setting: bool = False
    vpn_connected: bool = False
    vpn_details: Vpn | None = None
    app_statuses: dict[str, App] = Field(default_factory=_apps)


class PaymentRequest(Record):
    """A bill that the company asks the customer to pay, in USD."""

    bill_id: str
    amount_due: float
    paid: bool = False


def _coverage() -> dict[Technology, Signal]:
    return {"2G": "poor", "3G": "fair", "4G": "good", "5G": "excellent"}


class Surroundings(Record):
    """Who and where the customer is, and what the company allows the line."""

    name: str | None = None
    phone_number: str | None = None
    is_abroad: bool = False
    roaming_allowed: bool = False
    signal_strength: dict[Technology, Signal] = Field(default_factory=_coverage)
    mobile_data_usage_exceeded: bool = False
    line_active: bool = True
    payment_request: PaymentRequest | None = None


class PhoneDb(Record):
    """The whole state of the customer's side."""

    device: Device = Field(default_factory=Device)
    surroundings: Surroundings = Field(default_factory=Surroundings)
