"""What systemd is told, on real sockets."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.service.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@l0-assembler-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.setblocking(False)
        yield address, listening


def test_each_thing_is_told_in_its_own_datagram(listener):
    address, listening = listener
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier.from_environment(environ, monotonic=lambda: 5_000_000_999)
    assert notifier.watchdog == 30.0
    notifier.ready()
    notifier.alive()
    notifier.reloading()
    notifier.status("3 exposures in flight")
    notifier.stopping()
    told = [listening.recv(4096) for _ in range(5)]
    assert told == [b"READY=1", b"WATCHDOG=1", b"RELOADING=1\nMONOTONIC_USEC=5000000", b"STATUS=3 exposures in flight", b"STOPPING=1"]
    notifier.close()
    notifier.ready()
    with pytest.raises(BlockingIOError):
        listening.recv(4096)


@given(text=st.text(st.characters()))
def test_a_status_is_one_line_and_nothing_else(tmp_path_factory, text):
    path = str(tmp_path_factory.getbasetemp() / "status")
    if os.path.exists(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        notifier = Notifier(path)
        notifier.status(text)
        told = listening.recv(65536)
        notifier.close()
    assert told.startswith(b"STATUS=")
    assert told.decode().isprintable()
    assert len(told) < 2000


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "42"}, 1.5),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "1e6"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process_only(environ, seconds):
    assert Notifier.from_environment(environ, pid=42).watchdog == seconds


def test_without_a_watchdog_nobody_is_told_that_it_is_alive(listener):
    address, listening = listener
    notifier = Notifier(address)
    notifier.alive()
    with pytest.raises(BlockingIOError):
        listening.recv(4096)
    notifier.close()


def tell_all(notifier):
    notifier.ready()
    notifier.alive()
    notifier.reloading()
    notifier.status("fine")
    notifier.stopping()
    notifier.close()


@given(
    address=st.text(st.characters()) | st.text(st.characters(), min_size=1).map("/{}".format) | st.text(st.characters()).map("@x{}".format)
)
def test_no_address_raises(address):
    tell_all(Notifier(address, watchdog=1.0))


def test_a_listener_that_is_gone_or_does_not_listen_holds_nobody_up(tmp_path):
    tell_all(Notifier(str(tmp_path / "nobody"), watchdog=1.0))
    path = str(tmp_path / "deaf")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(path)
        notifier = Notifier(path, watchdog=1.0)
        for _ in range(10_000):  # more than any queue holds
            notifier.alive()
    notifier.alive()
    notifier.close()


def test_without_a_listener_there_is_no_socket():
    before = len(os.listdir("/proc/self/fd"))
    notifier = Notifier.from_environment({})
    assert len(os.listdir("/proc/self/fd")) == before
    tell_all(notifier)
