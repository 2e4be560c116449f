"""`ObservationInfo` of an L0: a translator for `astro_metadata_translator`, made of the block ``record`` of an instrument's YAML.

Importing this registers the translator of the instrument that comes with the assembler. Another instrument's is registered by
`translator_of`, of what `assembler.config.load_instrument` reads.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, cast

try:
    import astropy.units as u
    from astro_metadata_translator import MetadataTranslator, PropertyDefinition
    from astro_metadata_translator.properties import PROPERTIES
    from astropy.coordinates import AltAz, Angle, EarthLocation, SkyCoord
    from astropy.io.fits import VerifyError
    from astropy.time import Time, TimeDelta
except ImportError as missing:
    raise ImportError(
        f"ObservationInfo of an L0 needs astro_metadata_translator ({missing}); install l0-assembler[translator]"
    ) from missing

import logging

from assembler.config import load_instrument, shipped_instrument
from assembler.core.cards import Value
from assembler.core.columns import COLUMNS
from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument
from assembler.core.record import Cell, exposure_columns, instant_of, is_l0_of, source_of

_log = logging.getLogger(__name__)

_AS_IT_IS = {
    "instrument": "instrument",
    "telescope": "telescope",
    "exposure_id": "exposure_id",
    "visit_id": "exposure_id",
    "physical_filter": "physical_filter",
    "boresight_airmass": "airmass",
    "object": "target_name",
    "relative_humidity": "humidity",
    "science_program": "science_program",
    "observation_type": "observation_type",
    "observation_id": "obs_id",
    "observation_reason": "observation_reason",
    "exposure_group": "group_id",
    "observing_day": "day_obs",
    "observation_counter": "seq_num",
    "group_counter_start": "seq_num",
    "group_counter_end": "seq_num",
    "has_simulated_content": "has_simulated",
    "can_see_sky": "can_see_sky",
    "ext_scheduler_note": "scheduler_note",
    "ext_target_id": "target_id",
    "ext_l0_version": "l0_version",
}
"""Properties that have the value of a column."""

_QUANTITIES = {
    "exposure_time": ("exposure_time", u.s),
    "exposure_time_requested": ("exposure_time_requested", u.s),
    "dark_time": ("dark_time", u.s),
    "temperature": ("air_temperature", u.K),
    "pressure": ("pressure", u.Pa),
    "focus_z": ("focus", u.m),
    "ext_wind_speed": ("wind_speed", u.m / u.s),
    "ext_seeing": ("seeing", u.arcsec),
}
"""Properties that have the number of a column, with its unit."""

_ANGLES = {"boresight_rotation_angle": "sky_angle", "ext_wind_direction": "wind_direction"}
_OF_A_DETECTOR = ("detector_unique_name",)
"""What the library would make of the name of one detector, which an L0 of many does not have."""

_TIMES = {"datetime_begin": "begin_time", "datetime_end": "end_time"}


class _Values(Mapping[str, Value]):
    """A header of whichever library as the core knows one: what is undefined is None."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self._header = header

    def __getitem__(self, keyword: str) -> Value:
        try:
            value = self._header[keyword]
        except VerifyError:  # astropy does not read a card that FITS does not allow, and the others are what they are
            return None
        return value if isinstance(value, str | int | float | complex) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


def _extension(column: str, unit: u.UnitBase | None = None, kind: type | None = None) -> PropertyDefinition:
    meaning = COLUMNS[column].meaning
    if unit is None:
        return PropertyDefinition(meaning, kind or str)
    make = kind or u.Quantity
    return PropertyDefinition(meaning, make, lambda told: float(told.to_value(unit)), lambda told, **_: make(told, unit))


