"""The watcher, round by round: every exposure ends as it should, once, whatever comes late, twice, broken, or never."""

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import Recording
from samples import Memory
from stepping import ORIGINS, SETTLING, Site, Switched

from assembler.core.instants import SECOND
from assembler.core.instrument import Instrument
from assembler.service.maker import Setup

NAME = "KP.20240422.28832.89.fits"


@pytest.fixture(scope="module")
def quick(kpf) -> Instrument:
    """Return an instrument of which every origin has five seconds, so that there are few rounds."""
    return replace(kpf, margin=SECOND, origins=tuple(replace(o, readout=4 * SECOND) for o in kpf.origins))


@pytest.fixture
def site(tmp_path, quick) -> Iterator[Site]:
    site = Site(tmp_path, quick)
    site.start()
    yield site
    site.stop()


@pytest.fixture
def two(tmp_path, quick) -> Iterator[Site]:
    site = Site(tmp_path, quick, exposures=2)
    site.start()
    yield site
    site.stop()


@pytest.fixture
def told(tmp_path, quick) -> Iterator[Site]:
    """Return a site that has a keyword history."""
    site = Site(tmp_path, quick, history=True)
    site.start()
    yield site
    site.stop()


def only(site: Site) -> dict[str, object]:
    (l0,) = site.l0s().values()
    return l0


def test_an_exposure_whose_sub_fits_are_all_there_is_made_at_once(site):
    site.put_all()
    site.go(5)
    assert list(site.l0s()) == [NAME]
    assert (only(site)["attached"], only(site)["version"]) == (ORIGINS, 1)
    assert site.story() == ["seen", "ready", "assembling", "verified", "published"]
    entry = site.entry()
    assert (entry.l0, entry.version, entry.missing) == (str(site.out / NAME), 1, {})
    assert {origin: sighting.path for origin, sighting in entry.sub_fits.items()} == {o: str(site.path(o)) for o in ORIGINS}
    assert all(sighting.signature for sighting in entry.sub_fits.values())
    assert site.warnings() == []
    site.go(1000)
    assert site.log.events().count("published") == 1


def test_one_whose_files_are_seen_to_be_closed_is_made_in_the_same_round(site):
    site.put_all()
    site.round(closed=[site.path(origin) for origin in ORIGINS])
    assert site.states() == {0: "published"}


def test_with_a_history_it_is_made_with_telemetry(told):
    told.put_all()
    told.go(5)
    assert not {"no-history", "history-unavailable"} & only(told)["codes"]
    assert told.story()[-1] == "published"
    assert told.warnings() == []


def test_several_exposures_at_once_in_whatever_order_are_each_made_of_their_own(two):
    for number, origin in enumerate(sorted(itertools.product((0, 1), ORIGINS), key=lambda one: (one[1][1], one[0]))):
        two.put(origin[1], origin[0])
        two.go(0.3 + 0.1 * (number % 3))
    two.go(5)
    assert two.states() == {0: "published", 1: "published"}
    assert {(l0["frame"], l0["attached"], l0["version"]) for l0 in two.l0s().values()} == {(frame, ORIGINS, 1) for frame in two.frames}
    assert two.warnings() == []


def test_at_the_deadline_a_partial_l0_tells_why_others_are_not_in_it(site):
    site.put("green")
    site.put("guide")
    site.put("ca_hk", content=site.contents[site.path("ca_hk")][:-2880])
    for length in range(20):
        site.put("expmeter", content=site.contents[site.path("expmeter")][: 2880 + length])
        site.go(0.5)
        if length < 15:
            assert site.states() in ({}, {0: "waiting"})
    assert only(site)["attached"] == ("green", "guide")
    assert only(site)["reasons"] == {"red": "absent", "ca_hk": "truncated", "expmeter": "still-growing"}
    entry = site.entry()
    assert (entry.state, dict(entry.missing), entry.awaited, entry.until) == ("published", only(site)["reasons"], (), None)
    assert site.story() == ["seen", "waiting", "ready", "assembling", "verified", "published"]
    assert [e for e in site.warnings() if e != "sub_fits_given_up"] == ["gave_up_waiting"]


