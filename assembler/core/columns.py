"""The columns of an exposure's record: what each tells, of which type it is and in which unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "int", "float", "bool", "time"]

LARGEST = 2**63 - 1
"""What a database keeps as a whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes
    ----------
    kind : str
        Text, whole number, number, true or false, or an instant (UTC, as ISO 8601).
    meaning : str
    unit : str
        Of a number, as `assembler.core.quantities.QUANTITIES` names it.
    least, greatest : float
        Where a number can be what it says it is.
    wraps : bool
        Whether it is an angle that is the same one 360 degrees further, and told from 0 to 360.
    is_told : bool
        Whether the L0 itself tells it, so that no YAML has to, or may.
    """

    kind: Kind
    meaning: str
    unit: str = ""
    least: float = float("-inf")
    greatest: float = float("inf")
    wraps: bool = False
    is_told: bool = False


def _number(unit: str, meaning: str, least: float = float("-inf"), greatest: float = float("inf"), *, wraps: bool = False) -> Column:
    return Column(kind="float", meaning=meaning, unit=unit, least=least, greatest=greatest, wraps=wraps)


COLUMNS: Mapping[str, Column] = {
    "instrument": Column(kind="text", meaning="the instrument, as its YAML calls it unless the block says otherwise"),
    "telescope": Column(kind="text", meaning="the telescope"),
    "obs_id": Column(kind="text", meaning="the observation: the L0's name without .fits, unless the block says otherwise"),
    "exposure_id": Column(kind="int", meaning="number of the exposure, which no other one of the instrument has", least=0),
    "day_obs": Column(kind="int", meaning="date of the night, YYYYMMDD", is_told=True),
    "seq_num": Column(kind="int", meaning="number of the exposure, in its night or since ever", least=0),
    "group_id": Column(kind="text", meaning="exposures that belong together have the same"),
    "begin_time": Column(kind="time", meaning="begin of the exposure (UTC)", is_told=True),
    "end_time": Column(kind="time", meaning="end of the exposure (UTC)", is_told=True),
    "exposure_time": _number("s", "how long it was", 0),
    "exposure_time_requested": _number("s", "how long it was asked to be", 0),
    "dark_time": _number("s", "how long the detector collected charge, shutter open or not", 0),
    "physical_filter": Column(kind="text", meaning="the filter"),
    "observation_type": Column(kind="text", meaning="what was observed: science, bias, dark, flat, arc, ..."),
    "observation_reason": Column(kind="text", meaning="what for: science, calibration, ..."),
    "science_program": Column(kind="text", meaning="the program that it belongs to"),
    "target_name": Column(kind="text", meaning="the target"),
    "target_id": Column(kind="text", meaning="the target, or the request for it, as a catalogue or the scheduler numbers it"),
    "scheduler_note": Column(kind="text", meaning="what the scheduler noted"),
    "tracking_ra": _number("deg", "right ascension, J2000", 0, 360, wraps=True),
    "tracking_dec": _number("deg", "declination, J2000", -90, 90),
    "sky_angle": _number("deg", "position angle of the instrument on the sky", wraps=True),
    "azimuth": _number("deg", "azimuth, from north through east", wraps=True),
    "zenith_angle": _number("deg from zenith", "distance from the zenith", 0, 180),
    "airmass": _number("", "airmass", 0.9, 100),
    "air_temperature": _number("K", "temperature of the air", 0, 1000),
    "pressure": _number("Pa", "pressure of the air", 0, 200_000),
    "humidity": _number("%", "relative humidity", 0, 120),
    "wind_speed": _number("m/s", "speed of the wind", 0, 200),
    "wind_direction": _number("deg", "where the wind comes from, from north through east", wraps=True),
    "seeing": _number("arcsec", "full width at half maximum of a star", 0, 3600),
    "focus": _number("m", "focus of the telescope"),
    "has_simulated": Column(kind="bool", meaning="whether any of it was simulated"),
    "can_see_sky": Column(kind="bool", meaning="whether light of the sky came to the detector"),
    "l0_name": Column(kind="text", meaning="name of the L0", is_told=True),
    "l0_version": Column(kind="int", meaning="its version (L0VER)", is_told=True),
    "l0_written": Column(kind="time", meaning="when it was written (DATE, UTC)", is_told=True),
}
"""By name, in the order of the table; names that Rubin's exposure records have too mean the same here."""

ALWAYS = ("instrument", "obs_id", "l0_name", "l0_version")
"""Columns that every record has; the others may be unknown."""
