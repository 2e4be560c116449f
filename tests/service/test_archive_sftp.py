"""SFTP, with OpenSSH's own server: who is spoken to, what a killed archiver leaves, and a server that goes away."""

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
from assembler.errors import OutputError
from assembler.service.archive import Order, archive_l0
from assembler.service.destination_urls import open_destination

STRACE = shutil.which("strace")
FOLDER = "20240422"
OLD = 1_700_000_000


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Run a server of this test alone: (its URL with the directory archive, that directory, its home)."""
    with stores.ssh_server(tmp_path) as (port, home):
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        root = tmp_path / "archive"
        root.mkdir()
        yield f"sftp://127.0.0.1:{port}{root}", root, home


def archive(url, *l0s):
    with closing(open_destination(url)) as destination:
        order = Order(destination=destination, template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: 0)
        return [archive_l0(l0, order) for l0 in l0s]


def command(url, l0s):
    return [sys.executable, "-m", "assembler", "archive", *map(str, l0s), "--to", url]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: "", "known_hosts does not have the server"),
        (lambda line: f"{line.split()[0]} {stores.other_key()}\n", "another host key than known_hosts has"),
        (lambda line: f"{line}@revoked * {' '.join(line.split()[1:])}\n", "known_hosts does not have the server"),
        (lambda line: f"@cert-authority {line}", "known_hosts does not have the server"),
        (lambda line: f"not a line\n\n# {line}", "known_hosts does not have the server"),
    ],
    ids=["unknown", "changed", "revoked", "authority", "nonsense"],
)
def test_a_server_that_is_not_known_is_not_spoken_to(server, l0s, change, told):
    url, root, home = server
    known = home / ".ssh" / "known_hosts"
    known.write_text(change(known.read_text()))
    before = known.read_text()
    result = subprocess.run(command(url, l0s[:1]), capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert known.read_text() == before
    assert list(root.iterdir()) == []


def test_a_known_server_under_a_hashed_name_is(server, l0s):
    url, _, home = server
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(home / ".ssh" / "known_hosts")], check=True, capture_output=True)
    assert archive(url, l0s[0])[0].state == "accepted"


def test_who_is_not_let_in_is_told_so(server, l0s):
    url, _, home = server
    (home / ".ssh" / "id_ed25519").unlink()
    result = subprocess.run(command(url, l0s[:1]), capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert result.stderr.splitlines()[-1].endswith("the server does not let us in; keys are those of an SSH agent, or in ~/.ssh")


def test_a_server_that_is_away_or_has_no_such_directory_fails(server):
    url, root, _ = server
    with pytest.raises(OutputError, match="No such file"):
        open_destination(f"{url}/nothing")
    assert not (root / "nothing").exists()
    (root / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="Not a directory"):
        open_destination(f"{url}/file")
    away = re.sub(r":\d+/", ":9/", url)
    with pytest.raises(OutputError, match="Unable to connect"):
        open_destination(away)


def test_temporary_files_go_when_they_are_a_day_old_by_the_server(server, l0s):
    url, root, _ = server
    folder = root / FOLDER
    folder.mkdir()
    old, fresh, foreign = (folder / name for name in (f".a.{'0' * 16}.part", f".b.{'1' * 16}.part", ".c.part"))
    for path in (old, fresh, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (OLD, OLD))
    assert archive(url, l0s[0])[0].state == "accepted"
    assert {p.name for p in folder.iterdir() if p.name.startswith(".")} == {fresh.name, foreign.name}


def test_a_link_under_the_name_is_refused(server, l0s):
    url, root, _ = server
    (root / FOLDER).mkdir()
    (root / FOLDER / l0s[0].name).symlink_to(l0s[0])
    (result,) = archive(url, l0s[0])
    assert (result.state, result.kind) == ("refused", "content")
    assert "is no regular file" in result.reason


def test_a_full_disk_of_the_server_is_to_be_tried_again(l0s, tmp_path, monkeypatch):
    """Has the server write files of 100 kB at most, which a client is told in the same word as of a full disk."""
    root = tmp_path / "archive"
    root.mkdir()
    with stores.ssh_server(tmp_path, "sh -c 'trap \"\" XFSZ; ulimit -f 100; exec /usr/lib/openssh/sftp-server'") as (port, home):
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        (result,) = archive(f"sftp://127.0.0.1:{port}{root}", l0s[0])
    assert (result.state, result.kind) == ("failed", "storage")
    assert "its disk may be full" in result.reason
    assert stores.in_directory(root, "", {}).files() == {}


def test_a_connection_that_breaks_fails_what_is_left_and_nothing_is_half(server, l0s, tmp_path):
    url, root, _ = server
    with closing(open_destination(url)) as destination:
        order = Order(destination=destination, template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: 0)
        assert archive_l0(l0s[0], order).state == "accepted"
        destination.files.client.get_transport().sock.close()
        results = [archive_l0(l0, order) for l0 in l0s[1:]]
    assert [(r.state, r.kind, r.exit_code) for r in results] == [("failed", "storage", 4)] * 2
    stores.check_folder(stores.in_directory(root, "", {}).files(), FOLDER, [l0s[0].name], tmp_path)
    assert [r.state for r in archive(url, *l0s)] == ["duplicate", "accepted", "accepted"]


@pytest.mark.skipif(not STRACE, reason="needs strace, which CI installs")
def test_killed_between_any_two_of_its_messages_the_next_run_makes_it_whole(server, l0s, tmp_path):
    """Kills before the first, fourth... message to the server that comes after the connection was made."""
    url, root, _ = server
    if subprocess.run([STRACE, "-f", "-o", os.devnull, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("processes may not be traced here")
    log = tmp_path / "log"
    counted = subprocess.run([STRACE, "-f", "-o", str(log), "-e", "trace=sendto", *command(url, l0s[:1])], capture_output=True, check=False)
    assert counted.returncode == 0
    threads = [line.split()[0] for line in log.read_text().splitlines() if "sendto(" in line]
    main = threads[-1]
    most = threads.count(main)
    assert most > 30
    for number in range(most // 4, most, max(1, most // 14)):
        shutil.rmtree(root)
        root.mkdir()
        inject = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"inject=sendto:signal=KILL:when={number}"]
        subprocess.run([*inject, *command(url, l0s[:1])], capture_output=True, check=False)
        files = stores.in_directory(root, "", {}).files()
        assert all(data == l0s[0].read_bytes() for name, data in files.items() if Path(name).name == l0s[0].name)
        assert archive(url, l0s[0])[0].state in ("accepted", "duplicate")
        stores.check_folder(stores.in_directory(root, "", {}).files(), FOLDER, [l0s[0].name], tmp_path)


def test_what_the_server_has_under_a_name_is_told_as_it_is(server):
    url, root, _ = server
    with closing(open_destination(url)) as destination:
        assert destination.read(Place(name="nothing"), 10) is None
        assert destination.content(Place(name="nothing")) is None
        assert destination.url(Place(folder=("a",), name="b")) == f"{url}/a/b"
        (root / "large").write_bytes(bytes(range(256)) * 20_000)
        assert destination.content(Place(name="large")).size == 256 * 20_000