def test_what_is_awaited_and_until_when_is_in_the_journal(site):
    site.put("green")
    site.go(3.5)
    entry = site.entry()
    assert (entry.state, entry.awaited) == ("waiting", ("red", "ca_hk", "expmeter", "guide"))
    assert entry.until == max(s.signature[1] for s in entry.sub_fits.values()) + SETTLING + 5 * SECOND
    site.put("guide")
    site.go(3.5)
    assert site.entry().awaited == ("red", "ca_hk", "expmeter")
    assert len(site.journal.read.history(site.name().key)) == 3


def test_a_latecomer_makes_a_new_version_that_tells_what_it_replaces_and_why(site):
    site.put_all(but=["red"])
    site.go(20)
    assert (only(site)["version"], only(site)["reasons"]) == (1, {"red": "absent"})
    site.put("red")
    site.go(5)
    l0 = only(site)
    assert (l0["version"], l0["attached"], l0["reasons"]) == (2, ORIGINS, {})
    assert any("red came, or came again" in card for card in l0["history"])
    assert site.superseded() == [NAME.replace(".fits", ".v1.fits")]
    assert (site.entry().state, site.entry().version, dict(site.entry().missing)) == ("published", 2, {})
    assert site.story()[-6:] == ["waiting", "ready", "assembling", "verified", "superseded", "published"]
    site.go(100)
    assert only(site)["version"] == 2


def test_a_sub_fits_that_comes_again_makes_a_new_version_if_it_is_another_one_and_none_if_it_is_the_same(site):
    site.put_all()
    site.go(5)
    site.now += 10 * SECOND
    site.put("red")
    site.go(6)
    assert (only(site)["version"], site.superseded()) == (1, [])
    assert site.log.events()[-1] == "was_there_already"
    assert site.states() == {0: "published"}
    site.put("red", content=site.changed("red"))
    site.go(6)
    assert only(site)["version"] == 2
    assert len(site.superseded()) == 1
    assert (site.states(), site.warnings()) == ({0: "published"}, [])


def test_what_belongs_to_no_exposure_is_told_once_whatever_starts_anew(two):
    two.put("guide", 1)
    two.put_all(0)
    two.go(30)
    assert two.warnings() == ["orphan"]
    assert [s.path for s in two.journal.read.orphans()] == [str(two.path("guide", 1))]
    two.stop()
    two.start()
    two.go(30)
    assert two.warnings() == []
    two.put_all(1, but=["guide"])
    two.go(10)
    assert two.states() == {0: "published", 1: "published"}
    assert {l0["attached"] for l0 in two.l0s().values()} == {ORIGINS}
    assert two.journal.read.orphans() == []


def test_of_two_sub_fits_for_one_place_the_second_is_an_orphan_and_changes_nothing(tmp_path, quick):
    free = replace(quick, origins=tuple(replace(o, files="Green/*.fits") if o.name == "green" else o for o in quick.origins))
    site = Site(tmp_path, free)
    site.put_all()
    site.go(1)
    site.put("green", content=site.changed("green"), path=site.directory / "Green" / "kpf_again.fits")
    site.go(60)
    assert (only(site)["version"], site.states(), site.warnings()) == (1, {0: "published"}, ["orphan"])
    assert [s.path for s in site.journal.read.orphans()] == [str(site.directory / "Green" / "kpf_again.fits")]
    site.stop()
    site.start()
    site.go(60)
    assert (only(site)["version"], site.states(), site.warnings()) == (1, {0: "published"}, [])
    site.stop()


@pytest.mark.parametrize("stopped", [False, True])
def test_an_exposure_of_which_only_a_broken_sub_fits_came_fails_and_is_made_when_it_is_whole(site, stopped):
    site.put("red", content=site.contents[site.path("red")][:-2880])
    site.go(30)
    assert site.states() == {0: "failed"}
    assert "bytes of data" in site.entry().reason
    assert (site.l0s(), site.warnings()) == ({}, ["sub_fits_given_up"])
    if stopped:
        site.stop()
    site.now += 30 * SECOND
    site.put("red")
    site.go(30)
    assert (only(site)["attached"], site.states()) == (("red",), {0: "published"})


