"""The plan: everything that will be in an L0, without its pixels; one object for dry run, writing and verifying."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from assembler.core.corrections import Change, correction_cards
from assembler.core.delivered import Delivered, Input, delivered_cards, exposure_inputs, with_digests
from assembler.core.exposure import Exposure, Hdu, file_findings, missing_findings
from assembler.core.extensions import Placement, Selected, empty_header, extension_header, select_extensions
from assembler.core.findings import Finding, finding
from assembler.core.instants import DAY, SECOND, format_iso, round_to
from assembler.core.instrument import Instrument, Origin
from assembler.core.ledger import LedgerRow, ledger_table, make_ledger, read_ledger
from assembler.core.merge import Merged, Primary, merge_primaries
from assembler.core.primary import assembly_cards, identity_cards, legend_cards, reserved_names, structure_cards
from assembler.core.samples import Answers
from assembler.core.snapshots import snapshot_cards
from assembler.core.tables import Column, Table
from assembler.core.telemetry import telemetry_table
from assembler.core.times import Times, time_cards, times_from
from assembler.core.versions import Replaced, with_version
from assembler.errors import InputError

OWN_TABLES = ("TELEMETRY", "CARDS", "FINDINGS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the bytes of a data unit come from: a sub-FITS, and offset and length [bytes] in its FITS content.

    ``signature`` is that of `SubFits`: a file that has another one by now is another file.
    """

    origin: str
    path: str
    hdu: int
    compressed: bool
    offset: int
    length: int
    signature: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHdu:
    """An HDU of the L0: its cards without CHECKSUM, DATASUM and END, and its data, if it has any."""

    name: str
    cards: tuple[str, ...]
    data: Source | Table | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a sub-FITS says of one of its HDUs: the DATASUM, and whether a CHECKSUM stands in its header."""

    origin: str
    path: str
    hdu: int
    header_sum: int
    datasum: int | None
    has_checksum: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that will be in the L0.

    Attributes
    ----------
    filename : str
        The L0's name.
    hdus : tuple of PlannedHdu
        In order; the last three are TELEMETRY, CARDS and FINDINGS.
    findings : tuple of Finding
    expected : mapping of str to Expected
        By extension, what its sub-FITS says of the checksums.
    times : Times
        Who told when the exposure was, and what was chosen.
    inputs : tuple of Input
        The sub-FITS, with the SHA-256 of each once it was read.
    """

    filename: str
    hdus: tuple[PlannedHdu, ...]
    findings: tuple[Finding, ...]
    expected: Mapping[str, Expected]
    times: Times
    inputs: tuple[Input, ...]

    @property
    def ledger(self) -> tuple[LedgerRow, ...]:
        """Where each input card went, as CARDS has it."""
        return read_ledger(self.table("CARDS"))

    def table(self, name: str) -> Table:
        """Return one of the L0's own tables."""
        return next(hdu.data for hdu in self.hdus if hdu.name == name and isinstance(hdu.data, Table))


