"""The page: well formed, of nothing but its own tags whatever the names and messages are, and readable without colours."""

from dataclasses import replace
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from reports_results import ORIGINS, failed, made, survey, task

from assembler.core.difference import Change
from assembler.core.findings import Finding
from assembler.reports.accounts import bad_night_account, night_account
from assembler.reports.page import page_head, page_section, page_tail
from assembler.reports.tally import Tally
from assembler.service.comparison import Comparison
from assembler.service.survey import Stray

HOSTILE = "</td></table></style><script>alert(1)</script><img src=x onerror='alert(2)'>\" onload=\"x &lt; \x1b[31m\u202e\udce9"
VOID = {"meta", "input"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "h3", "p", "code", "dl", "div", "dt", "dd",
    "table", "thead", "tbody", "tr", "th", "td", "span", "details", "summary", "ul", "li", "b", "a", "label", "input",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "id", "class", "title", "scope", "colspan", "aria-hidden", "href", "type",
}  # fmt: skip


class Page(HTMLParser):
    """Reads a page, and fails where it is not well formed, or has what it is not to have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS
        for name, value in attrs:
            assert name in ATTRIBUTES
            assert value is not None
        told = dict(attrs)
        self.ids += [told["id"]] if "id" in told else []
        if tag == "a":
            assert told["href"].startswith("#night-")
            self.links.append(told["href"][1:])
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            assert "url(" not in data
            assert "@import" not in data
            return
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.cells[-1] += data


def page(accounts, command="assembler night x", instrument="KPF") -> tuple[str, Page]:
    tally = Tally(nights=True)
    overview = [{"night": a["night"], "summary": a["summary"]} for a in accounts]
    overall = {
        "assembler": "1.0",
        "instrument": instrument,
        "command": command,
        "begun": "2024-04-22T08:00:00",
        "ended": "2024-04-22T09:30:00",
    }
    overall |= {"summary": accounts[0]["summary"] if accounts else tally.plain(), "overview": overview}
    text = page_head(overall) + "".join(map(page_section, accounts)) + page_tail(overall)
    read = Page()
    read.feed(text)
    read.close()
    assert read.open == []
    assert len(set(read.ids)) == len(read.ids)
    assert set(read.links) <= set(read.ids)
    return text, read


def hostile_account(text: str):
    night = f"/data/{text.replace('/', '')}"
    worst = (Finding(code="stale", severity="warning", origin=text, keyword=text, message=text),)
    good = made(None, task=task(None, night, text), path=f"/l0/{text}", missing={"red": text}, worst=worst)
    change = Change(kind="changed", part="card", hdu=text, keyword=text, old=(text,), new=(text, text), causes=(text,))
    told = Comparison(path=text, against=text, changes=(change,), left_out={text: 3})
    bad = replace(failed(3, text), comparison=told, task=replace(task(3, night), paths=(("green", f"{night}/{text}"),)))
    there = survey(night, strays=(Stray(origin=text, path=text, reason=text),), undated=(text,))
    return night_account(there, [good, bad], [*ORIGINS, text])


@settings(max_examples=200)
@given(st.one_of(st.just(HOSTILE), st.text(st.characters(codec=None), max_size=80)))
def test_whatever_names_and_messages_are_they_are_text(text):
    accounts = [hostile_account(text), bad_night_account(f"/data/2 {text}", text, 3)]
    written, _ = page(accounts, command=text, instrument=text)
    assert written.encode("utf-8")


def test_what_is_hostile_is_shown_as_it_is_with_what_cannot_be_shown_escaped():
    _, read = page([hostile_account(HOSTILE)])
    assert read.text.count("<script>alert(1)</script>") >= 8
    assert "\\udce9" in read.text
    assert "\\x1b[31m" in read.text
    assert "\u202e" not in read.text


def test_each_cell_says_in_words_what_it_says():
    results = [made(7, version=3, state="superseded"), failed(8, "no room"), made(9, missing={"red": "not-triggered"}, worst=())]
    _, read = page([night_account(survey(), results, ORIGINS)])
    start = read.cells.index("Exposure")
    assert read.cells[start : start + 6] == ["Exposure", "State", "L0", "green", "red", "Findings"]
    rows = read.cells[start + 6 :]
    assert rows[:5] == ["7", "↻ superseded v3", "KP.7.fits", "✓attached", "✗\u00a0truncated"]
    assert rows[5].startswith("1 error, 1 warning, 3 info")
    assert "error truncated (red): red ends early" in rows[5]
    assert rows[6:14] == ["8", "✗ failed", "", "○\u00a0delivered", "✗\u00a0absent", "", "", "no room"]
    assert rows[14:19] == ["9", "✓ made", "KP.9.fits", "✓attached", "-\u00a0not-triggered"]
    assert "No sub-FITS has these: 8 to 9 (2), 12." in read.text
    assert "it is broken" in read.text


def test_when_by_what_and_why_is_on_top():
    _, read = page([night_account(survey(), [failed(8, "no room")], ORIGINS)], command="assembler night 2024apr21")
    top = read.text[: read.text.index("Gaps")]
    for told in (
        "2024-04-22 08:00:00 to 2024-04-22 09:30:00 UTC",
        "L0 assembler 1.0",
        "assembler night 2024apr21",
        "no room",
        "exit code 4",
    ):
        assert told in top


def test_of_many_findings_the_rest_is_counted():
    _, read = page([night_account(survey(), [made(7, findings={"error": 1, "warning": 40, "info": 0})], ORIGINS)])
    assert "and 39 more, in the L0's FINDINGS" in read.text


def test_no_gap_and_no_exposure_that_was_left_out_is_lost_where_there_are_many():
    there = survey(gaps=tuple((n, n) for n in range(100_000, 101_000)), undated=tuple(f"left_{n}.fits" for n in range(1000)))
    _, read = page([night_account(there, [], ORIGINS)])
    assert all(f"{n}" in read.text and f"left_{n - 100_000}.fits" in read.text for n in range(100_000, 101_000))