def test_a_name_that_another_exposure_has_fails_one_and_the_others_go_on(two):
    """A second exposure says that it was at the very time of the first."""
    two.put_all(0)
    two.go(5)
    frame = str(two.frames[0]).encode()
    for origin in ("green", "red"):
        path = two.path(origin, 0)
        content = two.contents[path].replace(frame, b"215999")
        two.put(origin, path=path.with_name(path.name.replace(frame.decode(), "215999")), content=content)
    two.go(20)
    two.put_all(1)
    two.go(5)
    failed = two.journal.read.exposure(replace(two.name(), frame=215999).key)
    assert (failed.state, failed.next_attempt) == ("failed", None)
    assert NAME in failed.reason
    assert two.states() == {0: "published", 1: "published"}
    assert {l0["frame"] for l0 in two.l0s().values()} == set(two.frames)
    assert two.log.events().count("failed") == 1
    two.put(
        "ca_hk", path=two.path("ca_hk").with_name("kpf_hk_215999.fits"), content=two.contents[two.path("ca_hk")].replace(frame, b"215999")
    )
    two.go(10)
    assert "two exposures have one name" in two.journal.read.exposure(replace(two.name(), frame=215999).key).reason
    assert {l0["version"] for l0 in two.l0s().values()} == {1}


def test_without_its_history_an_exposure_is_made_and_made_again_when_that_is_back(told):
    told.history.is_away = True
    told.put_all()
    told.go(30)
    assert "history-unavailable" in only(told)["codes"]
    assert told.states() == {0: "waiting"}
    told.history.is_away = False
    told.go(100)
    l0 = only(told)
    assert (l0["version"], told.states()) == (2, {0: "published"})
    assert "history-unavailable" not in l0["codes"]
    assert any("the keyword history answers again" in card for card in l0["history"])
    assert told.warnings() == ["history_away"]


def test_what_waits_for_the_history_does_so_after_a_new_start_too(told):
    told.history.is_away = True
    told.put_all()
    told.go(30)
    told.stop()
    told.start()
    told.go(30)
    assert (only(told)["version"], told.states()) == (1, {0: "waiting"})
    told.stop()
    told.history.is_away = False
    told.start()
    told.go(10)
    assert (only(told)["version"], told.states()) == (2, {0: "published"})
    told.go(200)
    assert only(told)["version"] == 2


def test_what_waits_for_the_history_is_not_forgotten_with_its_night(tmp_path, quick):
    site = Site(tmp_path, quick, history=True, root=True)
    site.history.is_away = True
    site.put_all()
    site.go(10)
    for day in range(22, 27):
        night = site.directory.with_name(f"2024apr{day}")
        content = site.contents[site.path("guide")].replace(b"2024-04-22T", f"2024-05-{day}T".encode())
        site.put("guide", path=night / "CRED2" / "kpfguide_cube_1.fits", content=content)
        site.go(10)
    assert str(site.directory) not in site.watcher.scanner.nights()
    site.history.is_away = False
    site.go(100)
    assert (only(site)["version"], site.states()) == (2, {0: "published"})
    site.go(20)
    assert str(site.directory) not in site.watcher.board.nights()
    site.stop()


def test_who_was_triggered_is_all_that_an_exposure_waits_for(tmp_path, quick):
    site = Site(tmp_path, quick)
    site.history = Switched(Memory({"kpfconfig.TRIGTARG": {1e9: "Green,Guide"}, "kpfexpose.EXPTIME": {site.now / 1e9: "30"}}))
    for origin in ("green", "guide"):
        site.put(origin)
    site.go(3.5)
    assert only(site)["attached"] == ("green", "guide")
    assert set(only(site)["reasons"].values()) == {"not-triggered"}
    assert "gave_up_waiting" not in site.log.events()
    site.stop()