class L0Translator(MetadataTranslator):
    """What all instruments have in common. `translator_of` makes the class of one."""

    described: ClassVar[Instrument]
    extensions: ClassVar[dict[str, PropertyDefinition]] = {  # type: ignore[misc]
        "scheduler_note": _extension("scheduler_note"),
        "target_id": _extension("target_id"),
        "wind_speed": _extension("wind_speed", u.m / u.s),
        "wind_direction": _extension("wind_direction", u.deg, Angle),
        "seeing": _extension("seeing", u.arcsec),
        "l0_version": _extension("l0_version", kind=int),
    }

    def __init__(self, header: Mapping[str, Any], filename: Any = None) -> None:
        super().__init__(header, filename=filename)
        self._values = _Values(header)
        self._columns: dict[str, Cell] | None = None
        self._problems: list[str] = []

    @classmethod
    def can_translate(cls, header: Mapping[str, Any], filename: str | None = None) -> bool:  # noqa: ARG003 - names prove nothing
        """Tell whether a header is that of an L0 of this instrument, and of nothing else."""
        return is_l0_of(cls.described, _Values(header))

    @classmethod
    def determine_translatable_headers(
        cls, filename: Any, primary: MutableMapping[str, Any] | None = None
    ) -> Iterator[MutableMapping[str, Any]]:
        """Yield the primary of an L0 by itself; what was given may have cards of the first extension in it."""
        from astro_metadata_translator.file_helpers import read_basic_metadata_from_file

        header = read_basic_metadata_from_file(filename, 0)
        if header is None:
            header = primary
        if header is not None:
            yield header

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:  # noqa: ARG003 - it is always the same
        """Return the time of day in UTC at which a night's date begins."""
        return TimeDelta(cls.described.record.day_begins / SECOND, format="sec", scale="tai")

    def column(self, name: str) -> Any:
        """Return a column of the exposure's record."""
        if self._columns is None:
            self._columns, self._problems = exposure_columns(self.described, self._values)
        if name not in ("instrument", "obs_id"):  # which is all that is asked of another translator of the same header, before
            for problem in self._problems:
                _log.warning("%s: %s", self._log_prefix, problem)
            self._problems = []
        self._used_these_cards(*filter(None, [self._source(name)]))
        return self._columns[name]

    def to_location(self) -> EarthLocation | None:
        """Return where the observatory is, as the YAML tells."""
        site = self.described.record.site
        return EarthLocation.from_geodetic(site.longitude, site.latitude, site.height) if site else None

    def to_tracking_radec(self) -> SkyCoord | None:
        """Return where the telescope pointed."""
        ra, dec = self.column("tracking_ra"), self.column("tracking_dec")
        return None if ra is None or dec is None else SkyCoord(ra * u.deg, dec * u.deg, frame=self.described.record.frame)

    def to_altaz_begin(self) -> AltAz | None:
        """Return azimuth and elevation; the time of observation is that of the snapshot that they are of."""
        azimuth, zenith_angle = self.column("azimuth"), self.column("zenith_angle")
        if azimuth is None or zenith_angle is None:
            return None
        told = instant_of(self.described, self._source("azimuth"), self._values)
        obstime = self.to_datetime_begin() if told is None else Time(told, format="isot", scale="utc")
        return AltAz(az=azimuth * u.deg, alt=(90 - zenith_angle) * u.deg, obstime=obstime, location=self.to_location())

    def to_boresight_rotation_coord(self) -> str:
        """Return that the angle is on the sky, where there is one."""
        return "unknown" if self.column("sky_angle") is None else "sky"

    def to_observing_day_offset(self) -> TimeDelta:
        """Return the time of day in UTC at which a night's date begins."""
        begin = self.to_datetime_begin()
        return self.observing_date_to_offset(begin) if begin is not None else None

    def _source(self, column: str) -> str:
        """Return the keyword that fills a column; empty where none does."""
        rule = next((rule for rule in self.described.record.columns if rule.column == column), None)
        return source_of(rule, self._values) if rule else ""


def _method(made: Callable[[L0Translator], Any]) -> Callable[[L0Translator], Any]:
    """Return a method of a translator."""

    def method(self: L0Translator) -> Any:
        return made(self)

    return method


def _number(column: str, make: Callable[[float], Any]) -> Callable[[L0Translator], Any]:
    """Return what tells a column's number as the property has it."""

    def told(translator: L0Translator) -> Any:
        number = translator.column(column)
        return None if number is None else make(number)

    return told


def _give_methods() -> None:
    """Give the translator a method for each property; what one exposure of many detectors cannot tell is nothing."""
    made: dict[str, Callable[[L0Translator], Any]] = {}
    for name, column in _AS_IT_IS.items():
        made[name] = lambda translator, column=column: translator.column(column)  # type: ignore[misc]
    for name, (column, unit) in _QUANTITIES.items():
        made[name] = _number(column, lambda number, unit=unit: number * unit)  # type: ignore[misc]
    for name, column in _ANGLES.items():
        made[name] = _number(column, lambda number: Angle(number, u.deg))
    for name, column in _TIMES.items():
        made[name] = _number(column, lambda told: Time(told, format="isot", scale="utc"))
    made |= dict.fromkeys((*_OF_A_DETECTOR, *(name for name in PROPERTIES if _is_open(name) and name not in made)), lambda _: None)
    for name, reading in made.items():
        setattr(L0Translator, f"to_{name}", _method(reading))


def _is_open(name: str) -> bool:
    """Tell whether neither the library nor the class above says how a property is told."""
    method = getattr(L0Translator, f"to_{name}", None)
    return method is None or getattr(method, "__isabstractmethod__", False)


_give_methods()


def translator_of(instrument: Instrument) -> type[L0Translator]:
    """Make the translator of an instrument, and register it under the instrument's name.

    Parameters
    ----------
    instrument : Instrument
    """
    told = {
        "name": instrument.name,
        "supported_instrument": instrument.name,
        "described": instrument,
        "__module__": __name__,
        "__doc__": f"What an L0 of {instrument.name} tells.",
    }
    return cast("type[L0Translator]", type(f"{instrument.name}L0Translator", (L0Translator,), told))


def translators() -> list[str]:
    """Return the names of the translators that importing this registers."""
    return [SHIPPED.described.name] if SHIPPED else []


_yaml = shipped_instrument()
SHIPPED = translator_of(load_instrument(_yaml)) if _yaml else None
"""The translator of the instrument that comes with the assembler."""
