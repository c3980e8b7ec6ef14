"""What can be read and switched on the customer's phone."""

from __future__ import annotations

from collections.abc import Mapping

from rfenvs.envs.tau2.handset import MODES, SPEEDS, Handset
from rfenvs.envs.tau2.phone_records import Apn, App, SimStatus
from rfenvs.envs.tau2.toolkit import Schema, tool

_SIM: Mapping[SimStatus, str] = {
    "active": "Your SIM card is active and working.",
    "missing": "No SIM card detected in the phone.",
    "locked_pin": "The SIM card is locked with a PIN code.",
    "locked_puk": "The SIM card is locked with a PUK code.",
}
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


class PhoneTools(Handset):
    """The phone with its tools."""

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
        advice = next(advice for _, name, advice in SPEEDS if name == word)
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
        mode={"type": "string", "description": f"One of {', '.join(MODES)}."},
    )
    def set_network_mode_preference(self, mode: str) -> str:
        """Set the network mode, and search."""
        if mode not in MODES:
            options = ", ".join(MODES)
            return self.said(
                f"Failed to set network mode: '{mode}' is not a valid option. Please use one of: {options}"
            )
        self.device.network_mode_preference = mode  # type: ignore[assignment]
        self.search()
        return self.said(f"Preferred Network Mode set to: {mode}")

    @tool("write", "Switch airplane mode on or off.")
    def toggle_airplane_mode(self) -> str:
        """Either way Wi-Fi loses its network; switching on also ends the VPN."""
        device = self.device
        device.airplane_mode = not device.airplane_mode
        if device.airplane_mode or device.wifi_enabled:
            self.drop_wifi()
        if device.airplane_mode:
            self.drop_vpn()
        self.search()
        return self.said(f"Airplane Mode is now {_on(device.airplane_mode)}.")

    @tool("write", "Take the SIM card out and put it back.")
    def reseat_sim_card(self) -> str:
        """Put the SIM card in its tray."""
        self.device.sim_card_missing = False
        self.search()
        return self.said("SIM card re-seated successfully.")

    @tool("write", "Switch mobile data on or off.")
    def toggle_data(self) -> str:
        """Toggle mobile data."""
        self.device.data_enabled = not self.device.data_enabled
        self.search()
        return self.said(f"Mobile Data is now {_on(self.device.data_enabled)}.")

    @tool("write", "Switch data roaming on or off.")
    def toggle_roaming(self) -> str:
        """Toggle data roaming."""
        self.device.roaming_enabled = not self.device.roaming_enabled
        self.search()
        return self.said(f"Data Roaming is now {_on(self.device.roaming_enabled)}.")

    @tool("write", "Switch Data Saver on or off.")
    def toggle_data_saver_mode(self) -> str:
        """Toggle Data Saver."""
        self.device.data_saver_mode = not self.device.data_saver_mode
        return self.said(f"Data Saver Mode is now {_on(self.device.data_saver_mode)}.")

    @tool("write", "Set the access point (APN).", apn_settings=_APN)
    def set_apn_settings(self, apn_settings: Mapping[str, object]) -> str:
        """Replace the access point settings, and search."""
        self.device.active_apn_settings = Apn.model_validate(dict(apn_settings))
        self.search()
        return self.said(f"APN settings set to: {self.device.active_apn_settings.apn_name}")

    @tool("write", "Reset the access point (APN) at the next reboot.")
    def reset_apn_settings(self) -> str:
        """Mark the access point settings for a reset."""
        self.device.active_apn_settings.reset_at_reboot = True
        self.search()
        return self.said("APN settings will reset at reboot.")

    @tool("write", "Switch Wi-Fi on or off; not in airplane mode.")
    def toggle_wifi(self) -> str:
        """Toggle Wi-Fi; switching off loses its network."""
        device = self.device
        if device.airplane_mode:
            return self.said("Cannot change Wi-Fi settings while Airplane Mode is ON.")
        device.wifi_enabled = not device.wifi_enabled
        if not device.wifi_enabled:
            self.drop_wifi()
        return self.said(f"Wi-Fi is now {_on(device.wifi_enabled)}.")

    @tool("write", "Switch calls over Wi-Fi on or off.")
    def toggle_wifi_calling(self) -> str:
        """Toggle Wi-Fi calling."""
        self.device.wifi_calling_enabled = not self.device.wifi_calling_enabled
        return self.said(f"Wi-Fi Calling is now {_on(self.device.wifi_calling_enabled)}.")

    @tool("write", "Connect to the VPN.")
    def connect_vpn(self) -> str:
        """Connect to the phone's one VPN server."""
        if self.device.vpn_connected:
            return "VPN already connected."
        self.device.vpn_connected, self.device.vpn_details = True, self.vpn
        return self.said("VPN connected successfully.")

    @tool("write", "Disconnect from the VPN.")
    def disconnect_vpn(self) -> str:
        """End the VPN."""
        done = self.drop_vpn()
        return self.said("VPN disconnected successfully." if done else "No active VPN connection to disconnect.")

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
            return self.said(f"Error. App '{app_name}' not found. Cannot grant permission.")
        known = list(app.permissions.model_dump())
        if name not in known:
            return self.said(
                f"Error. Permission '{name}' not tracked for app '{app_name}', available permissions: {known}"
            )
        setattr(app.permissions, name, True)
        return self.said(f"Success. Permission '{name}' granted to app '{app_name}'.")

    @tool("write", "Restart the phone.")
    def reboot_device(self) -> str:
        """Apply a reset of the access point that waits, and search."""
        lines = ["Restarting network services..."]
        if self.device.active_apn_settings.reset_at_reboot:
            lines.insert(0, "Resetting APN settings...")
            self.device.active_apn_settings = Apn()
        self.search()
        return self.said("\n".join(lines))

    @tool("write", "Pay the bill that the company asks to be paid.")
    def make_payment(self) -> str:
        """Pay; the company books it at the next sync."""
        request = self.around.payment_request
        if request is None:
            return "You do not have a payment request."
        request.paid = True
        return f"Payment of {request.amount_due} USD has been made for bill {request.bill_id}."


def _granted(app: App) -> list[str]:
    return [name for name, allowed in app.permissions.model_dump().items() if allowed]