def plan_l0(
    instrument: Instrument,
    exposure: Exposure,
    times: Times,
    answers: Answers,
    *,
    changes: Sequence[Change] = (),
    told: Sequence[Finding] = (),
    directory: str,
    version: str,
    written: int,
    replaces: Replaced | None = None,
    awaited: bool = False,
) -> Plan:
    """Decide everything that will be in an L0.

    Parameters
    ----------
    instrument : Instrument
    exposure : Exposure
    times : Times
        As reconciled.
    answers : Answers
        What the keyword history told.
    changes : sequence of Change
        What was corrected in the exposure and the answers.
    told : sequence of Finding
        Findings from before: how files were read, how times were reconciled.
    directory : str
        The output directory, as the card OUTDIR is to name it.
    version : str
        Version of the assembler.
    written : int
        The instant [ns] that is DATE.
    replaces : Replaced or None
        The L0 of this name that this one is to replace; None when it is the first.
    awaited : bool
        Whether this is what is known before sub-FITS are there: then there need be none, and nothing stands in for them. Nobody
        assembles such a plan.

    Raises
    ------
    InputError
        When the exposure has no sub-FITS and they are not awaited, or nothing that the L0's name needs.
    """
    if not exposure.attached and not awaited:
        raise InputError(f"no sub-FITS to assemble: {'; '.join(m.message for m in exposure.missing)}")
    filename = l0_name(instrument.filename, times.begin, exposure)
    selected, selection = _select(exposure)
    primaries = _primaries(exposure, selected)
    merged = merge_primaries(primaries, instrument.shared, reserved_names(instrument))
    snapshots, missed = snapshot_cards(instrument, answers)
    stand_ins = instrument.missing == "empty" and not awaited
    extensions, placed, mended = _extensions(instrument, exposure, selected, merged, stand_ins=stand_ins)
    primary = (
        *structure_cards(),
        *assembly_cards(instrument, exposure, times, version, written, replaces),
        *time_cards(times),
        *snapshots,
        *identity_cards(instrument, exposure, directory, filename),
        *merged.shared,
        *merged.sections,
        *correction_cards(changes),
        *legend_cards([p.origin for p in primaries]),
    )
    triggered = answers.value("middle", instrument.exposure.triggered) if instrument.exposure.triggered else None
    findings = (
        *missing_findings(exposure, instrument, triggered.value if triggered else None),
        *file_findings(exposure),
        *(f for p in primaries for f in _checksum_findings(_expected(p.origin, p.path, p.hdu), 0)),
        *told,
        *selection,
        *merged.findings,
        *mended,
        *missed,
    )
    inputs = exposure_inputs(instrument, exposure)
    tables = (
        planned_table(telemetry_table(instrument, answers)),
        planned_table(make_ledger(exposure, merged.placements, placed), delivered_cards(inputs)),
        planned_table(findings_table(findings)),
    )
    return Plan(
        filename=filename,
        hdus=(PlannedHdu(name="PRIMARY", cards=primary), *extensions, *tables),
        findings=findings,
        expected={s.name: _expected(o, sub.path, s.hdu) for o, sub in exposure.attached for s in selected[o.name]},
        times=times,
        inputs=inputs,
    )


def conclude(plan: Plan, sums: Mapping[str, int], digests: Mapping[str, str]) -> Plan:
    """Return the plan with what only reading the sub-FITS could tell: their SHA-256, and checksums that do not fit.

    Parameters
    ----------
    plan : Plan
    sums : mapping of str to int
        By extension, the sum of the data unit that was read.
    digests : mapping of str to str
        By origin, the SHA-256 of the sub-FITS that was read.
    """
    *before, _, last = plan.hdus
    inputs = with_digests(plan.inputs, digests)
    plan = replace(plan, inputs=inputs, hdus=(*before, planned_table(plan.table("CARDS"), delivered_cards(inputs)), last))
    findings = [f for name, expected in plan.expected.items() for f in _checksum_findings(expected, sums[name])]
    if not findings:
        return plan
    everything = (*plan.findings, *findings)
    return replace(plan, hdus=(*plan.hdus[:-1], planned_table(findings_table(everything))), findings=everything)


def superseding(plan: Plan, replaced: Replaced) -> Plan:
    """Return the plan as that of the version after another, as if `plan_l0` had known of it; nobody is asked again."""
    primary = plan.hdus[0]
    return replace(plan, hdus=(replace(primary, cards=with_version(primary.cards, replaced)), *plan.hdus[1:]))