def test_two_nights_with_the_same_frame_numbers_are_never_mixed(tmp_path, quick):
    site = Site(tmp_path, quick, root=True)
    other = site.directory.with_name("2024may21")
    for origin in ORIGINS:
        path = other / site.path(origin).relative_to(site.directory)
        content = site.contents[site.path(origin)].replace(b"2024-04-22T", b"2024-05-22T")
        assert content != site.contents[site.path(origin)]
        if origin in ("green", "red"):
            site.put(origin)
        if origin not in ("green", "red") or origin == "green":
            site.put(origin, path=path, content=content)
    site.go(20)
    l0s = site.l0s()
    assert {name: l0["attached"] for name, l0 in l0s.items()} == {
        NAME: ("green", "red"),
        NAME.replace("20240422", "20240522"): ("green", "ca_hk", "expmeter", "guide"),
    }
    assert {l0["frame"] for l0 in l0s.values()} == {site.frames[0]}
    assert {e.name.night: sorted(e.sub_fits) for e in site.journal.read.last(10)} == {
        str(site.directory): ["green", "red"],
        str(other): ["ca_hk", "expmeter", "green", "guide"],
    }
    site.stop()


def test_another_yaml_holds_for_what_is_in_flight_and_nothing_is_made_again(two):
    two.put_all(0)
    two.put_all(1, but=["guide"])
    two.go(4)
    assert two.states() == {0: "published", 1: "waiting"}
    origins = tuple(replace(o, required=o.name != "guide") for o in two.instrument.origins)
    two.watcher.take(Setup(instrument=replace(two.instrument, origins=origins)))
    two.go(0.5)
    two.go(3)
    assert two.states() == {0: "published", 1: "published"}
    assert [l0["version"] for l0 in two.l0s().values()] == [1, 1]
    assert two.log.events().count("published") == 2
    assert "was_there_already" not in two.log.events()


class Faulty(Recording):
    """A log with a bug: it cannot tell that one frame is being assembled."""

    frame = 0

    def debug(self, event: str, **fields: object) -> None:
        if self.bound.get("frame") == Faulty.frame:
            raise ZeroDivisionError("a bug")
        super().debug(event, **fields)

    def bind(self, **fields: object) -> "Faulty":
        return Faulty(self.told, {**self.bound, **fields})


def test_a_bug_in_one_exposure_fails_that_one_only(two):
    Faulty.frame = two.frames[0]
    two.log = two.watcher._log = Faulty()
    two.put_all(0)
    two.put_all(1)
    two.go(10)
    assert two.states() == {0: "failed", 1: "published"}
    assert "ZeroDivisionError" in two.entry().reason
    assert two.log.events().count("bug") == 1
    assert [l0["frame"] for l0 in two.l0s().values()] == [two.frames[1]]


def test_output_that_fails_is_tried_again_with_pauses_and_fills_no_history(site):
    site.put_all(but=["red"])
    site.out.write_text("a file in its place")
    site.go(300)
    assert site.states() == {0: "failed"}
    assert site.entry().next_attempt is not None
    attempts = site.log.events().count("failed")
    assert 5 < attempts < 10
    assert site.entry().attempts == attempts
    assert site.log.events().count("gave_up_waiting") == attempts
    assert len(site.journal.read.history(site.name().key)) <= 3 + 3 * attempts
    site.out.unlink()
    site.go(300)
    assert (only(site)["version"], site.states()) == (1, {0: "published"})
    site.out.rename(site.out.with_name("kept"))
    site.out.write_text("a file in its place")
    site.put("red")
    site.go(60)
    notes = len(site.journal.read.history(site.name().key))
    assert site.states() == {0: "failed"}
    site.go(4)
    assert len(site.journal.read.history(site.name().key)) <= notes + 4


def test_while_it_may_not_go_on_nothing_is_made_and_nobody_is_kept_busy(site):
    site.may_go_on = lambda: False
    site.put_all()
    site.go(4)
    assert site.states() == {}
    assert site.round() > site.now + SECOND // 2
    site.may_go_on = lambda: True
    site.go(1.5)
    assert site.states() == {0: "published"}


def test_a_sub_fits_that_changes_just_before_it_is_read_is_waited_for_once_more(site):
    def change() -> bool:
        site.may_go_on = lambda: True
        site.put("red", content=site.changed("red"))
        return True

    site.put_all()
    site.now += 1
    site.may_go_on = change
    site.go(3.5)
    assert site.states() == {0: "waiting"}
    assert site.warnings() == ["sub_fits_changed"]
    site.go(5)
    assert (only(site)["attached"], only(site)["version"], site.states()) == (ORIGINS, 1, {0: "published"})
    assert site.changed("red")[-2880] == site.path("red").read_bytes()[-2880]


