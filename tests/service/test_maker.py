"""The maker: an exposure from its sub-FITS to its L0, with every state noted, or an error and nothing noted that is not so."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import kpf_night
import pytest
from recording import Recording
from stepping import ORIGINS, T0, Switched

from assembler.core.exposure import Missing
from assembler.core.readiness import Flight
from assembler.errors import InputError, OutputError, TakenError
from assembler.fits.complete import look
from assembler.service.diary import Diary
from assembler.service.journal import Journal
from assembler.service.journal_reader import ExposureName
from assembler.service.lender import Lender
from assembler.service.log import Silent
from assembler.service.maker import Maker, Order, Setup, missing_of
from assembler.service.reader import verify_l0
from assembler.service.recollection import read_arrival
from assembler.telemetry.urls import open_history


class Shop:
    """A maker with a real journal, and the signatures with which sub-FITS were settled."""

    def __init__(self, directory: Path, instrument, lender: Lender | None = None) -> None:
        self.instrument = instrument
        self.out = directory / "out"
        self.now = T0
        self.signatures: dict[str, tuple[int, int, int]] = {}
        self.journal = Journal(directory / "journal.db", self.clock)
        self.diary = Diary(self.journal, instrument, list, self.clock, Recording())
        self.maker = Maker(
            *(Setup(instrument=instrument), self.out, lender, self.diary),
            version="test",
            clock=self.clock,
            signature=self.signatures.get,
        )

    def clock(self) -> int:
        self.now += 1
        return self.now

    def settle(self, *paths: Path) -> None:
        """Take sub-FITS for settled as they are now."""
        for path in paths:
            self.signatures[str(path)] = look(str(path)).signature

    def order(self, night: kpf_night.Night, origins: tuple[str, ...] = ORIGINS, **more: object) -> Order:
        paths = {origin: night.sub_fits(night.frames[0])[origin] for origin in origins}
        arrivals = tuple(replace(read_arrival(self.instrument, o, str(p)), frame=night.frames[0], at=T0) for o, p in paths.items())
        name = ExposureName(instrument=self.instrument.name, night=str(night.directory), frame=night.frames[0])
        return Order(name=name, flight=Flight(frame=night.frames[0], arrivals=arrivals), **more)

    def story(self, order: Order) -> list[str]:
        return [step.state for step in self.journal.read.history(order.name.key)]

    def make(self, order: Order):
        return self.maker.make(order, Silent())


@pytest.fixture
def shop(tmp_path, kpf, night) -> Iterator[Shop]:
    shop = Shop(tmp_path, kpf)
    shop.settle(*night.sub_fits(night.frames[0]).values())
    yield shop
    shop.diary.close()


@pytest.fixture
def path(night) -> Callable[[str], Path]:
    return lambda origin: night.sub_fits(night.frames[0])[origin]


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2880] ^= 1
    path.write_bytes(content)


def test_an_l0_is_made_and_every_state_is_noted(shop, night):
    order = shop.order(night)
    outcome = shop.make(order)
    verify_l0(outcome.path)
    assert shop.story(order) == ["seen", "ready", "assembling", "verified", "published"]
    entry = shop.diary.entry(order.name)
    assert (entry.l0, entry.version, dict(entry.missing), entry.attempts) == (str(outcome.path), 1, {}, 0)
    assert entry.findings["error"] == sum(f.severity == "error" for f in outcome.plan.findings)
    assert {origin: s.signature for origin, s in entry.sub_fits.items()} == {
        origin: shop.signatures[str(p)] for origin, p in night.sub_fits(night.frames[0]).items()
    }


def test_one_that_is_there_and_the_same_is_left_alone_and_noted_all_the_same(shop, night):
    order = shop.order(night)
    first = shop.make(order)
    before = first.path.stat()
    again = shop.make(order)
    assert (again.made, again.path.stat()) == (False, before)
    assert shop.diary.entry(order.name).state == "published"


def test_why_an_origin_is_missing_is_told_in_the_l0_and_in_the_journal(shop, night):
    lost = Missing(origin="red", reason="truncated", message="red is cut")
    order = shop.order(night, ("green", "guide"), missing=(lost,))
    outcome = shop.make(order)
    told = {"red": "truncated", "ca_hk": "absent", "expmeter": "absent"}
    assert missing_of(outcome) == dict(shop.diary.entry(order.name).missing) == told
    assert next(f.message for f in outcome.plan.findings if f.code == "truncated") == "red is cut"


def test_a_sub_fits_that_is_not_as_it_was_settled_is_an_error_and_nothing_is_made(shop, night, path):
    change(path("red"))
    order = shop.order(night)
    with pytest.raises(InputError, match="changed after it had been whole") as caught:
        shop.make(order)
    assert (caught.value.path, caught.value.retry, caught.value.reason) == (str(path("red")), True, "still-growing")
    path("red").unlink()
    with pytest.raises(InputError, match="there is no such file") as caught:
        shop.make(order)
    assert (caught.value.path, caught.value.retry, caught.value.reason) == (str(path("red")), True, "absent")
    assert not shop.out.exists()
    assert shop.diary.entry(order.name).state == "assembling"


def test_one_that_was_tried_often_enough_is_taken_as_it_is_or_left_out(shop, night, path):
    change(path("red"))
    path("guide").write_bytes(b"no FITS")
    order = shop.order(night, unreadable=frozenset({str(path("red")), str(path("guide"))}))
    outcome = shop.make(order)
    verify_l0(outcome.path)
    assert missing_of(outcome) == {"guide": "unreadable"}


def test_another_one_of_the_same_exposure_is_superseded_only_if_there_is_a_reason(shop, night, path):
    order = shop.order(night)
    first = shop.make(order)
    change(path("red"))
    shop.settle(path("red"))
    with pytest.raises(TakenError) as caught:
        shop.make(order)
    assert caught.value.path == str(first.path)
    assert not caught.value.retry
    with pytest.raises(TakenError):
        shop.make(replace(order, why="red came again", unreadable=frozenset({str(path("red"))})))
    second = shop.make(replace(order, why="red came again"))
    assert (second.version, second.path) == (2, first.path)
    assert second.replaced.is_file()
    assert shop.diary.entry(order.name).version == 2
    assert shop.story(order)[-2:] == ["superseded", "published"]


def test_the_l0_of_another_exposure_is_never_superseded(shop, night, path, tmp_path):
    first = shop.make(shop.order(night))
    content = first.path.read_bytes()
    order = shop.order(night, ("green",))
    stranger = replace(order, name=replace(order.name, night=str(tmp_path / "another")), why="whatever")
    with pytest.raises(TakenError, match=r"is the L0 of another exposure .*; two exposures have one name"):
        shop.make(stranger)
    assert first.path.read_bytes() == content


def test_output_that_fails_is_raised_and_the_attempt_is_counted(shop, night):
    shop.out.write_text("a file in its place")
    order = shop.order(night)
    for attempts in (1, 2):
        with pytest.raises(OutputError) as caught:
            shop.make(order)
        assert caught.value.retry
        shop.diary.note_failure(order.name, caught.value, 0.0)
        assert shop.diary.entry(order.name).attempts == attempts
    shop.out.unlink()
    assert shop.make(order).version == 1
    assert shop.diary.entry(order.name).attempts == 0


def test_a_history_that_does_not_answer_is_told_to_the_lender_and_the_l0_is_made_all_the_same(tmp_path, kpf, night, history_url):
    history = Switched(open_history(history_url))
    log = Recording()
    seconds = [1000.0]
    lender = Lender(kpf, lambda: history, 5.0, log, lambda: seconds[0])
    shop = Shop(tmp_path, kpf, lender)
    shop.settle(*night.sub_fits(night.frames[0]).values())
    history.is_away = True
    order = shop.order(night)
    first = shop.make(order)
    assert "history-unavailable" in {f.code for f in first.plan.findings}
    assert lender.failure
    history.is_away = False
    second = shop.make(replace(order, why="the history is back"))
    assert "history-unavailable" not in {f.code for f in second.plan.findings}
    assert (second.version, lender.failure) == (2, "")
    assert log.events() == ["history_away", "history_answers_again"]
    shop.diary.close()
    lender.close()


def test_an_exposure_whose_name_is_another_by_now_keeps_one_l0(shop, night, path):
    """Its first version has the times of the guide camera, until a camera comes whose times are trusted more."""
    order = shop.order(night, ("guide",))
    first = shop.make(order)
    assert list(missing_of(first).values()) == ["absent"] * 4
    second = shop.make(replace(shop.order(night), why="the others came"))
    assert second.path != first.path
    assert (second.version, [p.name for p in shop.out.glob("*.fits")]) == (2, [second.path.name])
    assert shop.diary.entry(order.name).l0 == str(second.path)
    verify_l0(second.path)


def test_a_journal_that_fails_meanwhile_stops_nothing(shop, night):
    Path(shop.journal.path).unlink()
    order = shop.order(night)
    outcome = shop.make(order)
    verify_l0(outcome.path)
    assert shop.diary.failure
    shop.diary.mend()
    entry = shop.diary.entry(order.name)
    assert (entry.state, entry.l0, len(entry.sub_fits)) == ("published", str(outcome.path), 5)
