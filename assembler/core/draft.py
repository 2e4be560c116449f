"""The first draft of an instrument: what sample sub-FITS of one exposure let its YAML say, as a value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assembler.core.draft_cards import (
    alike,
    amplifier_rules,
    differing_cards,
    frame_cards,
    instant_cards,
    origin_extensions,
    origin_times,
    settle_names,
)
from assembler.core.draft_files import Frame, SampleFile, exposure_frames, file_patterns, has_number
from assembler.core.draft_names import origin_cards, origin_names, origin_prefixes
from assembler.core.exposure import SubFits
from assembler.core.instants import SECOND
from assembler.core.instrument import ExposureRule, Instrument, Origin
from assembler.core.primary import reserved_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What samples let a YAML say.

    Attributes
    ----------
    instrument : Instrument
        Everything that the YAML says.
    samples : tuple of (str, str)
        Origin and file name of each sample.
    alike : tuple of str
        Keywords that are the same in all primaries without data, so that they might be shared; one exposure does not tell whether
        they always are.
    differing : tuple of (tuple of str)
        Of each origin, keywords of its amplifiers that differ from one to the other.
    instants : tuple of (tuple of str)
        Of each origin without a begin, keywords that might tell it.
    """

    instrument: Instrument
    samples: tuple[tuple[str, str], ...]
    alike: tuple[str, ...]
    differing: tuple[tuple[str, ...], ...]
    instants: tuple[tuple[str, ...], ...]


def draft_instrument(samples: Sequence[SampleFile]) -> Draft:
    """Decide what the YAML of an instrument says, from one sub-FITS of each origin, all of one exposure.

    Raises
    ------
    ConfigurationError
        When two samples cannot be told apart, or are of one origin.
    """
    subs = [s.sub for s in samples]
    frames = exposure_frames(samples, [frame_cards(sub) for sub in subs])
    names = origin_names(samples, frames)
    extensions = origin_extensions(samples, names)
    patterns = file_patterns(samples, frames)
    origins = []
    for index, (prefix, (flag, file)) in enumerate(zip(origin_prefixes(names), origin_cards(names), strict=True)):
        amplifiers, cards = amplifier_rules(subs[index], extensions[index])
        origins.append(
            Origin(
                name=names[index],
                prefix=prefix,
                flag=flag,
                file_card=file,
                files=patterns[index],
                match="frame",
                frame=frames[index].keyword,
                triggered="",
                extensions=extensions[index],
                amplifiers=amplifiers,
                amplifier_cards=cards,
                renames={},
                times=origin_times(subs[index]),
            )
        )
    instrument = _instrument(subs, _matched(origins), frames)
    renames = settle_names(instrument, subs)
    instrument = replace(instrument, origins=tuple(replace(o, renames=own) for o, own in zip(instrument.origins, renames, strict=True)))
    return Draft(
        instrument=instrument,
        samples=tuple((name, sub.name) for name, sub in zip(names, subs, strict=True)),
        alike=alike(subs, reserved_names(instrument)),
        differing=tuple(differing_cards(sub, own) for sub, own in zip(subs, extensions, strict=True)),
        instants=tuple(() if o.times.begin else instant_cards(sub) for o, sub in zip(instrument.origins, subs, strict=True)),
    )


def _matched(origins: Sequence[Origin]) -> tuple[Origin, ...]:
    """Match by time those that have an interval and no frame number, where another one has a number, or else the first such."""

    def framed(origin: Origin) -> bool:
        return bool(origin.frame) or "{frame}" in origin.files

    timed = [o for o in origins if not framed(o) and o.times.begin and (o.times.end or o.times.elapsed)]
    by_time = {o.name for o in (timed if any(map(framed, origins)) else timed[1:])}
    return tuple(replace(o, match="time") if o.name in by_time else o for o in origins)


def _instrument(subs: Sequence[SubFits], origins: tuple[Origin, ...], frames: Sequence[Frame]) -> Instrument:
    name = _told(subs, "INSTRUME") or _told(subs, "TELESCOP") or "instrument"
    short = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:30] or "L0"
    if any(o.times.begin for o in origins):
        filename = f"{short}.{{date}}.{{seconds}}.fits"
    elif any(
        f.keyword and f.number is not None and not has_number(s.name.split(".")[0], f.number) for s, f in zip(subs, frames, strict=True)
    ):
        filename = f"{short}.{{frame}}.fits"  # the files' names up to their first dot may be the same in each exposure
    else:
        filename = "{stem}_l0.fits"
    by_frame = sorted(origins, key=lambda o: o.match != "frame")  # who counts its own frames is seldom the one to trust
    interval = [o.name for o in by_frame if o.times.begin and (o.times.end or o.times.elapsed)]
    begun = [o.name for o in origins if o.times.begin and o.name not in interval]
    return Instrument(
        name=name,
        filename=filename,
        output="L0",
        missing="omit",
        shared=frozenset(),
        exposure=ExposureRule(
            begin=None, end=None, settling=0, triggered="", trust=(*interval, *begun) or tuple(o.name for o in origins), durations=()
        ),
        origins=origins,
        snapshots=(),
        table=(),
        margin=60 * SECOND,
    )


def _told(subs: Sequence[SubFits], keyword: str) -> str:
    values = (sub.hdus[0].value(keyword) for sub in subs)
    return next((v.strip() for v in values if isinstance(v, str) and v.strip() and v.isascii() and v.isprintable()), "")