def l0_name(template: str, begin: int | None, exposure: Exposure) -> str:
    """Return the file name that a template of the YAML gives.

    ``{date}`` and ``{seconds}`` are those of the begin rounded to 0.01 s, ``{frame}`` is the frame number,
    ``{stem}`` the name of the first sub-FITS up to its first dot.

    >>> l0_name("KP.{date}.{seconds}.fits", 86_400 * SECOND - 3_000_000, Exposure(frame=1, attached=(), missing=()))
    'KP.19700102.00000.00.fits'
    """
    fields: dict[str, str] = {}
    if begin is not None:
        rounded = round_to(begin, SECOND // 100)
        centiseconds = rounded % DAY // (SECOND // 100)
        fields["date"] = format_iso(rounded)[:10].replace("-", "")
        fields["seconds"] = f"{centiseconds // 100:05d}.{centiseconds % 100:02d}"
    if exposure.frame is not None:
        fields["frame"] = str(exposure.frame)
    if exposure.attached:
        fields["stem"] = re.sub(r"[^A-Za-z0-9_-]", "_", exposure.attached[0][1].name.split(".")[0]) or "unnamed"
    for wanted in re.findall(r"\{(\w+)\}", template):
        if wanted not in fields:
            asked = ", ".join(f"{o.times.begin or 'no keyword'} of {sub.path}" for o, sub in exposure.attached)
            why = f"nobody tells when the exposure was (asked: {asked})" if wanted in ("date", "seconds") else f"it has no {wanted}"
            raise InputError(f"the L0 cannot be named {template}: {why}")
    return re.sub(r"\{(\w+)\}", lambda found: fields[found.group(1)], template)


def planned_table(table: Table, more: Sequence[str] = ()) -> PlannedHdu:
    """Return a table, with more cards in its header, as an HDU of the plan."""
    return PlannedHdu(name=table.name, cards=(*table.cards(), *more), data=table)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Make the FINDINGS table."""
    columns = tuple(Column(name=name, form="A") for name in ("code", "severity", "origin", "keyword", "message"))
    rows = [(f.code, f.severity, f.origin, f.keyword, f.message[:1000]) for f in findings]
    return Table.of_rows("FINDINGS", columns, rows)


def to_json(plan: Plan) -> str:
    """Write a plan as JSON."""

    def data(hdu: PlannedHdu) -> Any:
        if isinstance(hdu.data, Source):
            return {"source": asdict(hdu.data)}
        return {"table": hdu.name} if hdu.data else None

    telemetry = plan.table("TELEMETRY")
    document = {
        "filename": plan.filename,
        "times": asdict(plan.times),
        "hdus": [{"name": h.name, "cards": h.cards, "data": data(h)} for h in plan.hdus],
        "telemetry": {"name": telemetry.name, "columns": [asdict(c) for c in telemetry.columns], "rows": telemetry.rows},
        "ledger": plan.ledger,
        "findings": [asdict(f) for f in plan.findings],
        "expected": {name: asdict(e) for name, e in plan.expected.items()},
        "inputs": [asdict(i) for i in plan.inputs],
    }
    return json.dumps(document, indent=1)


def from_json(text: str) -> Plan:
    """Read a plan that `to_json` wrote."""
    document = json.loads(text)
    findings = tuple(Finding(**f) for f in document["findings"])
    given = document["telemetry"]
    columns = tuple(Column(**c) for c in given["columns"])
    tables = {
        "TELEMETRY": Table.of_rows(given["name"], columns, [tuple(row) for row in given["rows"]]),
        "CARDS": ledger_table([LedgerRow(*row) for row in document["ledger"]]),
        "FINDINGS": findings_table(findings),
    }

    def data(given: dict[str, Any] | None) -> Source | Table | None:
        if given is None:
            return None
        return (
            Source(**{**given["source"], "signature": tuple(given["source"]["signature"])}) if "source" in given else tables[given["table"]]
        )

    return Plan(
        filename=document["filename"],
        hdus=tuple(PlannedHdu(name=h["name"], cards=tuple(h["cards"]), data=data(h["data"])) for h in document["hdus"]),
        findings=findings,
        expected={name: Expected(**e) for name, e in document["expected"].items()},
        times=times_from(document["times"]),
        inputs=tuple(
            Input(**{**i, "delivered": Delivered(**i["delivered"]), "signature": tuple(i["signature"])}) for i in document["inputs"]
        ),
    )


def _select(exposure: Exposure) -> tuple[dict[str, tuple[Selected, ...]], list[Finding]]:
    """Choose the extensions of every origin."""
    taken = {"PRIMARY", *OWN_TABLES}
    taken |= {e.name.upper() for origin, _ in exposure.attached for e in origin.extensions}
    selected: dict[str, tuple[Selected, ...]] = {}
    findings: list[Finding] = []
    for origin, sub in exposure.attached:
        selected[origin.name], told = select_extensions(origin, sub, taken)
        findings += told
    return selected, findings


def _primaries(exposure: Exposure, selected: Mapping[str, Sequence[Selected]]) -> list[Primary]:
    """Return the primaries whose cards go to the L0's primary: those that are no extension themselves."""
    return [
        Primary(origin=origin, path=sub.path, hdu=sub.hdus[0], extensions={s.name: s.hdu for s in selected[origin.name]})
        for origin, sub in exposure.attached
        if all(s.hdu.index for s in selected[origin.name])
    ]


def _extensions(
    instrument: Instrument, exposure: Exposure, selected: Mapping[str, Sequence[Selected]], merged: Merged, *, stand_ins: bool
) -> tuple[list[PlannedHdu], dict[tuple[str, int], tuple[Placement, ...]], list[Finding]]:
    """Plan the science extensions, and say where the cards of each of their HDUs went."""
    attached = {origin.name: sub for origin, sub in exposure.attached}
    hdus: list[PlannedHdu] = []
    placed: dict[tuple[str, int], tuple[Placement, ...]] = {}
    findings: list[Finding] = []
    for origin in instrument.origins:
        if origin.name not in attached:
            hdus += _stand_ins(origin) if stand_ins else ()
            continue
        sub = attached[origin.name]
        for chosen in selected[origin.name]:
            header, told = extension_header(chosen, merged.additions.get(chosen.name, ()), origin.name, sub.path)
            hdu = chosen.hdu
            source = Source(
                origin=origin.name,
                path=sub.path,
                hdu=hdu.index,
                compressed=sub.compressed,
                offset=hdu.offset,
                length=hdu.length,
                signature=sub.signature,
            )
            hdus.append(PlannedHdu(name=chosen.name, cards=header.cards, data=source if hdu.length else None))
            placed[origin.name, hdu.index] = header.placements
            findings += told
    return hdus, placed, findings


def _stand_ins(origin: Origin) -> list[PlannedHdu]:
    modes = [mode for card in origin.amplifier_cards for mode in card.modes]
    skipped = origin.amplifiers[min(modes) :] if modes else ()
    names = [e.name for e in origin.extensions if e.name not in skipped]
    return [PlannedHdu(name=name, cards=empty_header(name, origin.name)) for name in names]


def _checksum_findings(expected: Expected, data_sum: int) -> list[Finding]:
    """Say which checksums of a sub-FITS HDU do not fit."""
    where = f"{expected.path}, HDU {expected.hdu}"
    findings = []
    if expected.datasum is not None and expected.datasum != data_sum:
        told = f"{where}: DATASUM is {expected.datasum}, that of the data is {data_sum}"
        findings.append(finding("datasum-wrong", told, origin=expected.origin, keyword="DATASUM"))
    if expected.has_checksum and (expected.header_sum + data_sum) % 0xFFFFFFFF:
        told = f"{where}: CHECKSUM does not fit the HDU"
        findings.append(finding("checksum-wrong", told, origin=expected.origin, keyword="CHECKSUM"))
    return findings


def _expected(origin: Origin, path: str, hdu: Hdu) -> Expected:
    told = str(hdu.value("DATASUM") or "").strip()
    return Expected(
        origin=origin.name,
        path=path,
        hdu=hdu.index,
        header_sum=hdu.header_sum,
        datasum=int(told) if told.isdecimal() and len(told) <= 10 else None,
        has_checksum=bool(str(hdu.value("CHECKSUM") or "").strip("0 ")),
    )
