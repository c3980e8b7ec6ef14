"""`VehicleControlAPI`: engine, doors, climate, lights, tyres and the road of one car."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, hidden, need, tool

_TANK_GALLONS = 50
_MILES_PER_GALLON = 20.0
_FULL_BRAKE_N = 1000.0
_UNKNOWN_ZIP = "00000"
_ZIP_CODES = {
    "Rivermist": "83214", "Stonebrook": "74532", "Maplecrest": "56108", "Silverpine": "62947", "Shadowridge": "71354",
    "Sunset Valley": "83462", "Oakendale": "47329", "Willowbend": "52013", "Crescent Hollow": "69238",
    "Autumnville": "51479", "San Francisco": "94016",
}  # fmt: skip
_DISTANCES = {
    frozenset(pair.split("-")): float(distance)
    for pair, distance in {
        "83214-74532": 750, "56108-62947": 320, "71354-83462": 450, "47329-52013": 290, "69238-51479": 630,
        "94016-83214": 980, "94016-94704": 600, "94704-08540": 2550, "94016-08540": 1950, "62947-47329": 1053,
        "94016-62947": 780, "74532-94016": 880,
    }.items()
}  # fmt: skip


def _doors() -> dict[str, str]:
    return dict.fromkeys(("driver", "passenger", "rear_left", "rear_right"), "unlocked")


@dataclass(kw_only=True)
class VehicleControlAPI(SimulatedApi):
    """One car. Brake forces and the slope are part of its state, but are not compared."""

    fuelLevel: float = 0.0
    batteryVoltage: float = 12.6
    engine_state: str = field(default="stopped", metadata={"key": "engineState"})
    remainingUnlockedDoors: int = 4
    doorStatus: dict[str, str] = field(default_factory=_doors)
    acTemperature: float = 25.0
    fanSpeed: int = 50
    acMode: str = "auto"
    humidityLevel: float = 50.0
    headLightStatus: str = "off"
    parkingBrakeStatus: str = "released"
    parking_brake_force: float = hidden(0.0, key="parkingBrakeForce")
    slope_angle: float = hidden(0.0, key="slopeAngle")
    brakePedalStatus: str = "released"
    brake_pedal_force: float = hidden(0.0, key="brakePedalForce")
    distanceToNextVehicle: float = 50.0
    cruiseStatus: str = "inactive"
    destination: str = "None"
    frontLeftTirePressure: float = 32.0
    frontRightTirePressure: float = 32.0
    rearLeftTirePressure: float = 30.0
    rearRightTirePressure: float = 30.0
    random_seed: int = hidden(141053)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.remainingUnlockedDoors = 4 - sum(status == "locked" for status in self.doorStatus.values())

    @tool
    def startEngine(self, ignitionMode: str) -> dict[str, Any]:
        """Start the engine with ignition mode START, doors locked and the brake fully pressed, or STOP it."""
        if ignitionMode == "STOP":
            self.engine_state = "stopped"
        unlocked = ", ".join(door for door, status in self.doorStatus.items() if status == "unlocked")
        need(
            self.remainingUnlockedDoors <= 0,
            f"All doors must be locked before starting the engine. Here are the unlocked doors: {unlocked}",
        )
        need(self.brakePedalStatus == "pressed", "Brake pedal needs to be pressed when starting the engine.")
        need(self.brake_pedal_force == _FULL_BRAKE_N, "Must press the brake fully before starting the engine.")
        need(self.fuelLevel >= 0, "Fuel tank is empty.")
        need(ignitionMode == "START", "Invalid ignition mode.")
        self.engine_state = "running"
        return {
            "engineState": self.engine_state,
            "fuelLevel": self.fuelLevel,
            "batteryVoltage": self.batteryVoltage,
        }

    @tool
    def fillFuelTank(self, fuelAmount: float) -> dict[str, Any]:
        """Add so many gallons to the tank, which holds 50."""
        need(fuelAmount >= 0, "Fuel amount cannot be negative.")
        level = self.fuelLevel + fuelAmount
        need(level <= _TANK_GALLONS, "Cannot fill gas above the tank capacity.")
        need(level >= 0, "Fuel tank is empty. Min fuel level is 0 gallons.")
        self.fuelLevel = level
        return {"fuelLevel": level}

    @tool
    def lockDoors(self, unlock: bool, door: list[str]) -> dict[str, Any]:
        """Lock or unlock some of the doors: driver, passenger, rear_left, rear_right."""
        unknown = [name for name in door if name not in self.doorStatus]
        need(not unknown, f"There is no door {', '.join(unknown)}: use {', '.join(self.doorStatus)}.")
        status = "unlocked" if unlock else "locked"
        for name in door:
            if self.doorStatus[name] != status:
                self.doorStatus[name] = status
                self.remainingUnlockedDoors += 1 if unlock else -1
        return {"lockStatus": status, "remainingUnlockedDoors": self.remainingUnlockedDoors}

    @tool
    def adjustClimateControl(
        self, temperature: float, unit: str = "celsius", fanSpeed: int = 50, mode: str = "auto"
    ) -> dict[str, Any]:
        """Set the temperature (celsius or fahrenheit), the fan from 0 to 100, and auto, cool, heat or defrost."""
        need(0 <= fanSpeed <= 100, "Fan speed must be between 0 and 100.")
        self.acTemperature = (temperature - 32) * 5 / 9 if unit == "fahrenheit" else temperature
        self.fanSpeed, self.acMode = fanSpeed, mode
        return {"currentACTemperature": temperature, "climateMode": mode, "humidityLevel": self.humidityLevel}

    @tool
    def get_outside_temperature_from_google(self) -> dict[str, Any]:
        """The outside temperature in degrees Celsius."""
        return {"outsideTemperature": self._random.uniform(-10.0, 40.0)}

    @tool
    def get_outside_temperature_from_weather_com(self) -> dict[str, Any]:
        """The outside temperature, from a site that is down."""
        return {"error": 404}

    @tool
    def setHeadlights(self, mode: str) -> dict[str, Any]:
        """Switch the headlights on, off or auto."""
        need(mode in ("on", "off", "auto"), "Invalid headlight mode.")
        self.headLightStatus = "on" if mode == "on" else "off"
        return {"headlightStatus": self.headLightStatus}

    @tool
    def displayCarStatus(self, option: str) -> dict[str, Any]:
        """The state of the fuel, battery, doors, climate, headlights, parkingBrake, brakePedal or engine."""
        report: dict[str, dict[str, Any]] = {
            "fuel": {"fuelLevel": self.fuelLevel},
            "battery": {"batteryVoltage": self.batteryVoltage},
            "doors": {"doorStatus": self.doorStatus},
            "climate": {
                "currentACTemperature": self.acTemperature,
                "fanSpeed": self.fanSpeed,
                "climateMode": self.acMode,
                "humidityLevel": self.humidityLevel,
            },
            "headlights": {"headlightStatus": self.headLightStatus},
            "parkingBrake": {
                "parkingBrakeStatus": self.parkingBrakeStatus,
                "parkingBrakeForce": self.parking_brake_force,
                "slopeAngle": self.slope_angle,
            },
            "brakePedal": {
                "brakePedalStatus": self.brakePedalStatus,
                "brakePedalForce": self.brake_pedal_force,
            },
            "engine": {"engineState": self.engine_state},
        }
        need(option in report, "Invalid option")
        return report[option]

    @tool
    def activateParkingBrake(self, mode: str) -> dict[str, Any]:
        """Engage or release the parking brake."""
        need(mode in ("engage", "release"), "Invalid mode")
        engaged = mode == "engage"
        self.parkingBrakeStatus = "engaged" if engaged else "released"
        self.parking_brake_force = 500.0 if engaged else 0.0
        self.slope_angle = 10.0
        return {
            "parkingBrakeStatus": self.parkingBrakeStatus,
            "_parkingBrakeForce": self.parking_brake_force,
            "_slopeAngle": self.slope_angle,
        }

    @tool
    def pressBrakePedal(self, pedalPosition: float) -> dict[str, Any]:
        """Press the brake pedal, from 0 (released) to 1 (fully pressed), and keep it there."""
        need(0 <= pedalPosition <= 1, "Pedal position must be between 0 and 1.")
        self.brakePedalStatus = "pressed" if pedalPosition else "released"
        self.brake_pedal_force = float(pedalPosition * _FULL_BRAKE_N)
        return {"brakePedalStatus": self.brakePedalStatus, "brakePedalForce": self.brake_pedal_force}

    @tool
    def releaseBrakePedal(self) -> dict[str, Any]:
        """Release the brake pedal."""
        return self.pressBrakePedal(0.0)

    @tool
    def setCruiseControl(self, speed: float, activate: bool, distanceToNextVehicle: float) -> dict[str, Any]:
        """Switch the cruise control on or off, at a speed from 0 to 120 in steps of 5, with a distance in metres."""
        need(self.engine_state != "stopped", "Start the engine before activating the cruise control.")
        speed, self.distanceToNextVehicle = float(speed), float(distanceToNextVehicle)
        need(not activate or (0 <= speed <= 120 and speed % 5 == 0), "Invalid speed")
        self.cruiseStatus = "active" if activate else "inactive"
        return {
            "cruiseStatus": self.cruiseStatus,
            "currentSpeed": speed,
            "distanceToNextVehicle": self.distanceToNextVehicle,
        }

    @tool
    def get_current_speed(self) -> dict[str, Any]:
        """The speed in km/h."""
        return {"currentSpeed": self._random.uniform(0.0, 120.0)}

    @tool
    def display_log(self, messages: list[str]) -> dict[str, Any]:
        """Display some messages."""
        return {"log": messages}

    @tool
    def estimate_drive_feasibility_by_mileage(self, distance: float) -> dict[str, Any]:
        """Whether the fuel lasts for so many miles."""
        return {"canDrive": self.fuelLevel * _MILES_PER_GALLON >= distance}

    @tool
    def liter_to_gallon(self, liter: float) -> dict[str, Any]:
        """Convert litres to gallons."""
        return {"gallon": liter * 0.264172}

    @tool
    def gallon_to_liter(self, gallon: float) -> dict[str, Any]:
        """Convert gallons to litres."""
        return {"liter": gallon * 3.78541}

    @tool
    def estimate_distance(self, cityA: str, cityB: str) -> dict[str, Any]:
        """The distance in km between two cities, given by their zip codes."""
        distance = _DISTANCES.get(frozenset((cityA, cityB)))
        need(distance is not None, "distance not found in database.")
        return {"distance": distance}

    @tool
    def get_zipcode_based_on_city(self, city: str) -> dict[str, Any]:
        """The zip code of a city, 00000 where it is not known."""
        return {"zipcode": _ZIP_CODES.get(city, _UNKNOWN_ZIP)}

    @tool
    def set_navigation(self, destination: str) -> dict[str, Any]:
        """Navigate to a place, given as street, city, state."""
        self.destination = destination
        return {"status": f"Navigating to {destination}"}

    @tool
    def check_tire_pressure(self) -> dict[str, Any]:
        """The pressure of each tyre in psi, and whether their mean is healthy."""
        pressures = {
            "frontLeftTirePressure": self.frontLeftTirePressure,
            "frontRightTirePressure": self.frontRightTirePressure,
            "rearLeftTirePressure": self.rearLeftTirePressure,
            "rearRightTirePressure": self.rearRightTirePressure,
        }
        healthy = 30 <= sum(pressures.values()) / 4 <= 35
        return {**pressures, "healthy_tire_pressure": healthy, "car_info": {}}

    @tool
    def find_nearest_tire_shop(self) -> dict[str, Any]:
        """Where the nearest tyre shop is."""
        return {"shopLocation": "456 Oakwood Avenue, Rivermist, 83214"}
