"""Threads: every result in its place, the first exception raised, nobody left running."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.fits.threads import side_by_side


@given(st.lists(st.integers(), max_size=50), st.integers(1, 4))
def test_results_are_in_the_order_of_the_jobs(jobs, workers):
    assert side_by_side(str, jobs, workers) == [str(job) for job in jobs]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 4))
def test_an_exception_is_raised_where_it_is_waited_for(jobs, workers):
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda job: 1 // job, [*jobs, 0], workers)
    assert threading.active_count() == before


def test_jobs_run_side_by_side():
    together = threading.Barrier(2, timeout=30)
    assert side_by_side(lambda _: together.wait() >= 0, [1, 2]) == [True, True]
