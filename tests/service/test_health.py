"""Health: what it says, and the server that says it."""

import http.client
import json
import os
import socket
import sys
import threading
from contextlib import ExitStack, closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from recording import Recording

from assembler.errors import ConfigurationError
from assembler.service.health import PARTS, Health
from assembler.service.health_server import MOST_REQUESTS, HealthServer, read_address
from assembler.service.meters import METRICS, Meters

WALL = 1_790_000_000 * 10**9


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def wall(self):
        return WALL + round(self.now * 1e9)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(60.0, clock, clock.wall)


@pytest.fixture
def log():
    return Recording()


@pytest.fixture
def server(health, log):
    before = set(threading.enumerate())
    with HealthServer("127.0.0.1", 0, health, Meters(), log=log, seconds=2.0) as serving:
        yield serving
    assert set(threading.enumerate()) == before


def ask(server, path, method="GET", headers=None):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def say(server, content):
    """Return everything that is answered to bytes that need not be HTTP."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except TimeoutError:
            raise
        except OSError:  # the server has ended the connection before it read everything
            return b""


def test_each_part_tells_how_it_is_and_since_when(health, clock):
    assert {p["state"] for p in health.verdict().body["parts"].values()} == {"unknown"}
    clock.now = 1.0
    health.beat()
    health.ok("lease", "lease 7")
    clock.now = 2.0
    health.degraded("history", "no answer\nwithin 2 s \x1b[31m")
    clock.now = 3.0
    health.degraded("history", "no answer within 5 s")
    health.beat()
    verdict = health.verdict()
    assert verdict.is_alive
    assert verdict.body["status"] == "degraded"
    parts = verdict.body["parts"]
    assert tuple(parts) == PARTS
    assert parts["round"] == {"state": "ok", "text": "", "since": "2026-09-21T14:13:21.000Z"}
    assert parts["lease"] == {"state": "ok", "text": "lease 7", "since": "2026-09-21T14:13:21.000Z"}
    assert parts["history"] == {"state": "degraded", "text": "no answer within 5 s", "since": "2026-09-21T14:13:22.000Z"}
    clock.now = 4.0
    health.ok("history")
    assert health.verdict().body["status"] == "ok"
    assert health.verdict().body["parts"]["history"]["since"] == "2026-09-21T14:13:24.000Z"


def test_without_the_end_of_a_round_for_longer_than_the_limit_it_is_unhealthy_until_the_next_one(health, clock):
    clock.now = 60.0
    assert health.verdict().is_alive
    clock.now = 60.5
    verdict = health.verdict()
    assert not verdict.is_alive
    assert verdict.body["status"] == "unhealthy"
    assert verdict.body["round_age"] == 60.5
    assert verdict.body["parts"]["round"]["since"] == "2026-09-21T14:13:20.000Z"
    health.beat()
    assert health.verdict().body["status"] == "ok"
    assert health.verdict().body["parts"]["round"]["state"] == "ok"


@given(text=st.text(st.characters()))
def test_no_text_breaks_the_line_of_json(text):
    health = Health(1.0)
    health.degraded("output", text)
    content = health.verdict().as_json()
    assert content.count(b"\n") == 1
    assert content.isascii()
    assert json.loads(content)["parts"]["output"]["text"].isprintable()


def test_health_and_metrics_are_answered(server, health, clock):
    status, headers, body = ask(server, "/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["status"] == "ok"
    health.degraded("history", "no answer")
    assert ask(server, "/healthz?verbose=1")[0] == 200
    clock.now = 61.0
    status, _, body = ask(server, "/healthz")
    assert (status, json.loads(body)["status"]) == (503, "unhealthy")
    status, headers, body = ask(server, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert {f.name for f in text_string_to_metric_families(body.decode())} & set(METRICS)
    assert {"Server", "Date"}.isdisjoint(headers)


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nothing"])
def test_head_is_get_without_the_body(server, path):
    status, headers, body = ask(server, path, "HEAD")
    got_status, got_headers, got = ask(server, path)
    assert (status, body) == (got_status, b"")
    assert headers["Content-Type"] == got_headers["Content-Type"]
    assert int(got_headers["Content-Length"]) == len(got)


@pytest.mark.parametrize("path", ["/", "/healthz/", "/../etc/passwd", "/metrics/x", "/%68ealthz", "*", "//healthz/x"])
def test_there_is_nothing_else(server, path):
    assert ask(server, path)[::2] == (404, b"Not Found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "<script>"])
def test_other_methods_are_refused(server, method):
    content = say(server, f"{method} /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = content.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 405 ")
    assert b"Allow: GET, HEAD" in head
    assert body == b"Method Not Allowed\n"


def test_nothing_of_a_request_is_in_its_answer(server):
    marks = (
        b"GET /evil HTTP/1.1\r\nHost: evil\r\nX-Evil: evil\r\n\r\n",
        b"EVIL /evil HTTP/evil\r\nevil",
        b"evil\r\n\r\n",
        b"GET /evil?evil evil\r\n",
    )
    for content in marks:
        answer = say(server, content)
        assert answer.startswith(b"HTTP/1.0 4")
        assert b"evil" not in answer.lower()
        assert b"python" not in answer.lower()


def test_a_request_that_is_too_long_is_refused(server):
    for content in (b"GET /" + b"x" * 100_000, b"GET /healthz?" + b"x" * 100_000, b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 90_000):
        answer = say(server, content)
        assert answer.startswith(b"HTTP/1.0 4") or answer == b""  # what was not read any more may reset the connection
    big = b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(20)) + b"\r\n"
    assert not say(server, big).startswith(b"HTTP/1.0 200")
    assert ask(server, "/healthz")[0] == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=200) | st.binary(max_size=50).map(lambda b: b"GET " + b + b" HTTP/1.1\r\n\r\n"))
def test_no_request_is_too_strange(server, log, content):
    say(server, content)
    assert ask(server, "/healthz")[0] == 200
    assert log.told == []


def test_it_answers_while_the_working_thread_is_blocked(server, health):
    blocked = threading.Event()
    worker = threading.Thread(target=blocked.wait)
    worker.start()
    assert [ask(server, path)[0] for path in ("/healthz", "/metrics")] == [200, 200]
    blocked.set()
    worker.join()


def test_slow_clients_take_a_bounded_number_of_threads_and_are_cut_off(server):
    idle, answers = threading.active_count(), []
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=30))) for _ in range(40)]
        for connection in reversed(slow):
            answers.append(connection.recv(12))
            assert threading.active_count() <= idle + MOST_REQUESTS
    assert set(answers) == {b"", b"HTTP/1.0 503"}
    assert ask(server, "/healthz")[0] == 200


def test_a_client_that_keeps_sending_a_little_is_cut_off_too(server):
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=0.05)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        ended = False
        while not ended:  # the test itself ends only because the server ends the connection
            try:
                connection.send(b"X")
                ended = connection.recv(1000) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
    assert ask(server, "/healthz")[0] == 200


def test_stopping_does_not_wait_for_clients_and_leaves_no_thread_nor_file(health):
    files, threads = set(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for _ in range(20):
        server = HealthServer("127.0.0.1", 0, health, Meters(), seconds=3600.0)
        server.start()
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
            connection.sendall(b"GET /heal")
            assert ask(server, "/healthz")[0] == 200
            server.stop()
            server.stop()
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", server.port), timeout=20)
    HealthServer("127.0.0.1", 0, health, Meters()).stop()
    assert set(threading.enumerate()) == threads
    assert set(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "localhost", "192.168.1.1", "127.0.0.2", "evil\n"])
def test_it_listens_on_this_machine_only(health, address):
    with pytest.raises(ConfigurationError, match=r"write 127\.0\.0\.1 or ::1"):
        HealthServer(address, 0, health, Meters())


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6")
def test_it_listens_with_ipv6_too(health):
    try:
        server = HealthServer("::1", 0, health, Meters())
    except ConfigurationError:
        pytest.skip("the loopback has no IPv6 address")
    with server, closing(http.client.HTTPConnection("::1", server.port, timeout=20)) as connection:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def test_a_port_that_is_taken_is_told_in_one_line(server, health):
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1, port {server.port}: Address already in use; name another port"):
        HealthServer("127.0.0.1", server.port, health, Meters())
    with pytest.raises(ConfigurationError, match="port 70000"):
        HealthServer("127.0.0.1", 70_000, health, Meters())


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", ":9464", "0.0.0.0:9464", "::1:9464:", "h:٣"]
)
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ConfigurationError, match="write"):
        read_address(text)


def test_without_prometheus_metrics_tell_what_to_install(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    status, _, body = ask(server, "/metrics")
    assert status == 501
    assert body.startswith(b"metrics need prometheus-client (")
    assert body.endswith(b"; install l0-assembler[metrics]\n")
    assert ask(server, "/healthz")[0] == 200


def test_a_bug_in_an_answer_is_an_event_and_the_next_one_is_answered(health, log):
    class Broken(Meters):
        def exposition(self):
            raise RuntimeError("bug")

    with HealthServer("127.0.0.1", 0, health, Broken(), log=log) as server:
        with pytest.raises(http.client.HTTPException):
            ask(server, "/metrics")
        assert ask(server, "/healthz")[0] == 200
    assert log.events() == ["health_answer_failed"]
