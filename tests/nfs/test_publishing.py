"""Publishing over NFS: an L0 is there whole for every host, or not at all, and of several who publish it one does."""

import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from turns import done_before

from assembler.errors import OutputError
from assembler.fits.blocks import scan
from assembler.fits.writer import draft, publish
from assembler.service.finder import find_given, find_night
from assembler.service.reader import verify_l0

ROUNDS = 20


def is_there(path: Path) -> bool:
    """Ask for a name, as one should not: a client remembers that it was not there."""
    with suppress(FileNotFoundError):
        return bool(path.stat())
    return False


def test_an_l0_that_one_host_publishes_is_whole_for_another_that_looked_for_it_before(kpf, night, history_url, make, mounts, tmp_path):
    found = find_night(kpf, night.directory, night.frames[0])
    name = make(found, history_url, tmp_path / "local").path.name
    assert not is_there(mounts.b / name)
    made = make(found, history_url, mounts.a)
    assert os.listdir(mounts.b) == mounts.names() == [name]
    verify_l0(mounts.b / name)
    assert (mounts.b / name).read_bytes() == (mounts.export / name).read_bytes()
    assert made.made


def test_sub_fits_that_are_on_an_nfs_give_the_l0_that_they_give_on_a_local_disk(kpf, night, make, mounts):
    there = mounts.a / night.directory.name
    for path in night.sub_fits(night.frames[0]).values():
        copy = there / path.relative_to(night.directory)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    found = find_night(kpf, mounts.b / night.directory.name, night.frames[0])
    made = make(found, out=mounts.b / "out")
    verify_l0(mounts.a / "out" / made.path.name)
    local = make(find_night(kpf, night.directory, night.frames[0]))
    for mine, theirs in zip(scan(str(made.path)).hdus, scan(str(local.path)).hdus, strict=True):
        assert mine.index == 0 or mine.images == theirs.images  # DATASUM is among them


def test_a_name_that_another_host_took_is_refused_though_this_one_remembers_that_it_was_free(mounts):
    assert not is_there(mounts.b / "x.fits")
    with draft(mounts.a, "x.fits") as mine, draft(mounts.b, "x.fits") as other:
        mine.path.write_bytes(b"mine")
        other.path.write_bytes(b"other")
        publish(mine, "x.fits")
        with pytest.raises(OutputError, match=r"x\.fits exists, and an L0 is never overwritten"):
            publish(other, "x.fits")
    assert mounts.names() == ["x.fits"]
    assert (mounts.b / "x.fits").read_bytes() == b"mine"


def test_of_four_that_publish_from_two_hosts_one_does_and_nothing_stays_of_the_others(mounts, hosts):
    start = threading.Barrier(4)
    winners: list[list[int]] = [[] for _ in range(ROUNDS)]

    def race(who: int) -> None:
        for number in range(ROUNDS):
            with draft(hosts.path, f"{number}.fits") as target:
                target.path.write_bytes(b"%d" % who * 5000)
                start.wait(60)
                with suppress(OutputError):
                    publish(target, f"{number}.fits")
                    winners[number].append(who)

    hosts.run(*(partial(race, who) for who in range(4)))
    assert [len(won) for won in winners] == [1] * ROUNDS
    assert mounts.names() == sorted(f"{number}.fits" for number in range(ROUNDS))
    for number, (who,) in enumerate(winners):
        for side in (mounts.a, mounts.b):
            assert (side / f"{number}.fits").read_bytes() == b"%d" % who * 5000


def test_of_two_hosts_that_assemble_one_exposure_one_makes_it_and_the_other_finds_it_made(one, sub_fits, make, mounts, hosts):
    for name in ("in", "out"):
        (mounts.export / name).mkdir()
    made: list[bool] = []

    def work(stem: str) -> None:
        made.append(make(find_given(one, [str(hosts.path / "in" / f"{stem}.fits")]), out=hosts.path / "out").made)

    for number in range(ROUNDS):
        sub_fits(mounts.a / "in", f"frame{number}")
        hosts.run(*[partial(work, f"frame{number}")] * 2)
        verify_l0(mounts.b / "out" / f"frame{number}.l0.fits")
    assert sorted(made) == [False] * ROUNDS + [True] * ROUNDS
    assert sorted(os.listdir(mounts.export / "out")) == sorted(f"frame{number}.l0.fits" for number in range(ROUNDS))


def test_a_directory_that_another_host_makes_is_written_to_though_this_one_remembers_that_it_was_not_there(one, sub_fits, make, mounts):
    path = sub_fits(mounts.a)
    assert not is_there(mounts.b / "out")
    (mounts.a / "out").mkdir()
    made = make(find_given(one, [str(mounts.b / path.name)]), out=mounts.b / "out")
    verify_l0(mounts.a / "out" / made.path.name)


def test_a_link_whose_answer_was_lost_counts(mounts):
    """The client sends a call again when no answer comes, and is told that the name is taken: by itself."""
    with draft(mounts.a, "x.fits") as target, done_before("os.link", os.link):
        target.path.write_bytes(b"mine")
        publish(target, "x.fits")
    assert mounts.names() == ["x.fits"]
    assert (mounts.b / "x.fits").read_bytes() == b"mine"
