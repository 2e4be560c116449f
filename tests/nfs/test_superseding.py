"""Superseding over NFS: a reader on another host finds one whole version, never none, and of all who supersede none is lost."""

import itertools
import os
import random
import threading
from collections import deque
from functools import partial

import pytest
from standins import NAME, chain, look, replace_once, write
from turns import take_turns

from assembler.service.finder import find_given
from assembler.service.reader import verify_l0

VERSIONS = 12


def test_a_reader_on_another_host_finds_one_whole_version_after_another_and_never_none(one, sub_fits, make, mounts):
    path = sub_fits(mounts.a)
    (mounts.export / "out").mkdir()

    def assemble(value: int):
        sub_fits(mounts.a, rows=100, value=value)
        return make(find_given(one, [str(path)]), out=mounts.a / "out", supersede=f"value {value}")

    first = assemble(0)
    made = [first.path.read_bytes()]
    read: deque[bytes] = deque()
    done = threading.Event()
    errors: list[OSError] = []

    def reader() -> None:
        there = mounts.b / "out" / first.path.name
        while not done.is_set():
            try:
                found = there.read_bytes()
            except OSError as error:
                errors.append(error)
                return
            if not read or found != read[-1]:
                read.append(found)

    thread = threading.Thread(target=reader)
    thread.start()
    for value in range(1, VERSIONS):
        outcome = assemble(value)
        assert outcome.version == value + 1
        made.append(outcome.path.read_bytes())
    done.set()
    thread.join()
    assert errors == []
    numbers = [made.index(found) for found in read]
    assert numbers == sorted(set(numbers))
    verify_l0(mounts.b / "out" / first.path.name)
    assert sorted(os.listdir(mounts.export / "out")) == [first.path.name, "superseded"]
    kept = [f"{first.path.stem}.v{version}.fits" for version in range(1, VERSIONS)]
    assert [(mounts.b / "out" / "superseded" / name).read_bytes() for name in kept] == made[:-1]


@pytest.mark.parametrize("kills", [0, 1])
def test_in_whatever_order_two_hosts_go_no_version_is_lost_and_none_is_there_twice(mounts, kills):
    """A worker on each host; they take turns at every call, in an order that is chosen at random, and one may be killed."""
    for seed in range(25):
        generator = random.Random(seed)
        names = f"{seed:03d}"
        (mounts.export / names).mkdir()
        write(mounts.a / names / NAME, {"version": 1, "id": "first", "over": None})
        directories = [mounts.a / names, mounts.b / names]
        for directory in directories:
            look(directory / NAME)
        won: list[str] = []
        works = [partial(replace_once, directory, f"w{worker}-", won) for worker, directory in enumerate(directories)]
        killed = {worker: generator.randint(1, 25) for worker in generator.sample(range(2), kills)}
        sticky = generator.choice([1, 3, 9])
        choices = itertools.chain.from_iterable(
            itertools.repeat(generator.randrange(10**6), generator.randint(1, sticky)) for _ in itertools.count()
        )
        for _ in take_turns(works, choices, killed):
            pass
        replace_once(mounts.a / names, "last-", won)
        there = chain(mounts.export / names)
        assert set(won) <= set(there)
        assert there[-1] == won[-1]
        # Who is killed in here goes on having files open, which so keep a name `.nfs...` when they are removed.
        assert [name for name in sorted(os.listdir(mounts.export / names)) if not (killed and name.startswith(".nfs"))] == [
            "superseded",
            NAME,
        ]


def test_two_hosts_that_go_at_their_own_pace_lose_no_version(mounts, hosts):
    write(mounts.a / NAME, {"version": 1, "id": "first", "over": None})
    won: list[str] = []

    def work(who: int) -> None:
        for turn in range(10):
            replace_once(hosts.path, f"w{who}-{turn}-", won)

    hosts.run(partial(work, 0), partial(work, 1))
    there = chain(mounts.export)
    assert set(won) <= set(there)
    assert len(won) == 20
    assert mounts.names() == ["superseded", NAME]


def test_who_reads_the_old_version_on_the_host_that_replaces_it_reads_it_to_its_end_and_nothing_stays(mounts):
    """For such a reader the client gives the old file a name `.nfs...` until it is closed, which takes a call of its own."""
    write(mounts.a / NAME, {"version": 1, "id": "first", "over": None})
    won: list[str] = []
    with (mounts.a / NAME).open("rb", buffering=0) as reader:
        replace_once(mounts.a, "mine", won)
        assert b'"first"' in reader.read()
        assert [name for name in os.listdir(mounts.export) if name.startswith(".nfs")]
        assert chain(mounts.b) == ["first", "mine0"]
    assert mounts.names() == ["superseded", NAME]