def test_a_sub_fits_that_changes_each_time_it_is_read_is_taken_as_it_is_at_last(site):
    def change() -> bool:
        if not site.l0s():
            os.utime(site.path("red"), ns=(site.now, site.now))
        return True

    site.put_all()
    site.now += 1
    site.may_go_on = change
    site.go(60)
    assert (only(site)["attached"], only(site)["version"], site.states()) == (ORIGINS, 1, {0: "published"})
    assert 4 <= site.warnings().count("sub_fits_changed") <= 5


def test_while_a_sub_fits_changes_no_version_is_made_without_it(site):
    """A latecomer comes when another one is being written again; that one is in the next version, or is left out when it never ends."""
    site.put_all(but=["guide"])
    site.go(20)
    site.put("guide")
    site.go(2)
    for length in range(8):
        site.put("green", content=site.contents[site.path("green")][: 2880 + length])
        site.go(0.25)
    assert (only(site)["version"], only(site)["attached"], site.states()) == (1, ORIGINS[:-1], {0: "published"})
    site.put("green")
    site.go(5)
    assert (only(site)["version"], only(site)["attached"], site.states()) == (2, ORIGINS, {0: "published"})
    site.put("red", content=site.changed("red"))
    site.go(2.7)
    site.path("green").unlink()
    site.go(20)
    assert (only(site)["version"], only(site)["reasons"], site.states()) == (3, {"green": "absent"}, {0: "published"})
    site.put("green")
    site.go(20)
    assert (only(site)["version"], only(site)["attached"]) == (4, ORIGINS)


def test_an_exposure_whose_only_sub_fits_is_gone_before_it_is_read_fails_and_is_made_when_that_is_back(site):
    def remove() -> bool:
        site.may_go_on = lambda: True
        site.path("red").unlink()
        return True

    site.put("red")
    site.may_go_on = remove
    site.go(20)
    assert site.states() == {0: "failed"}
    site.stop()
    site.start()
    site.go(5)
    assert site.states() == {0: "failed"}
    site.put("red")
    site.go(20)
    assert (only(site)["attached"], site.states()) == (("red",), {0: "published"})


def test_an_exposure_in_flight_whose_files_are_gone_at_the_next_start_is_left_by_the_journal(two):
    two.put("red", 0)
    two.put("red", 1)
    two.go(4)
    assert two.states() == {0: "waiting", 1: "waiting"}
    two.stop()
    two.path("red", 0).unlink()
    two.start()
    two.go(30)
    assert two.states() == {0: "failed", 1: "published"}
    assert "none of its sub-FITS is there" in two.entry(0).reason


def test_no_deadline_passes_while_the_place_is_away(site):
    site.put_all(but=["red"])
    site.go(4)
    aside = site.directory.with_name("aside")
    site.directory.rename(aside)
    site.go(100)
    assert site.states() == {0: "waiting"}
    assert site.warnings() == ["input_gone"]
    aside.rename(site.directory)
    site.go(1)
    assert site.states() == {0: "waiting"}
    site.put("red")
    site.go(4)
    assert (only(site)["attached"], only(site)["version"]) == (ORIGINS, 1)
    assert site.log.events().count("input_is_back") == 1


def test_many_exposures_that_are_ready_at_once_are_made_some_at_a_time(two):
    class Slow(Recording):
        def debug(self, event: str, **fields: object) -> None:
            two.now += 3 * SECOND

        def bind(self, **_fields: object) -> "Slow":
            return self

    two.watcher._log = Slow()
    two.put_all(0)
    two.put_all(1)
    assert two.round(closed=[two.path(o, n) for o in ORIGINS for n in (0, 1)]) < two.now
    assert two.states() == {0: "published"}
    two.round()
    assert two.states() == {0: "published", 1: "published"}


