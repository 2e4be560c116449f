"""The recorder beside those who make L0s: what a store did not take comes again, in the end once, and nobody waits for it."""

from pathlib import Path
from threading import Event

import pytest
from recording import Recording

from assembler.errors import OutputError
from assembler.service import recorder as module
from assembler.service.recorder import Recorder, recording


class Store:
    """Takes records, or fails as it is told to; it can be waited for until it was asked so often."""

    name = "the store"

    def __init__(self, *troubles: Exception | None) -> None:
        self.troubles = list(troubles)
        self.taken: list[tuple[str, int]] = []
        self.is_closed = False
        self.failed, self.asked, self.took, self.go_on = Event(), Event(), Event(), Event()
        self.go_on.set()

    def put(self, record) -> bool:
        self.asked.set()
        assert self.go_on.wait(60)
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble:
            self.failed.set()
            raise trouble
        self.taken.append((record.columns["obs_id"], record.version))
        self.took.set()
        return True

    def close(self) -> None:
        self.is_closed = True


AWAY = OutputError("the store: connection refused")


def test_what_a_store_did_not_take_comes_again(l0, kpf):
    store, log = Store(AWAY, AWAY), Recording()
    recorder = Recorder(store, log, again=0.001)
    recorder.add(l0, kpf)
    assert store.failed.wait(60)
    assert store.took.wait(60)
    assert recorder.close(60) == 0
    assert store.taken == [("KP.20240422.28832.89", 1)]
    assert log.events() == ["records_wait", "records_go_on"]
    assert store.is_closed


def test_at_the_end_a_store_that_is_away_is_tried_once_more_and_what_is_not_recorded_is_counted(l0, kpf):
    store, log = Store(*[AWAY] * 9), Recording()
    with recording(store, log) as recorder:
        recorder.add(l0, kpf)
        recorder.add(l0.parent / "another.fits", kpf)
        assert store.failed.wait(60)
    assert log.told == [
        ("warning", "records_wait", {"reason": str(AWAY)}),
        ("warning", "records_missing", {"count": 2, "store": "the store"}),
    ]
    assert len(store.troubles) == 7


def test_a_store_that_does_not_answer_holds_up_nobody_longer_than_it_may(l0, kpf, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    store, log = Store(), Recording()
    store.go_on.clear()
    try:
        with recording(store, log) as recorder:
            recorder.add(l0, kpf)
            assert store.asked.wait(60)
        assert log.events() == ["records_missing"]
    finally:
        store.go_on.set()
        recorder._thread.join()


def test_an_l0_that_changes_while_it_is_recorded_is_recorded_again(l0, kpf):
    store = Store()
    store.go_on.clear()
    recorder = Recorder(store, Recording())
    recorder.add(l0, kpf)
    assert store.asked.wait(60)
    recorder.add(l0, kpf)
    store.go_on.set()
    assert recorder.close(60) == 0
    assert len(store.taken) == 2


def test_what_never_will_be_recorded_holds_up_nothing(l0, kpf, night):
    refused = OutputError("the store: exposure_id 1 is taken", retry=False)
    store, log = Store(refused), Recording()
    recorder = Recorder(store, log)
    sub_fits = night.sub_fits(night.frames[0])["red"]
    for path in (l0, sub_fits, Path("/no/such.fits"), l0):
        recorder.add(path, kpf)
    recorder.add(l0, kpf)
    assert recorder.close(60) == 0
    assert [fields["path"] for _, event, fields in log.told if event == "record_refused" and fields["path"] != str(l0)] == [
        str(sub_fits),
        "/no/such.fits",
    ]
    assert str(refused) in [fields["reason"] for _, _, fields in log.told]


def test_what_waits_is_bounded(l0, kpf, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    store, log = Store(*[AWAY] * 9), Recording()
    recorder = Recorder(store, log)
    for number in range(7):
        recorder.add(l0.with_name(f"{number}.fits"), kpf)
        recorder.add(l0, kpf)
    assert len(recorder._waiting) <= 3
    assert recorder.close(60) >= 3


@pytest.mark.parametrize("change", [{"EL": "high"}])
def test_what_cannot_be_a_column_is_told(l0, kpf, change):
    from astropy.io import fits

    for keyword, value in change.items():
        fits.setval(l0, keyword, value=value)
    log = Recording()
    with recording(Store(), log) as recorder:
        recorder.add(l0, kpf)
    assert log.told == [("warning", "record_lacks", {"path": str(l0), "problems": ["zenith_angle: EL is no number"]})]
