"""Processes side by side: each thing is answered once, whatever becomes of the process that has it."""

import os
import signal
import subprocess
import sys
import textwrap
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
    assert len(taken) <= 5 + 1 + 2 * 2  # the other process may have answered, too, and each has two in hand


def hold(here: Path, number: int) -> int:
    """Have something half done until the end of time, and remove it on the way out, unless nobody may say when that is."""
    half = here / f"half{number}"
    half.touch()
    try:
        until(here / "never")
    except KeyboardInterrupt:
        if (here / "deaf").exists():
            (here / f"heard{number}").touch()
            until(here / "never")
        raise
    finally:
        half.unlink()
    return number


def test_what_is_under_way_is_answered_when_it_is_over_and_nothing_more_is_begun(tmp_path):
    over = []
    answers = work_in_processes(range(99), 2, nothing, partial(pass_through, tmp_path), lambda: bool(over))
    (tmp_path / "on").touch()
    told = [number for number, _ in (next(answers), next(answers))]
    (tmp_path / "on").unlink()
    over.append("from now on")
    (tmp_path / "on").touch()
    told += [number for number, _ in answers]
    begun, done = ({int(path.name.removeprefix(start)) for path in tmp_path.glob(f"{start}*")} for start in ("begun", "done"))
    assert set(told) == begun == done
    assert len(told) == len(set(told)) < 10


def test_when_it_is_over_before_it_begins_nothing_is_done(tmp_path):
    assert list(work_in_processes(range(9), 2, nothing, partial(pass_through, tmp_path), lambda: True)) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("deaf", [False, True])
def test_an_interrupt_has_what_is_under_way_given_up_and_one_more_kills_who_does_not_listen(tmp_path, deaf):
    program = """
    try:
        list(work_in_processes(range(9), 2, nothing, partial(hold, HERE)))
    except KeyboardInterrupt:
        print("stopped")
    """
    if deaf:
        (tmp_path / "deaf").touch()
    with begin_parent(tmp_path, program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        for number in range(2):
            until(tmp_path / f"half{number}")
        os.killpg(parent.pid, signal.SIGINT)
        if deaf:
            for number in range(2):
                until(tmp_path / f"heard{number}")
            os.killpg(parent.pid, signal.SIGINT)
        assert parent.communicate() == ("stopped\n", "")
    assert bool(list(tmp_path.glob("half*"))) == deaf


def test_what_is_under_way_is_finished_when_it_is_stopped_and_nothing_more_is_begun(tmp_path):
    answers = work_in_processes(range(9), 2, nothing, partial(pass_through, tmp_path))
    (tmp_path / "on").touch()
    next(answers)
    answers.close()
    begun, done = ({path.name.removeprefix(start) for path in tmp_path.glob(f"{start}*")} for start in ("begun", "done"))
    assert begun == done
    assert len(begun) <= 5  # one answer, no more than two under way then, and two more that were given


def server_of(_number: int) -> int:
    """Tell which process this one was forked from."""
    return os.getppid()


def begin_parent(here: Path, program: str, **streams: int) -> subprocess.Popen[str]:
    """Run a program that may use what this module has, in a session of its own."""
    script = here / "parent.py"
    script.write_text(
        "import os, signal\nfrom functools import partial\nfrom pathlib import Path\nfrom test_processes import *\n"
        f"from assembler.service.processes import begin_server\nHERE = Path({str(here)!r})\nif __name__ == '__main__':\n"
        + textwrap.indent(textwrap.dedent(program), "    ")
    )
    paths = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[2])))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True, text=True, **streams)


def test_what_a_terminal_sends_to_all_stops_neither_the_server_nor_the_processes(tmp_path):
    """Neither while the server imports what it has to, nor later; what it means is the parent's business."""
    program = """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    begin_server(["numpy", "astropy.io.fits"])
    servers = set()
    for _ in range(2):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.killpg(0, number)
        servers |= {server for _, server in work_in_processes(range(4), 2, nothing, server_of)}
    print(len(servers))
    """
    with begin_parent(tmp_path, program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.communicate() == ("1\n", "")
        assert parent.returncode == 0


def test_a_server_that_is_killed_is_begun_once_more_and_signals_stop_that_one_neither(tmp_path):
    program = """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    servers = set()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        told = {server for _, server in work_in_processes(range(4), 2, nothing, server_of)}
        servers |= told
        if number == signal.SIGKILL:
            os.kill(told.pop(), number)
        else:
            os.killpg(0, number)
    print(len(servers))
    """
    with begin_parent(tmp_path, program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.communicate() == ("2\n", "")


def test_where_there_is_no_room_for_so_many_processes_it_is_done_by_fewer(tmp_path):
    program = """
    import resource
    begin_server()
    room = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (room + 12, room + 12))
    told = list(work_in_processes(range(40), 30, nothing, double))
    print(len(told), 1 <= len({process for _, (_, process) in told}) < 30)
    """
    with begin_parent(tmp_path, program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:  # Python's server tells of it
        assert parent.communicate()[0] == "40 True\n"


def test_processes_end_with_their_parent_when_that_is_killed(tmp_path):
    program = "list(work_in_processes(range(2), 2, nothing, partial(pass_through, HERE)))"
    reading, writing = os.pipe()  # each descendant has its end of it, until it ends
    with begin_parent(tmp_path, program, stderr=writing) as parent:
        os.close(writing)
        for number in range(2):
            until(tmp_path / f"begun{number}")
        parent.kill()
    with open(reading, "rb") as stream:
        assert stream.read() == b""
    assert not list(tmp_path.glob("done*"))