def test_a_clock_that_is_set_is_told_and_changes_nothing(site):
    site.put_all(but=["guide"])
    site.go(2)
    site.wall = -(10**5) * SECOND
    site.go(3)
    assert site.warnings() == ["clock_was_set"]
    site.put("guide")
    site.go(4)
    assert (only(site)["attached"], site.states()) == (ORIGINS, {0: "published"})


def test_an_announced_file_is_found_in_a_night_that_is_not_active_and_nothing_there_is_made_again(tmp_path, quick):
    site = Site(tmp_path, quick, exposures=2, root=True)
    announced: dict[float, str] = {}
    told = {"kpfgreen.FITSFILE": announced, "kpfconfig.TRIGTARG": {1e9: "Green"}, "kpfexpose.EXPTIME": {site.now / 1e9: "30"}}
    site.history = Switched(Memory(told))
    site.put("green", 0)
    site.go(5)
    for day in range(22, 27):
        night = site.directory.with_name(f"2024apr{day}")
        frame = str(site.frames[0]).encode()
        content = site.contents[site.path("green")].replace(b"2024-04-22T", f"2024-05-{day}T".encode()).replace(frame, b"2159%d" % day)
        site.put("green", path=night / "Green" / f"kpf_2159{day}.fits", content=content)
        site.go(6)
    assert str(site.directory) not in site.watcher.board.nights()
    made = site.log.events().count("published")
    site.put("green", 1)
    announced[site.now / 1e9] = f"/s/sdata1701/kpf1/{site.directory.name}/Green/{site.path('green', 1).name}"
    site.go(0.2)
    announced[site.now / 1e9] = str(site.path("green", 1))
    site.go(4.5)
    assert site.states() == {0: "published", 1: "published"}
    assert site.log.events().count("published") == made + 1
    assert "was_there_already" not in site.log.events()
    site.stop()


def test_the_nights_of_a_root_are_taken_over_one_by_one_and_only_the_active_ones_are_kept(tmp_path, quick):
    site = Site(tmp_path, quick, root=True)
    for day in range(10, 20):
        night = site.directory.with_name(f"2024apr{day}")
        content = site.contents[site.path("green")].replace(b"2024-04-22T", f"2024-05-{day}T".encode())
        site.put("green", path=night / "Green" / f"kpf_{site.frames[0]}.fits", content=content)
    shutil.rmtree(site.directory)
    site.go(60)
    assert len(site.l0s()) == 10
    site.stop()
    site.start()
    site.go(3)
    assert set(site.watcher.board.nights()) <= set(site.watcher.scanner.nights())
    assert site.log.events().count("night_taken_over") >= 10
    assert "was_there_already" not in site.log.events()
    assert [e.state for e in site.journal.read.last(100)] == ["published"] * 10
    site.stop()


def test_what_was_done_by_another_watcher_meanwhile_is_not_done_again(site):
    """It lost the lease while an exposure was in flight, and has it again when that was published partially."""
    site.put_all(but=["red"])
    site.go(4)
    site.may_go_on = lambda: False
    other = Site.__new__(Site)
    other.__dict__ |= site.__dict__
    other.may_go_on = lambda: True
    other.journal_path = site.journal_path.with_name("other.db")
    other.start()
    other.go(20)
    other.stop()
    assert only(site)["reasons"] == {"red": "absent"}
    site.now = other.now
    site.put("red")
    site.may_go_on = lambda: True
    site.watcher.resume()
    site.go(10)
    assert (only(site)["version"], only(site)["attached"], site.states()) == (2, ORIGINS, {0: "published"})
    assert "failed" not in site.log.events()


def test_nothing_is_kept_of_exposures_that_are_done(tmp_path, quick):
    site = Site(tmp_path, quick, exposures=6, history=True)
    site.history.is_away = True
    for number in range(6):
        site.put_all(number, but=["red"] if number % 2 else [])
        site.go(4)
    site.history.is_away = False
    site.go(100)
    assert set(site.states().values()) == {"published"}
    watcher = site.watcher
    for kept in (watcher._begun, watcher._notes._waiting, watcher._hold, watcher._unreadable, watcher._unanswered):
        assert not kept
    assert [asked.told for asked in watcher._roll._nights.values()] == [{}]
    assert watcher.tracker.following == 0
    assert watcher.board.flights(str(site.directory)) == ()
    site.stop()


