"""Processes side by side: each thing is answered once, whatever becomes of the process that has it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from assembler.service.processes import work_in_processes

_DEADLY, _ONCE = 13, 7


def nothing() -> None:
    """Begin."""


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def die_of_some(mark: Path, number: int) -> int:
    """Answer, but be killed by one number always, and by another the first time."""
    if number == _DEADLY or (number == _ONCE and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def pass_through(here: Path, number: int) -> int:
    """Tell that it is begun, go on when that is allowed, and tell that it is done."""
    (here / f"begun{number}").touch()
    while not (here / "on").exists():
        time.sleep(0.005)
    (here / f"done{number}").touch()
    return number


def until(path: Path) -> None:
    while not path.exists():
        time.sleep(0.005)


@pytest.mark.parametrize("count", [1, 3])
def test_each_thing_is_answered_once_by_no_more_processes_than_that(count):
    told = dict(work_in_processes(range(40), count, nothing, double))
    assert {thing: answer[0] for thing, answer in told.items() if answer} == {n: 2 * n for n in range(40)}
    assert len({answer[1] for answer in told.values() if answer}) <= count


def test_a_thing_whose_process_is_killed_is_tried_once_more_and_takes_no_other_with_it(tmp_path):
    told = list(work_in_processes(range(20), 2, nothing, partial(die_of_some, tmp_path / "mark")))
    assert sorted(told) == [(n, None if n == _DEADLY else n) for n in range(20)]


def test_where_every_process_is_killed_there_is_an_end():
    told = list(work_in_processes([_DEADLY] * 3, 2, nothing, partial(die_of_some, Path("/dev/null"))))
    assert told == [(_DEADLY, None)] * 3


def test_things_are_taken_as_they_are_needed():
    taken = []
    things = (taken.append(number) or number for number in range(10**9))
    answers = work_in_processes(things, 2, nothing, double)
    for _ in range(5):
        next(answers)
    answers.close()
    assert len(taken) <= 5 + 2 * 2


def test_what_is_under_way_is_finished_when_it_is_stopped_and_nothing_more_is_begun(tmp_path):
    answers = work_in_processes(range(9), 2, nothing, partial(pass_through, tmp_path))
    (tmp_path / "on").touch()
    next(answers)
    answers.close()
    begun, done = ({path.name.removeprefix(start) for path in tmp_path.glob(f"{start}*")} for start in ("begun", "done"))
    assert begun == done
    assert len(begun) <= 5  # one answer, no more than two under way then, and two more that were given


def test_processes_end_with_their_parent_when_that_is_killed(tmp_path):
    program = f"""
from functools import partial
from pathlib import Path
from test_processes import nothing, pass_through
from assembler.service.processes import work_in_processes
if __name__ == "__main__":
    list(work_in_processes(range(2), 2, nothing, partial(pass_through, Path({str(tmp_path)!r}))))
"""
    script = tmp_path / "parent.py"
    script.write_text(program)
    paths = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[2])))
    reading, writing = os.pipe()  # each descendant has its end of it, until it ends
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, str(script)], stderr=writing, env=environment) as parent:
        os.close(writing)
        for number in range(2):
            until(tmp_path / f"begun{number}")
        parent.kill()
    with open(reading, "rb") as stream:
        assert stream.read() == b""
    assert not list(tmp_path.glob("done*"))
