"""The services that multi-turn episodes of BFCL play on, written anew: eight classes, one a file.

They behave like the public simulators, result for result, wherever those are well defined; a test compares the
two. `docs/environments/bfcl-multi-turn.md` lists where they differ on purpose.
"""

from __future__ import annotations

from rfenvs.envs.bfcl_apis.base import Outcome, SimulatedApi, Toolbox
from rfenvs.envs.bfcl_apis.gorilla_file_system import GorillaFileSystem
from rfenvs.envs.bfcl_apis.math_api import MathAPI
from rfenvs.envs.bfcl_apis.message_api import MessageAPI
from rfenvs.envs.bfcl_apis.posting_api import TwitterAPI
from rfenvs.envs.bfcl_apis.ticket_api import TicketAPI
from rfenvs.envs.bfcl_apis.trading_bot import TradingBot
from rfenvs.envs.bfcl_apis.travel_booking import TravelAPI
from rfenvs.envs.bfcl_apis.vehicle_control import VehicleControlAPI

__all__ = ["APIS", "Outcome", "SimulatedApi", "Toolbox"]

APIS: dict[str, type[SimulatedApi]] = {
    api.__name__: api
    for api in (
        GorillaFileSystem, MathAPI, MessageAPI, TicketAPI, TradingBot, TravelAPI, TwitterAPI, VehicleControlAPI,
    )
}  # fmt: skip
"""The services by the names that episodes give them."""
