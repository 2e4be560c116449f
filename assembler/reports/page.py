"""A report as one page of HTML that needs nothing else: no script, no network.

Whatever comes from headers, names and messages goes through `_text`, and nothing else makes text of it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from assembler.core.lines import as_line
from assembler.reports.tally import SEVERITIES, STATES

Plain = dict[str, Any]

_MARKS = {"made": "✓", "superseded": "↻", "same": "=", "new": "+", "differs": "≠", "failed": "✗"}
_SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_NOT_AWAITED = "not-triggered"


def page_head(overall: Plain) -> str:
    """Return what comes before the nights: what the report is of, and the summary."""
    nights = overall["overview"]
    title = f"Night report: {_base(nights[0]['night'])}" if len(nights) == 1 else f"Night report: {len(nights)} nights"
    summary = overall["summary"]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_text(title)}</h1>\n"
        f"<p>{_text(overall['instrument'])}, {_text(_short(overall['begun']))} to {_text(_short(overall['ended']))} UTC, "
        f"by L0 assembler {_text(overall['assembler'])}</p>\n"
        f"<p><code>{_text(overall['command'])}</code></p>\n</header>\n<main>\n"
        f'<section id="summary">\n<h2>Summary</h2>\n{_stopped(summary)}{_tiles(summary)}{_troubles(summary)}'
        f"{_overview(nights)}{_legend()}</section>\n"
    )


def page_section(account: Plain) -> str:
    """Return what came of a night."""
    origins, summary = account["origins"], account["summary"]
    parts = [f'<section class="night" id="{_anchor(account["night"])}">\n<h2>{_text(_base(account["night"]))}</h2>\n']
    parts.append(f'<p class="path">{_text(account["night"])}: {_text(_counted(summary))}</p>\n')
    if account["reason"]:
        parts.append(f'<p class="bad">{_mark("✗")} {_text(account["reason"])}</p>\n')
    parts.append(_stopped(summary))
    if account["exposures"]:
        heads = ("Exposure", "State", "L0", *origins, "Findings")
        parts += [_table_begin("exposures", heads), *(_rows(one, origins) for one in account["exposures"]), "</table></div>\n"]
    elif not account["reason"] and not summary["stopped"]:
        parts.append("<p>No exposure.</p>\n")
    parts += [_gaps(account["gaps"]), _strays(account["strays"]), _undated(account["undated"]), "</section>\n"]
    return "".join(parts)


def page_tail(_overall: Plain) -> str:
    """Return what comes after the nights."""
    return "</main>\n</body>\n</html>\n"


def _rows(one: Plain, origins: Sequence[str]) -> str:
    """Return the row of an exposure, and one for the reason where it failed."""
    label = one["first"] if one["frame"] is None else one["frame"]
    lacks = any(reason != _NOT_AWAITED for reason in one["missing"].values())
    needs_look = one["state"] in ("failed", "differs") or one["findings"].get("error") or lacks
    version = f' <span class="version">v{_text(one["version"])}</span>' if one["version"] > 1 else ""
    state = f'<td class="state {_text(one["state"])}">{_mark(_MARKS[one["state"]])} {_text(one["state"])}{version}</td>'
    name = f'<td class="l0" title="{_text(one["l0"])}">{_text(_base(one["l0"]))}</td>'
    cells = "".join(_origin(one, origin) for origin in origins)
    row = f'<tr><th scope="row">{_text(label)}</th>{state}{name}{cells}<td>{_findings(one)}</td></tr>\n'
    if one["reason"]:
        row += f'<tr class="why"><td></td><td colspan="{len(origins) + 3}"><span class="bad">{_text(one["reason"])}</span></td></tr>\n'
    if one["diff"] and not one["diff"]["same"]:
        row += f'<tr class="why"><td></td><td colspan="{len(origins) + 3}">{_difference(one["diff"])}</td></tr>\n'
    fine = "" if needs_look else ' class="fine"'
    return f"<tbody{fine}>\n{row}</tbody>\n"


def _difference(told: Plain) -> str:
    """Return how much differs, with the first of it."""
    items = []
    for change in told["changes"]:
        if not change["expected"]:
            what = " ".join(part for part in (change["part"], change["keyword"]) if part)
            values = [" ".join(card.rstrip() for card in change[side]) for side in ("old", "new")]
            shown = " → ".join(f"<code>{_text(value)}</code>" for value in values if value)
            by = _text(", ".join(change["causes"]))
            items.append(f"<li>{_SIGNS[change['kind']]} {_text(change['hdu'])} {_text(what)}, {by}: {shown}</li>")
    rest = [f"<li>and {_text(told['left_out'])} more</li>"] if told["left_out"] else []
    return f"<details><summary>{_text(told['summary'])}</summary><ul>{''.join([*items, *rest])}</ul></details>"


def _origin(one: Plain, origin: str) -> str:
    """Return the cell of an origin: attached, or why not, in words and not by colour alone."""
    reason = one["missing"].get(origin)
    delivered = one["sub_fits"].get(origin)
    title = f' title="{_text(_base(delivered))}"' if delivered else ""
    if reason is None and delivered is None:
        reason = "absent"
    if reason is None and one["state"] == "failed":
        return f'<td class="origin there"{title}>{_mark("○")}&nbsp;delivered</td>'
    if reason is None:
        return f'<td class="origin attached"{title}>{_mark("✓")}<span class="unseen">attached</span></td>'
    kind, mark = ("idle", "-") if reason == _NOT_AWAITED else ("missing", "✗")
    return f'<td class="origin {kind}"{title}>{_mark(mark)}&nbsp;{_text(reason)}</td>'


def _findings(one: Plain) -> str:
    """Return how many findings there are, with the worst of them."""
    counts = [
        f'<span class="{s}">{one["findings"][s]} {_plural(s, one["findings"][s])}</span>' for s in SEVERITIES if one["findings"].get(s)
    ]
    told = ", ".join(counts) or ("" if one["state"] == "failed" else "none")
    if not one["worst"]:
        return told
    rest = one["findings"].get("error", 0) + one["findings"].get("warning", 0) - len(one["worst"])
    items = [_item(found) for found in one["worst"]] + ([f"<li>and {rest} more, in the L0's FINDINGS</li>"] if rest > 0 else [])
    return f"<details><summary>{told}</summary><ul>{''.join(items)}</ul></details>"


def _item(found: Mapping[str, str]) -> str:
    about = " ".join(part for part in (found["origin"], found["keyword"]) if part)
    code = f'<b class="{_text(found["severity"])}">{_text(found["severity"])} {_text(found["code"])}</b>'
    return f"<li>{code}{f' ({_text(about)})' if about else ''}: {_text(found['message'])}</li>"


def _stopped(summary: Plain) -> str:
    """Say outright that this is not all of it, where it is not."""
    told = summary["stopped"]
    return f'<p class="bad">{_mark("✗")} {_text(told[:1].upper() + told[1:])}.</p>\n' if told else ""


def _tiles(summary: Plain) -> str:
    """Return the numbers that one looks for first."""
    numbers = [("exposures", summary["exposures"], "")]
    numbers += [(state, summary["states"][state], state) for state in STATES if summary["states"][state] or state == "failed"]
    numbers += [(_plural(s, summary["findings"][s]), summary["findings"][s], s) for s in ("error", "warning")]
    numbers += [("frames missing", summary["frames_missing"], "gap"), ("stray sub-FITS", summary["strays"], "gap")]
    numbers += [("left", summary["left"], "gap")] if summary["left"] else []
    numbers += [("without a begin", summary["undated"], "gap")] if summary["undated"] else []
    tiles = [
        f'<div class="tile {kind if count else ""}"><dt>{_text(name)}</dt><dd>{_text(count)}</dd></div>' for name, count, kind in numbers
    ]
    return f'<dl class="tiles">{"".join(tiles)}</dl>\n'


def _troubles(summary: Plain) -> str:
    """Return what failed and why, and which codes are the errors, each with its exposures."""
    rows = [
        ("✗ failed", f["count"], f["reason"] if f["count"] > 1 else f["example"], _named(f), f["example"] if f["count"] > 1 else "")
        for f in summary["failures"]
    ]
    rows += [("! finding", e["count"], e["code"], _named(e), "") for e in summary["errors"]]
    if not rows:
        return f'<p class="good">{_mark("✓")} Nothing failed, and no L0 has a finding of severity error.</p>\n'
    codes = ", ".join(f"{code} {count}" for code, count in summary["codes"].items())
    return (
        f"<h3>Failures and errors (exit code {_text(summary['exit_code'])})</h3>\n"
        + _table("troubles", ("What", "How many", "Why", "Exposures", "Such as"), (_cells("td", row) for row in rows))
        + (f"<p>All findings by code: {_text(codes)}.</p>\n" if codes else "")
    )


def _named(group: Plain) -> str:
    rest = group["count"] - len(group["exposures"])
    return ", ".join(group["exposures"]) + (f" and {rest} more" if rest else "")


def _overview(nights: Sequence[Plain]) -> str:
    """Return the nights with links to them, where there are several."""
    if len(nights) < 2:
        return ""
    states = [state for state in STATES if any(told["summary"]["states"][state] for told in nights)]
    heads = ("Night", *("exposures", *states, "errors", "warnings", "frames missing", "strays"))
    rows = []
    for told in nights:
        s = told["summary"]
        counts = (s["exposures"], *(s["states"][state] for state in states), s["findings"]["error"], s["findings"]["warning"])
        numbers = "".join(f'<td class="number">{_text(n) if n else ""}</td>' for n in (*counts, s["frames_missing"], s["strays"]))
        link = f'<a href="#{_anchor(told["night"])}">{_text(_base(told["night"]))}</a>'
        rows.append(f'<th scope="row">{link}</th>{numbers}')
    return "<h3>Nights</h3>\n" + _table("nights", heads, rows)


def _legend() -> str:
    return (
        '<p class="legend"><label><input type="checkbox" id="trouble"> '
        "Show only exposures that failed, differ, have errors, or lack an origin</label> "
        "An origin is ✓ attached, or ✗ missing with the reason, or - not triggered; of an exposure that failed it is ○ delivered. "
        "A state is ✓ made, ↻ superseded (a newer version was made), = the same as there was, or ✗ failed; "
        "where nothing was to be written, + new, or ≠ other than there is.</p>\n"
    )


def _gaps(gaps: Sequence[Sequence[int]]) -> str:
    if not gaps:
        return ""
    told = ", ".join(_text(first) if first == last else _text(f"{first} to {last} ({last - first + 1})") for first, last in gaps)
    return f"<h3>Gaps in the frame numbers</h3>\n<p>No sub-FITS has these: {told}.</p>\n"


def _strays(strays: Sequence[Mapping[str, str]]) -> str:
    if not strays:
        return ""
    rows = (_cells("td", (s["origin"], s["path"], s["reason"])) for s in strays)
    return "<h3>Sub-FITS that belong to no exposure</h3>\n" + _table("strays", ("Origin", "Sub-FITS", "Why"), rows)


def _undated(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    return f"<h3>Left out: no sub-FITS tells their begin</h3>\n<p>{', '.join(map(_text, labels))}</p>\n"


def _counted(summary: Plain) -> str:
    states = ", ".join(f"{summary['states'][state]} {state}" for state in STATES if summary["states"][state])
    return f"{summary['exposures']} exposures{f', {states}' if states else ''}"


def _table(kind: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f"{_table_begin(kind, heads)}<tbody>\n{body}</tbody>\n</table></div>\n"


def _table_begin(kind: str, heads: Iterable[str]) -> str:
    head = _cells("th", heads, ' scope="col"')
    return f'<div class="wide"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'


def _cells(tag: str, values: Iterable[object], attributes: str = "") -> str:
    return "".join(f"<{tag}{attributes}>{_text(value)}</{tag}>" for value in values)


def _mark(sign: str) -> str:
    """Return a sign for the eye; the word beside it, or hidden after it, is for everybody."""
    return f'<span class="mark" aria-hidden="true">{sign}</span>'


def _text(value: object) -> str:
    """Return whatever it is as text of HTML, in an element or in a quoted attribute."""
    return escape(as_line(value), quote=True)


def _anchor(night: str) -> str:
    """Return an id for a night; nothing of its name that HTML would act on is in it."""
    return "night-" + night.encode("utf-8", "backslashreplace").hex()


def _base(path: str) -> str:
    return os.path.basename(path.rstrip("/")) or path


def _short(instant: str) -> str:
    """Return an instant to the second."""
    return instant[:19].replace("T", " ")


def _plural(severity: str, count: int) -> str:
    return severity if count == 1 or severity == "info" else f"{severity}s"


@cache
def _style() -> str:
    return files("assembler.reports").joinpath("page.css").read_text(encoding="utf-8")
