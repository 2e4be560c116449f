"""S3, as moto's server stands in for it: large objects, servers that know less, and those who are quicker."""

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import stores

from assembler.core.places import TEMPLATE, Place
from assembler.errors import OutputError, TakenError
from assembler.service import destination_s3
from assembler.service.archive import Order, archive_l0
from assembler.service.destination import read_content
from assembler.service.destination_urls import open_destination

STRACE = shutil.which("strace")
FOLDER = "20240422"
LARGE = Place(folder=("a",), name="large.fits")


@pytest.fixture
def s3(monkeypatch):
    with stores.s3_server() as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def store(s3):
    return stores.bucket(s3)


def order(destination):
    return Order(destination=destination, template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: 0)


def archive(store, *l0s):
    with closing(open_destination(store.url)) as destination:
        return [archive_l0(l0, order(destination)) for l0 in l0s]


def add(store, place, data):
    with closing(open_destination(store.url)) as destination:
        destination.add(place, io.BytesIO(data), read_content(io.BytesIO(data).read))
        return destination.content(place)


def uploads(s3):
    return s3.client().list_multipart_uploads(Bucket=stores.BUCKET).get("Uploads", [])


def test_a_large_object_is_sent_in_parts_and_is_whole(s3, store):
    data = os.urandom(destination_s3._PART * 2 + 4321)
    assert add(store, LARGE, data) == read_content(io.BytesIO(data).read)
    with pytest.raises(TakenError):
        add(store, LARGE, data[::-1])
    assert store.files() == {"a/large.fits": data}
    assert uploads(s3) == []


@pytest.mark.parametrize("size", [1000, destination_s3._PART + 1])
def test_whoever_is_quicker_has_the_name(s3, store, size):
    """Another file gets the name after the archiver looked and before it has sent its own: the server refuses ours."""
    key = store.url.split("/", 3)[3]

    def quicker(environ):
        if environ.get("HTTP_IF_NONE_MATCH") == "*":
            s3.change = lambda _: None
            s3.client().put_object(Bucket=stores.BUCKET, Key=f"{key}/{LARGE}", Body=b"quicker")

    s3.change = quicker
    with pytest.raises(TakenError, match="exists, and nothing in an archive is overwritten"):
        add(store, LARGE, os.urandom(size))
    assert store.files() == {"a/large.fits": b"quicker"}
    assert uploads(s3) == []


def test_a_server_that_refuses_conditions_is_asked_before(s3, store, l0s, tmp_path):
    s3.change = lambda environ: 501 if "HTTP_IF_NONE_MATCH" in environ else None
    assert [r.state for r in archive(store, *l0s)] == ["accepted"] * 3
    stores.check_folder(store.files(), FOLDER, [p.name for p in l0s], tmp_path)
    store.write(f"{FOLDER}/{l0s[0].name}", b"other")
    assert [r.state for r in archive(store, l0s[0])] == ["refused"]
    assert store.files()[f"{FOLDER}/{l0s[0].name}"] == b"other"


def test_on_a_server_that_ignores_conditions_the_loser_finds_out(s3, store, l0s):
    """Another object replaces ours right after it was sent. It is the same as if ours had come first: whoever reads again, sees it."""
    key = store.url.split("/", 3)[3]
    sent = []

    def ignoring(environ):
        environ.pop("HTTP_IF_NONE_MATCH", None)
        mine = f"{FOLDER}/{l0s[0].name}"
        if sent and environ["REQUEST_METHOD"] == "HEAD":
            s3.change = lambda _: None
            s3.client().put_object(Bucket=stores.BUCKET, Key=f"{key}/{mine}", Body=b"later")
        if environ["REQUEST_METHOD"] == "PUT":
            sent.append(environ["PATH_INFO"])

    s3.change = ignoring
    (result,) = archive(store, l0s[0])
    assert (result.state, result.kind) == ("failed", "storage")
    assert "what arrived is not what was sent" in result.reason
    assert list(store.files()) == [f"{FOLDER}/{l0s[0].name}"]


def test_an_upload_that_was_begun_a_day_ago_is_abandoned(s3, store, l0s, monkeypatch):
    """Moto says of every upload that it was begun in 2010; what is not a day old has to be told by another length of a day."""
    client = s3.client()
    prefix = store.url.split("/", 3)[3]
    for name in (f"{FOLDER}/a.fits", f"{FOLDER}/deeper/a.fits", "elsewhere/a.fits"):
        client.create_multipart_upload(Bucket=stores.BUCKET, Key=f"{prefix}/{name}")
    with monkeypatch.context() as patch:
        patch.setattr(destination_s3, "DAY", 10**10)
        assert [r.state for r in archive(store, l0s[0])] == ["accepted"]
    assert len(uploads(s3)) == 3
    assert [r.state for r in archive(store, l0s[0])] == ["duplicate"]
    assert {u["Key"].removeprefix(f"{prefix}/") for u in uploads(s3)} == {f"{FOLDER}/deeper/a.fits", "elsewhere/a.fits"}


def test_a_server_that_is_away_or_has_no_such_bucket_fails_without_secrets(s3, store, l0s, monkeypatch):
    with pytest.raises(OutputError, match="there is no such bucket"):
        open_destination("s3://nothing/here")
    with closing(open_destination(store.url)) as destination:
        s3.change = lambda _: 403
        result = archive_l0(l0s[0], order(destination))
    assert (result.state, result.kind) == ("failed", "storage")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    program = [sys.executable, "-m", "assembler", "archive", str(l0s[0]), "--to", store.url]
    told = subprocess.run(program, capture_output=True, text=True, check=False)
    assert told.returncode == 4
    assert "Traceback" not in told.stderr
    assert "not-to-be-shown" not in told.stderr
    assert "AKIATEST" not in told.stderr


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_killed_between_any_two_of_its_messages_the_next_run_makes_it_whole(s3, store, l0s, tmp_path):
    if subprocess.run([STRACE, "-f", "-o", os.devnull, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("processes may not be traced here")
    program = [sys.executable, "-m", "assembler", "archive", str(l0s[0]), "--to"]
    log = tmp_path / "log"
    counted = subprocess.run([STRACE, "-f", "-o", str(log), "-e", "trace=sendto", *program, store.url], capture_output=True, check=False)
    assert counted.returncode == 0
    threads = [re.match(r"\d+", line).group() for line in log.read_text().splitlines() if "sendto(" in line and "HTTP/1.1" in line]
    main = max(set(threads), key=threads.count)
    every = [line for line in log.read_text().splitlines() if line.startswith(f"{main} ") and "sendto(" in line]
    assert len(every) > 10
    for number in range(1, len(every) + 1, 2):
        fresh = stores.bucket(s3)
        inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject=sendto:signal=KILL:when={number}"]
        subprocess.run([*inject, *program, fresh.url], capture_output=True, check=False)
        files = fresh.files()
        assert all(data == l0s[0].read_bytes() for name, data in files.items() if Path(name).name == l0s[0].name)
        assert archive(fresh, l0s[0])[0].state in ("accepted", "duplicate")
        stores.check_folder(fresh.files(), FOLDER, [l0s[0].name], tmp_path)
