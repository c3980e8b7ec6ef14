"""The customer's phone: what can be read, switched and broken, and how its service follows from its settings."""

from __future__ import annotations

from collections.abc import Mapping

from rfenvs.envs.tau2.phone_records import Apn, App, Device, PhoneDb, Signal, SimStatus, Surroundings, Technology, Vpn
from rfenvs.envs.tau2.toolkit import Schema, ToolError, Toolkit, assertion, setup, tool

_BARS: Mapping[Signal, str] = {
    "none": "📵 No Signal",
    "poor": "📶¹ Poor",
    "fair": "📶² Fair",
    "good": "📶³ Good",
    "excellent": "📶⁴ Excellent",
}
_SIM: Mapping[SimStatus, str] = {
    "active": "Your SIM card is active and working.",
    "missing": "No SIM card detected in the phone.",
    "locked_pin": "The SIM card is locked with a PIN code.",
    "locked_puk": "The SIM card is locked with a PUK code.",
}
_MODES: Mapping[str, tuple[Technology, ...]] = {
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
_SPEEDS = (
    (1, "Very Poor", "Connection is very slow. Basic web browsing might be difficult."),
    (5, "Poor", "Connection is slow. Web browsing may be sluggish, streaming difficult."),
    (25, "Fair", "Connection is okay for web browsing and some standard definition streaming."),
    (100, "Good", "Connection is good for most activities, including HD streaming."),
    (float("inf"), "Excellent", "Connection is very fast."),
)
"""Speed below which a word applies, in Mbit/s, the word, and what the test says."""
_NO_CONNECTION = "No Connection"

_APP: Schema = {"type": "string", "description": "Name of an installed app."}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_APN: Schema = {
    "type": "object",
    "properties": {
        "apn_name": {"type": "string", "enum": ["internet", "broken"]},
        "reset_at_reboot": {"type": "boolean"},
        "mms_apn": _TEXT_OR_NULL,
        "mmsc_url": _TEXT_OR_NULL,
        "mms_proxy": _TEXT_OR_NULL,
        "mms_port": {"type": ["integer", "null"]},
    },
    "additionalProperties": False,
    "description": "Settings left out take their defaults.",
}


def _on(value: bool) -> str:
    return "ON" if value else "OFF"


def _yes(value: bool) -> str:
    return "Yes" if value else "No"


class Phone(Toolkit[PhoneDb]):
    """The phone and its surroundings."""

    def __init__(self, db: PhoneDb) -> None:
        super().__init__(db)
        self._vpn = Vpn(server_address="192.168.1.1", protocol="OpenVPN", server_performance="excellent")

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
        tried = _MODES[device.network_mode_preference]
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
        return speed, next(word for bound, word, _ in _SPEEDS if speed < bound)

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

    def _said(self, text: str) -> str:
        return f"{text}\nStatus Bar: {self.status_bar()}"

    # Tools that look.

    @tool("read", "Show the status bar: signal, mobile data, Wi-Fi, VPN, battery.")
    def check_status_bar(self) -> str:
        """The status bar."""
        return f"Status Bar: {self.status_bar()}"

    @tool("read", "Show the state of SIM card, cellular network, mobile data, roaming and Wi-Fi.")
    def check_network_status(self) -> str:
        """The network settings and what comes of them, one a line."""
        device = self.device
        lines = [
            f"Airplane Mode: {_on(device.airplane_mode)}",
            f"SIM Card Status: {self.sim}",
            f"Cellular Connection: {device.network_connection_status}",
            f"Cellular Signal: {device.network_signal_strength}",
            f"Cellular Network Type: {device.network_technology_connected}",
            f"Mobile Data Enabled: {_yes(device.data_enabled)}",
            f"Data Roaming Enabled: {_yes(device.roaming_enabled)}",
            f"Wi-Fi Radio: {_on(device.wifi_enabled)}",
            f"Wi-Fi Connected: {_yes(device.wifi_connected)}",
        ]
        if device.wifi_connected:
            lines.append(f"Connected Wi-Fi Network: {device.wifi_ssid}")
        return "\n".join(lines)

    @tool("read", "Show which kinds of network the phone prefers.")
    def check_network_mode_preference(self) -> str:
        """The network mode."""
        return f"Network Mode Preference: {self.device.network_mode_preference}"

    @tool("read", "Measure the speed of mobile data.")
    def run_speed_test(self) -> str:
        """The speed in Mbit/s, with a word for it."""
        speed, word = self.speed()
        if speed is None:
            return f"Speed test failed: {word}."
        advice = next(advice for _, name, advice in _SPEEDS if name == word)
        return f"Speed Test Result: {speed:.2f} Mbps ({word}). {advice}"

    @tool("read", "Show whether the SIM card works, is missing, or is locked.")
    def check_sim_status(self) -> str:
        """The state of the SIM card."""
        return _SIM[self.sim]

    @tool("read", "Show whether Data Saver is on.")
    def check_data_restriction_status(self) -> str:
        """The state of Data Saver."""
        limits = " (limits data usage)" if self.device.data_saver_mode else ""
        return f"Data Saver mode is {_on(self.device.data_saver_mode)}{limits}."

    @tool("read", "Show the access point (APN) and the address for picture messages (MMSC).")
    def check_apn_settings(self) -> str:
        """The access point settings."""
        apn = self.device.active_apn_settings
        return (
            f"Current APN Name: {apn.apn_name}\nMMSC URL (for picture messages): {apn.mmsc_url or 'Not Set'}\n"
            "(These are technical settings, usually best left unchanged.)"
        )

    @tool("read", "Show whether Wi-Fi is on and connected.")
    def check_wifi_status(self) -> str:
        """The state of Wi-Fi."""
        device = self.device
        if not device.wifi_enabled:
            return "Wi-Fi is turned OFF."
        if not device.wifi_connected:
            return "Wi-Fi is ON but not connected to any network."
        return f"Wi-Fi is ON and connected to '{device.wifi_ssid}'. Signal strength: {device.wifi_signal_strength}."

    @tool("read", "Show whether calls go over Wi-Fi.")
    def check_wifi_calling_status(self) -> str:
        """The state of Wi-Fi calling."""
        return f"Wi-Fi Calling is currently turned {_on(self.device.wifi_calling_enabled)}."

    @tool("read", "Show whether a VPN is connected, and to which server.")
    def check_vpn_status(self) -> str:
        """The state of the VPN."""
        device = self.device
        if not device.vpn_connected:
            return (
                "VPN is turned ON in settings, but currently not connected."
                if device.vpn_enabled_setting
                else "VPN is turned OFF."
            )
        if device.vpn_details is None:
            return "VPN is ON and connected (no specific details available)."
        level = device.vpn_details.server_performance
        details = (
            f"{{'server_address': {device.vpn_details.server_address!r}, 'protocol': {device.vpn_details.protocol!r}, "
            f"'server_performance': <PerformanceLevel.{level.upper()}: '{level}'>}}"
        )  # as tau2-bench prints it, class name included
        return f"VPN is ON and connected. Details: {details}"

    @tool("read", "List the installed apps.")
    def check_installed_apps(self) -> str:
        """The names of the apps."""
        return f"The following apps are installed on the phone: {', '.join(self.device.app_statuses)}"

    @tool("read", "Show what is known of an app.", app_name=_APP)
    def check_app_status(self, app_name: str) -> str:
        """The app's permissions, one a line."""
        app = self.device.app_statuses.get(app_name)
        if app is None:
            return f"App '{app_name}' not found on this phone."
        granted = _granted(app)
        if not granted:
            return f"Status for App: {app_name}\n - Permissions: None granted."
        return "\n   - ".join([f"Status for App: {app_name}\n - Permissions Granted:", *granted])

    @tool("read", "Show the permissions of an app.", app_name=_APP)
    def check_app_permissions(self, app_name: str) -> str:
        """The app's permissions on one line."""
        app = self.device.app_statuses.get(app_name)
        if app is None:
            return f"App '{app_name}' not found on this phone."
        granted = _granted(app)
        if not granted:
            return f"App '{app_name}' currently has no permissions granted."
        return f"App '{app_name}' has permission for: {', '.join(granted)}."

    @tool("read", "Check whether the messaging app can send pictures (MMS).")
    def can_send_mms(self) -> str:
        """Whether MMS works."""
        return f"Your messaging app {'can' if self.mms_works() else 'cannot'} send MMS messages."

    @tool("read", "Show the payment request from the company, if there is one.")
    def check_payment_request(self) -> str:
        """The bill to pay, and how much."""
        request = self.around.payment_request
        if request is None:
            return "No payment request has been made."
        return f"You have a payment request for bill {request.bill_id} of {request.amount_due} USD."

    # Tools that change something.

    @tool(
        "write",
        "Choose which kinds of network the phone prefers.",
        mode={"type": "string", "description": f"One of {', '.join(_MODES)}."},
    )
    def set_network_mode_preference(self, mode: str) -> str:
        """Set the network mode, and search."""
        if mode not in _MODES:
            options = ", ".join(_MODES)
            return self._said(
                f"Failed to set network mode: '{mode}' is not a valid option. Please use one of: {options}"
            )
        self.device.network_mode_preference = mode  # type: ignore[assignment]
        self.search()
        return self._said(f"Preferred Network Mode set to: {mode}")

    @tool("write", "Switch airplane mode on or off.")
    def toggle_airplane_mode(self) -> str:
        """Either way Wi-Fi loses its network; switching on also ends the VPN."""
        device = self.device
        device.airplane_mode = not device.airplane_mode
        if device.airplane_mode or device.wifi_enabled:
            self._drop_wifi()
        if device.airplane_mode:
            self._drop_vpn()
        self.search()
        return self._said(f"Airplane Mode is now {_on(device.airplane_mode)}.")

    @tool("write", "Take the SIM card out and put it back.")
    def reseat_sim_card(self) -> str:
        """Put the SIM card in its tray."""
        self.device.sim_card_missing = False
        self.search()
        return self._said("SIM card re-seated successfully.")

    @tool("write", "Switch mobile data on or off.")
    def toggle_data(self) -> str:
        """Toggle mobile data."""
        self.device.data_enabled = not self.device.data_enabled
        self.search()
        return self._said(f"Mobile Data is now {_on(self.device.data_enabled)}.")

    @tool("write", "Switch data roaming on or off.")
    def toggle_roaming(self) -> str:
        """Toggle data roaming."""
        self.device.roaming_enabled = not self.device.roaming_enabled
        self.search()
        return self._said(f"Data Roaming is now {_on(self.device.roaming_enabled)}.")

    @tool("write", "Switch Data Saver on or off.")
    def toggle_data_saver_mode(self) -> str:
        """Toggle Data Saver."""
        self.device.data_saver_mode = not self.device.data_saver_mode
        return self._said(f"Data Saver Mode is now {_on(self.device.data_saver_mode)}.")

    @tool("write", "Set the access point (APN).", apn_settings=_APN)
    def set_apn_settings(self, apn_settings: Mapping[str, object]) -> str:
        """Replace the access point settings, and search."""
        self.device.active_apn_settings = Apn.model_validate(dict(apn_settings))
        self.search()
        return self._said(f"APN settings set to: {self.device.active_apn_settings.apn_name}")

    @tool("write", "Reset the access point (APN) at the next reboot.")
    def reset_apn_settings(self) -> str:
        """Mark the access point settings for a reset."""
        self.device.active_apn_settings.reset_at_reboot = True
        self.search()
        return self._said("APN settings will reset at reboot.")

    @tool("write", "Switch Wi-Fi on or off; not in airplane mode.")
    def toggle_wifi(self) -> str:
        """Toggle Wi-Fi; switching off loses its network."""
        device = self.device
        if device.airplane_mode:
            return self._said("Cannot change Wi-Fi settings while Airplane Mode is ON.")
        device.wifi_enabled = not device.wifi_enabled
        if not device.wifi_enabled:
            self._drop_wifi()
        return self._said(f"Wi-Fi is now {_on(device.wifi_enabled)}.")

    @tool("write", "Switch calls over Wi-Fi on or off.")
    def toggle_wifi_calling(self) -> str:
        """Toggle Wi-Fi calling."""
        self.device.wifi_calling_enabled = not self.device.wifi_calling_enabled
        return self._said(f"Wi-Fi Calling is now {_on(self.device.wifi_calling_enabled)}.")

    @tool("write", "Connect to the VPN.")
    def connect_vpn(self) -> str:
        """Connect to the phone's one VPN server."""
        if self.device.vpn_connected:
            return "VPN already connected."
        self.device.vpn_connected, self.device.vpn_details = True, self._vpn
        return self._said("VPN connected successfully.")

    @tool("write", "Disconnect from the VPN.")
    def disconnect_vpn(self) -> str:
        """End the VPN."""
        done = self._drop_vpn()
        return self._said("VPN disconnected successfully." if done else "No active VPN connection to disconnect.")

    @tool(
        "write",
        "Give an app a permission.",
        app_name=_APP,
        permission={"type": "string", "description": "Its name, in lower case."},
    )
    def grant_app_permission(self, app_name: str, permission: str) -> str:
        """Grant a permission that the phone keeps track of."""
        app = self.device.app_statuses.get(app_name)
        name = permission.lower()
        if app is None:
            return self._said(f"Error. App '{app_name}' not found. Cannot grant permission.")
        known = list(app.permissions.model_dump())
        if name not in known:
            return self._said(
                f"Error. Permission '{name}' not tracked for app '{app_name}', available permissions: {known}"
            )
        setattr(app.permissions, name, True)
        return self._said(f"Success. Permission '{name}' granted to app '{app_name}'.")

    @tool("write", "Restart the phone.")
    def reboot_device(self) -> str:
        """Apply a reset of the access point that waits, and search."""
        lines = ["Restarting network services..."]
        if self.device.active_apn_settings.reset_at_reboot:
            lines.insert(0, "Resetting APN settings...")
            self.device.active_apn_settings = Apn()
        self.search()
        return self._said("\n".join(lines))

    @tool("write", "Pay the bill that the company asks to be paid.")
    def make_payment(self) -> str:
        """Pay; the company books it at the next sync."""
        request = self.around.payment_request
        if request is None:
            return "You do not have a payment request."
        request.paid = True
        return f"Payment of {request.amount_due} USD has been made for bill {request.bill_id}."

    def _drop_wifi(self) -> None:
        self.device.wifi_connected, self.device.wifi_ssid = False, None
        self.device.wifi_signal_strength = "none"

    def _drop_vpn(self) -> bool:
        was = self.device.vpn_connected
        if was:
            self.device.vpn_connected, self.device.vpn_details = False, None
        return was

    # Steps of initial states.

    @setup
    def set_user_info(self, name: str, phone_number: str) -> None:
        """Say whose phone it is."""
        self.around.name, self.around.phone_number = name, phone_number

    @setup
    def set_user_location(self, abroad: bool) -> None:
        """Say whether the customer is abroad."""
        self.around.is_abroad = abroad

    @setup
    def simulate_network_search(self) -> None:
        """Look for a network."""
        self.search()

    @setup
    def turn_airplane_mode_on(self) -> None:
        """Switch airplane mode on."""
        self._airplane(True)

    @setup
    def turn_airplane_mode_off(self) -> None:
        """Switch airplane mode off."""
        self._airplane(False)

    def _airplane(self, wanted: bool) -> None:
        """Toggle at least once, as tau2-bench does: Wi-Fi and VPN are lost even where nothing was to be changed."""
        self.toggle_airplane_mode()
        if self.device.airplane_mode is not wanted:
            self.toggle_airplane_mode()

    @setup
    def turn_data_on(self) -> None:
        """Switch mobile data on, without a search."""
        self.device.data_enabled = True

    @setup
    def turn_data_off(self) -> None:
        """Switch mobile data off."""
        self.device.data_enabled = False
        self.search()

    @setup
    def turn_roaming_on(self) -> None:
        """Switch data roaming on."""
        self.device.roaming_enabled = True
        self.search()

    @setup
    def turn_roaming_off(self) -> None:
        """Switch data roaming off."""
        self.device.roaming_enabled = False
        self.search()

    @setup
    def turn_data_saver_mode_on(self) -> None:
        """Switch Data Saver on."""
        self.device.data_saver_mode = True

    @setup
    def turn_data_saver_mode_off(self) -> None:
        """Switch Data Saver off."""
        self.device.data_saver_mode = False

    @setup
    def set_wifi_calling(self, enabled: bool, mms_over_wifi: bool | None = None) -> None:
        """Set Wi-Fi calling, and whether pictures go that way too."""
        self.device.wifi_calling_enabled = enabled
        if mms_over_wifi is not None:
            self.device.wifi_calling_mms_over_wifi = mms_over_wifi

    @setup
    def unseat_sim_card(self) -> None:
        """Take the SIM card out; `reseat_sim_card` mends it."""
        self.device.sim_card_missing = True
        self.search()

    @setup
    def lock_sim_card(self, mode: str) -> None:
        """Lock the SIM card with a `pin` or `puk`; no tool mends it."""
        if mode in ("pin", "puk"):
            self.device.sim_card_status = "locked_pin" if mode == "pin" else "locked_puk"
        self.search()

    @setup
    def break_apn_settings(self) -> None:
        """Break the access point; a reset and a reboot mend it."""
        self.device.active_apn_settings.apn_name = "broken"
        self.search()

    @setup
    def break_apn_mms_setting(self) -> None:
        """Take away the address for pictures; a reset and a reboot mend it."""
        self.device.active_apn_settings.mmsc_url = None

    @setup
    def break_vpn(self) -> None:
        """Connect to the VPN and slow its server down, for later connections too."""
        self.connect_vpn()
        if self.device.vpn_details is not None:
            self.device.vpn_details.server_performance = "poor"

    @setup
    def remove_app_permission(self, app_name: str, permission: str) -> None:
        """Take a permission from an app, where there is such an app and permission."""
        app = self.device.app_statuses.get(app_name)
        if app is not None and permission.lower() in type(app.permissions).model_fields:
            setattr(app.permissions, permission.lower(), False)

    # Assertions.

    @assertion("airplane mode")
    def assert_airplane_mode_status(self, expected_status: bool) -> bool:
        """Whether airplane mode is as given."""
        return self.device.airplane_mode == expected_status

    @assertion("the phone's cellular service")
    def assert_service_status(self, expected_status: str) -> bool:
        """Whether the connection is as given."""
        return self.device.network_connection_status == expected_status

    @assertion("whether mobile data works")
    def assert_mobile_data_status(self, expected_status: bool) -> bool:
        """Whether mobile data works, or does not, as given."""
        return self.data_works() == expected_status

    @assertion("data roaming on the phone")
    def assert_mobile_roaming_status(self, expected_status: bool) -> bool:
        """Whether data roaming is as given."""
        return self.device.roaming_enabled == expected_status

    @assertion("Data Saver")
    def assert_mobile_data_saver_mode_status(self, expected_status: bool) -> bool:
        """Whether Data Saver is as given."""
        return self.device.data_saver_mode == expected_status

    @assertion("the speed of mobile data")
    def assert_internet_speed(self, expected_speed: float, expected_desc: str | None = None) -> bool:
        """Whether the speed is at least as given, in Mbit/s, and the word for it the given one."""
        speed, word = self.speed()
        return (speed or 0.0) >= expected_speed and (expected_desc is None or word.lower() == expected_desc.lower())

    @assertion("the speed of mobile data")
    def assert_internet_not_excellent(self) -> bool:
        """Whether there is something to mend."""
        return self.speed()[1] != "Excellent"

    @assertion("whether picture messages (MMS) can be sent")
    def assert_can_send_mms(self, expected_status: bool) -> bool:
        """Whether MMS works, or does not, as given."""
        return self.mms_works() == expected_status

    @assertion("the line's data allowance")
    def assert_mobile_data_usage_exceeded(self, expected_status: bool) -> bool:
        """Whether the allowance is used up, or not, as given."""
        return self.around.mobile_data_usage_exceeded == expected_status


def _granted(app: App) -> list[str]:
    return [name for name, allowed in app.permissions.model_dump().items() if allowed]
