"""How the customer's phone is broken when a ticket begins, and what is checked on it when the ticket is closed."""

from __future__ import annotations

from rfenvs.envs.tau2.phone_tools import PhoneTools
from rfenvs.envs.tau2.toolkit import assertion, setup


class Phone(PhoneTools):
    """The phone with its tools, the steps of initial states, and the assertions."""

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
