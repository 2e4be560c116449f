"""What a worker keeps of an order: a history for each exposure that is being made, closed when the night is done."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import kpf_night
import pytest
from orders import night_order

from assembler.errors import TelemetryError
from assembler.service import cluster_worker
from assembler.service.cluster_worker import Parcel, Refusal, closed, finish, make_here, pack, refusal, sees
from assembler.service.night import Order
from assembler.service.survey import Task, survey_night

VERSION = "0.1.0"


class Histories:
    """What was opened and is not closed yet; and who meets while asking."""

    opened = 0
    closed = 0
    meeting: threading.Barrier | None = None


class Counted:
    """A history that knows nothing, and is asked by one thread at a time."""

    def __init__(self) -> None:
        Histories.opened += 1
        self._alone = threading.Lock()

    def as_of(self, names, instants):
        assert self._alone.acquire(blocking=False)
        if Histories.meeting:
            Histories.meeting.wait(10)
        self._alone.release()
        return [{} for _ in instants]

    def during(self, names, begin, end):
        return {}

    def interrupt(self) -> None:
        """Nothing lasts."""

    def close(self) -> None:
        Histories.closed += 1


def away() -> Counted:
    raise TelemetryError("history.db: there is no such file")


@pytest.fixture
def order(kpf, tmp_path) -> Iterator[Order]:
    Histories.opened = Histories.closed = 0
    Histories.meeting = None
    yield night_order(kpf, tmp_path / "out", opening=Counted, patience=10.0, version=VERSION)
    for name in list(cluster_worker._kept):
        finish(name)


@pytest.fixture
def tasks(kpf, tmp_path) -> tuple[Task, ...]:
    night = kpf_night.make_night(tmp_path / "data", exposures=2, shape=(4, 4))
    return survey_night(kpf, night.directory).tasks


def test_exposures_one_after_the_other_share_a_history_until_the_night_is_done(order, tasks):
    parcel = pack("one", order)
    assert refusal(parcel, []) == ""
    results = [make_here(parcel, task, trusting=False) for task in tasks]
    assert {result.state for result in results} == {"made"}
    assert (Histories.opened, Histories.closed) == (1, 0)
    finish("one")
    assert (Histories.opened, Histories.closed, dict(cluster_worker._kept)) == (1, 1, {})
    finish("one")  # the message may come twice, and to whom has nothing


def test_two_threads_are_never_lent_the_same_history(order, tasks):
    Histories.meeting = threading.Barrier(2)
    parcel = pack("two", order)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda task: make_here(parcel, task, trusting=False), tasks[:2]))
    assert [result.state for result in results] == ["made", "made"]
    assert Histories.opened == 2
    finish("two")
    assert Histories.closed == 2


def test_nights_that_nobody_ended_do_not_pile_up(order):
    for number in range(10):
        assert refusal(pack(f"night{number}", order), []) == ""
    assert Histories.opened - Histories.closed == len(cluster_worker._kept) == 4


def test_giving_up_waits_for_what_is_being_made(order):
    began, may_end = threading.Event(), threading.Event()
    parcel = pack("busy", order)

    def hold() -> None:
        with cluster_worker._lent(parcel):
            began.set()
            assert may_end.wait(10)

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(hold)
        assert began.wait(10)
        ending = pool.submit(finish, "busy")
        assert not ending.done()
        may_end.set()
        ending.result(10)
        holding.result(10)
    assert (Histories.opened, Histories.closed) == (1, 1)


def test_another_version_is_refused_before_anything_is_unpacked(order, tasks):
    parcel = Parcel(name="old", version="0.0.9", packed=b"no pickle of ours")
    assert "version 0.1.0" in refusal(parcel, [])
    answer = make_here(parcel, tasks[0], trusting=False)
    assert isinstance(answer, Refusal)
    assert "0.0.9" in answer.reason


def test_a_history_that_is_not_there_is_a_reason(order, tasks):
    parcel = pack("away", replace(order, opening=away))
    assert refusal(parcel, []) == "history.db: there is no such file"
    assert make_here(parcel, tasks[0], trusting=False).exit_code == TelemetryError.exit_code


@pytest.mark.parametrize("is_there", [False, True])
def test_an_exposure_with_a_sub_fits_that_cannot_be_opened_is_refused_unless_that_is_known(order, tasks, is_there):
    red = Path(dict(tasks[0].paths)["red"])
    red.unlink()
    if is_there:
        red.symlink_to(red.name)  # it leads to itself
    parcel = pack("red", order)
    answer = make_here(parcel, tasks[0], trusting=False)
    assert (answer.path, answer.reason == closed(str(red)), sees(answer.path)) == (str(red), True, is_there)
    assert not order.out.exists()
    result = make_here(parcel, tasks[0], trusting=True)
    assert (result.state, list(result.missing)) == ("made", ["red"])


def test_what_is_not_there_is_the_reason_and_names_the_path(order, tmp_path):
    parcel = pack("paths", order)
    assert refusal(parcel, [str(tmp_path)]) == ""
    assert os.listdir(order.out) == []
    assert str(tmp_path / "nowhere" / "x") in refusal(parcel, [str(tmp_path / "nowhere" / "x")])
