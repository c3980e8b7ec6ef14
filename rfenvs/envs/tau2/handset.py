"""The customer's phone: how its service follows from its settings and from what surrounds it."""

from __future__ import annotations

from collections.abc import Mapping

from rfenvs.envs.tau2.phone_records import Device, PhoneDb, Signal, SimStatus, Surroundings, Technology, Vpn
from rfenvs.envs.tau2.toolkit import Toolkit

_BARS: Mapping[Signal, str] = {
    "none": "📵 No Signal",
    "poor": "📶¹ Poor",
    "fair": "📶² Fair",
    "good": "📶³ Good",
    "excellent": "📶⁴ Excellent",
}
MODES: Mapping[str, tuple[Technology, ...]] = {
    "4g_5g_preferred": ("5G", "4G"),
    "4g_only": ("4G",),
    "3g_only": ("3G",),
    "2g_only": ("2G",),
}
"""What a network mode tries, in order; the last is taken even without a signal."""
_MEAN_MBPS: Mapping[Technology, float] = {"none": 0.0, "2G": 0.5 / 2, "3G": 6.0 / 2, "4G": 110.0 / 2, "5G": 550.0 / 2}
_SIGNAL_SHARE: Mapping[Signal, float] = {"none": 0.0, "poor": 0.2, "fair": 0.5, "good": 0.8, "excellent": 1.0}
_POOR_VPN_SHARE = 0.1
_DATA_SAVER_SHARE = 0.2
SPEEDS = (
    (1, "Very Poor", "Connection is very slow. Basic web browsing might be difficult."),
    (5, "Poor", "Connection is slow. Web browsing may be sluggish, streaming difficult."),
    (25, "Fair", "Connection is okay for web browsing and some standard definition streaming."),
    (100, "Good", "Connection is good for most activities, including HD streaming."),
    (float("inf"), "Excellent", "Connection is very fast."),
)
"""Speed below which a word applies, in Mbit/s, the word, and what the test says."""
_NO_CONNECTION = "No Connection"


class Handset(Toolkit[PhoneDb]):
    """The phone and its surroundings, without tools."""

    def __init__(self, db: PhoneDb) -> None:
        super().__init__(db)
        self.vpn = Vpn(server_address="192.168.1.1", protocol="OpenVPN", server_performance="excellent")

    @property
    def device(self) -> Device:
        """The phone's settings."""
        return self.db.device

    @property
    def around(self) -> Surroundings:
        """The customer's surroundings."""
        return self.db.surroundings

    # How service follows from settings.

    @property
    def sim(self) -> SimStatus:
        """State of the SIM card; one that is out of its tray is missing, whatever else it is."""
        return "missing" if self.device.sim_card_missing else self.device.sim_card_status

    def search(self) -> None:
        """Look for a network: sets connection, technology and signal."""
        device = self.device
        if (
            self.sim != "active"
            or device.airplane_mode
            or device.active_apn_settings.apn_name == "broken"
            or not self.around.line_active
        ):
            device.network_connection_status = "no_service"
            device.network_technology_connected = device.network_signal_strength = "none"
            return
        signals = self.around.signal_strength
        tried = MODES[device.network_mode_preference]
        found = next((name for name in tried if signals.get(name, "none") != "none"), tried[-1])
        device.network_connection_status = "connected"
        device.network_technology_connected = found
        device.network_signal_strength = signals.get(found, "none")

    def data_works(self) -> bool:
        """Whether mobile data gets through."""
        device, around = self.device, self.around
        return (
            not device.airplane_mode
            and device.network_signal_strength != "none"
            and device.network_connection_status != "no_service"
            and (not around.is_abroad or (device.roaming_enabled and around.roaming_allowed))
            and device.data_enabled
            and not around.mobile_data_usage_exceeded
        )

    def mms_works(self) -> bool:
        """Whether the messaging app can send pictures: over 3G or better, and not over Wi-Fi."""
        device = self.device
        app = device.app_statuses.get("messaging")
        return (
            self.data_works()
            and device.network_technology_connected != "2G"
            and not (device.wifi_calling_enabled and device.wifi_calling_mms_over_wifi)
            and device.active_apn_settings.mmsc_url is not None
            and app is not None
            and app.permissions.storage
            and app.permissions.sms
        )

    def speed(self) -> tuple[float | None, str]:
        """Speed of mobile data in Mbit/s, None without any, and a word for it."""
        device = self.device
        if not self.data_works():
            return None, _NO_CONNECTION
        poor_vpn = device.vpn_connected and device.vpn_details and device.vpn_details.server_performance == "poor"
        share = _POOR_VPN_SHARE if poor_vpn else 1.0
        share *= _DATA_SAVER_SHARE if device.data_saver_mode else 1.0
        mean = _MEAN_MBPS[device.network_technology_connected]
        speed = round(mean * _SIGNAL_SHARE[device.network_signal_strength] * share, 2)
        return speed, next(word for bound, word, _ in SPEEDS if speed < bound)

    def status_bar(self) -> str:
        """The icons on top of the screen."""
        device = self.device
        technology = device.network_technology_connected
        icons = []
        if device.airplane_mode:
            icons.append("✈️ Airplane Mode")
        else:
            icons.append(_BARS[device.network_signal_strength])
            if technology != "none":
                icons.append(technology)
            if device.data_enabled and technology != "none":
                icons.append("📱 Data Enabled")
                if device.data_saver_mode:
                    icons.append("🔽 Data Saver")
            else:
                icons.append("📵 Data Disabled")
        if device.wifi_enabled and device.wifi_connected:
            icons.append(f"📡 Connected to {device.wifi_ssid}" if device.wifi_ssid else "📡 Enabled")
        if device.vpn_connected:
            icons.append("🔒 VPN Connected")
        icons.append(f"🔋 {device.battery_level}%")
        return " | ".join(icons)

    def said(self, text: str) -> str:
        """A result, followed by the status bar."""
        return f"{text}\nStatus Bar: {self.status_bar()}"

    def drop_wifi(self) -> None:
        """Lose the Wi-Fi network."""
        self.device.wifi_connected, self.device.wifi_ssid = False, None
        self.device.wifi_signal_strength = "none"

    def drop_vpn(self) -> bool:
        """End the VPN; returns whether there was one."""
        was = self.device.vpn_connected
        if was:
            self.device.vpn_connected, self.device.vpn_details = False, None
        return was