class Killed(BaseException):
    """What stands for a kill: nothing that is done afterwards counts."""


SCRIPT = (
    *((0.0, origin, 0, "whole") for origin in ("green", "ca_hk", "guide")),
    (1.0, "red", 0, "cut"),
    (1.5, "expmeter", 0, "whole"),
    (2.5, "red", 0, "whole"),
    *((6.0, origin, 1, "whole") for origin in ("red", "green", "expmeter")),
    (6.5, "guide", 2, "whole"),
    (9.0, "ca_hk", 2, "cut"),
    (13.0, "green", 0, "changed"),
    (22.0, "guide", 1, "whole"),
    (24.0, "green", 1, "whole"),
)
"""A night in short: seconds, origin, number of the exposure, what is written. The first is complete, and one of its files comes again;
the second gets a latecomer and, in the end, lacks one; of the third there is an orphan, and a file that is never whole."""


def play(site: Site, kills: list[int]) -> Site:
    """Play the night; the process is killed at calls of its clock, which it asks for every note and every L0, and begun anew."""
    left = [0]

    def may_live() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    site.alive = may_live
    coming = list(SCRIPT)
    begun = site.now
    last = begun + 50 * SECOND
    left[0] = kills.pop(0) if kills else 0
    while site.now < last:
        while coming and begun + coming[0][0] * SECOND <= site.now:
            _, origin, number, what = coming.pop(0)
            content = site.contents[site.path(origin, number)]
            site.put(origin, number, {"whole": content, "cut": content[:-2880], "changed": site.changed(origin, number)}[what])
        try:
            until = site.round()
        except Killed:
            site.kill()
            left[0] = kills.pop(0) if kills else 0
            continue
        site.now = max(site.now, min(until, site.now + SECOND // 2))
    return site


def ending(site: Site) -> dict[str, object]:
    """Return how the night ended: of each exposure its state and what its L0 has, and what is left over."""
    entries = {number: site.entry(number) for number in sorted(site.states())}
    return {
        "states": site.states(),
        "l0s": {name: (l0["frame"], l0["attached"], l0["reasons"]) for name, l0 in site.l0s().items()},
        "in the journal": {number: (os.path.basename(e.l0), sorted(e.sub_fits), dict(e.missing)) for number, e in entries.items()},
        "orphans": [s.path.removeprefix(str(site.directory)) for s in site.journal.read.orphans()],
    }


class Undisturbed:
    """How the night ends for a watcher that is never stopped."""

    def __init__(self, directory: Path, instrument: Instrument) -> None:
        self.instrument = instrument
        site = play(Site(directory, instrument, exposures=3), [])
        self.end = ending(site)
        site.stop()
        assert self.end["states"] == {0: "published", 1: "published", 2: "failed"}
        assert [(attached, reasons) for _, attached, reasons in self.end["l0s"].values()] == [
            (ORIGINS, {}),
            (("green", "red", "expmeter", "guide"), {"ca_hk": "absent"}),
        ]
        assert [len(sub_fits) for _, sub_fits, _ in self.end["in the journal"].values()] == [5, 4, 1]
        assert len(self.end["orphans"]) == 1


@pytest.fixture(scope="module")
def undisturbed(quick, tmp_path_factory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("night"), quick)


@settings(max_examples=15)
@given(kills=st.lists(st.one_of(st.integers(1, 60), st.integers(1, 400)), min_size=1, max_size=5))
def test_killed_at_any_moments_and_begun_anew_the_night_ends_as_without(tmp_path_factory, undisturbed, kills):
    directory = tmp_path_factory.mktemp("night")
    site = play(Site(directory, undisturbed.instrument, exposures=3), list(kills))
    assert ending(site) == undisturbed.end
    for name, l0 in site.l0s().items():
        stem = name.removesuffix(".fits")
        assert [n for n in site.superseded() if n.startswith(stem)] == [f"{stem}.v{version}.fits" for version in range(1, l0["version"])]
        assert l0["version"] <= 3 + len(kills)
    site.stop()
    shutil.rmtree(directory)
