"""The ways to a receiver: what counts as received, what is told of what does not, and that nothing lasts longer than it may."""

import datetime as dt
import errno
import ipaddress
import json
import os
import signal
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from announced import Hook, hooked, receiver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from watching import wait_for

from assembler.core.announcements import Secret, ToBroker, ToCommand, ToFile, ToWebhook
from assembler.errors import DeliveryError
from assembler.service.receivers import way_to

MESSAGE = json.dumps({"id": "1", "path": "/l0/$(touch no)`; {0} %s.fits"})


def failure(way, message: str = MESSAGE) -> DeliveryError:
    with pytest.raises(DeliveryError) as raised:
        way.send(message, "1")
    return raised.value


def to_file(path):
    return way_to(receiver(way=ToFile(path=str(path))))


def to_hook(hook: Hook, timeout: float = 20.0, environment=None, **headers: Secret):
    way = ToWebhook(url=f"{hook.url}?token=hidden", headers=tuple((n.replace("_", "-"), s) for n, s in headers.items()))
    return way_to(receiver(way=way, timeout=timeout), environment or {})


def to_command(*words: object, timeout: float = 20.0):
    return way_to(receiver(way=ToCommand(words=tuple(map(str, words))), timeout=timeout))


def test_lines_are_added_to_a_file_and_follow_its_name(tmp_path):
    way = to_file(tmp_path / "l0.jsonl")
    way.send(MESSAGE, "1")
    way.send(MESSAGE, "2")
    assert (tmp_path / "l0.jsonl").read_text() == f"{MESSAGE}\n{MESSAGE}\n"
    (tmp_path / "l0.jsonl").rename(tmp_path / "rotated")
    way.send(MESSAGE, "3")
    assert (tmp_path / "l0.jsonl").read_text() == f"{MESSAGE}\n"


def test_a_line_that_was_cut_off_is_ended_before_the_next_one(tmp_path):
    (tmp_path / "l0.jsonl").write_text('{"id": "0"')
    to_file(tmp_path / "l0.jsonl").send(MESSAGE, "1")
    assert (tmp_path / "l0.jsonl").read_text() == f'{{"id": "0"\n{MESSAGE}\n'


def test_a_file_that_cannot_be_written_is_told_by_name(tmp_path):
    assert str(failure(to_file(tmp_path / "no" / "l0.jsonl"))) == f"{tmp_path}/no/l0.jsonl: cannot be written: No such file or directory"
    os.mkfifo(tmp_path / "pipe")
    assert str(failure(to_file(tmp_path / "pipe"))) == f"{tmp_path}/pipe: is no file"
    assert str(failure(to_file("/dev/full"))).startswith("/dev/full: is no file")


def test_a_webhook_gets_json_with_its_headers():
    with hooked() as hook:
        to_hook(hook, environment={"KEY": "Bearer 1"}, Authorization=Secret(environment="KEY"), X_From=Secret(value="kpf")).send(
            MESSAGE, "1"
        )
        assert hook.got == [json.loads(MESSAGE)]
        (headers,) = hook.headers
        assert (headers["Content-Type"], headers["Authorization"], headers["X-From"]) == ("application/json", "Bearer 1", "kpf")


@pytest.mark.parametrize(
    ("status", "retry"), [(400, False), (401, True), (404, True), (413, False), (422, False), (429, True), (500, True), (503, True)]
)
def test_a_webhook_that_refuses_the_message_does_so_for_good_and_any_other_may_come_round(status, retry):
    with hooked() as hook:
        hook.answer = lambda request: hook.say(request, status, "no such\ninstrument")
        error = failure(to_hook(hook))
        assert str(error).startswith(f"http://127.0.0.1:{hook.port}: answered {status} ")
        assert str(error).endswith("no such instrument")
        assert error.retry == retry


def test_a_redirect_is_not_followed():
    with hooked() as hook, hooked() as other:
        hook.answer = lambda request: hook.say(request, 307, Location=other.url)
        assert "answered 307" in str(failure(to_hook(hook)))
        assert other.got == []


def test_no_secret_is_told_even_where_the_server_says_it(tmp_path):
    (tmp_path / "key").write_text("from-a-file\n")
    with hooked() as hook:
        hook.answer = lambda request: hook.say(request, 403, f"no: {request.headers['Authorization']} {request.headers['X-Key']}")
        way = to_hook(
            hook, environment={"KEY": "Bearer s3cr3t"}, Authorization=Secret(environment="KEY"), X_Key=Secret(file=str(tmp_path / "key"))
        )
        told = str(failure(way))
        assert told.endswith("no: *** ***")
        assert not {"s3cr3t", "from-a-file", "hidden"} & set(told.replace("=", " ").split())


def test_no_url_and_no_argument_is_told_even_where_the_receiver_says_it():
    with hooked() as hook:
        hook.answer = lambda request: hook.say(request, 404, f"Cannot POST {request.path}")
        assert str(failure(to_hook(hook))).endswith("Cannot POST ***")
    script = "import sys; sys.exit(f'no such token: {sys.argv[1]}')"
    assert str(failure(to_command(sys.executable, "-c", script, "s3cr3t"))).endswith("exit code 1: no such token: ***")


def test_a_secret_that_is_not_there_or_breaks_the_header_is_told_by_the_name_of_its_place(tmp_path):
    with hooked() as hook:
        assert str(failure(to_hook(hook, A=Secret(environment="KEY")))) == "the environment variable KEY is not set"
        assert (
            str(failure(to_hook(hook, A=Secret(file=str(tmp_path / "no"))))) == f"{tmp_path}/no: cannot be read: No such file or directory"
        )
        told = str(failure(to_hook(hook, environment={"KEY": "one\r\ntwo: s3cr3t"}, A=Secret(environment="KEY"))))
        assert told == "header A: its value is not printable ASCII"
        assert hook.got == []


@pytest.mark.parametrize("scheme", ["https", "amqps", "rediss"])
def test_a_server_whose_certificate_nobody_vouches_for_is_told_nothing(tmp_path, monkeypatch, scheme):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with safe_server(self_signed(tmp_path)) as (port, heard):
        url = f"{scheme}://127.0.0.1:{port}/"
        way = ToWebhook(url=url) if scheme == "https" else ToBroker(url=url, queue="q")
        told = str(failure(way_to(receiver(way=way, timeout=20.0))))
    assert "CERTIFICATE_VERIFY_FAILED" in told
    assert heard == []


def test_a_server_whose_certificate_is_known_is_told(tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with safe_server(certificate) as (port, heard):
        way_to(receiver(way=ToWebhook(url=f"https://127.0.0.1:{port}/"), timeout=20.0)).send(MESSAGE, "1")
    assert heard[0].startswith(b"POST / HTTP/1.1")


@contextmanager
def safe_server(certificate: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Lend the port of a server, and what clients said that trusted it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as safe:
                said = b""
                while not said.endswith(b"}") and (more := safe.recv(10_000)):  # the body ends so, and may come after the header
                    said += more
                if said:
                    heard.append(said)
                    safe.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1], heard
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def self_signed(directory: Path) -> Path:
    """Make a certificate of 127.0.0.1 that nobody else signed; the file has its key, too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    signed = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "certificate.pem"
    path.write_bytes(private + signed)
    return path


def test_a_webhook_that_resets_is_slow_or_is_not_there_is_away():
    with hooked() as hook:

        def reset(request):
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()

        hook.answer = reset
        assert failure(to_hook(hook)).retry
        waiting = threading.Event()
        hook.answer = lambda _request: waiting.wait(30)
        assert str(failure(to_hook(hook, timeout=0.2))).endswith("did not answer in time")
        waiting.set()
    assert str(failure(to_hook(hook))) == f"http://127.0.0.1:{hook.port}: Connection refused"


def test_a_webhook_that_answers_a_little_at_a_time_has_no_longer_than_another():
    with hooked() as hook:
        ended = threading.Event()

        def trickle(request):
            with suppress(OSError):
                request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not ended.wait(0.05):
                    request.wfile.write(b"x")

        hook.answer = trickle
        told: list[DeliveryError] = []
        sending = threading.Thread(target=lambda: told.append(failure(to_hook(hook, timeout=0.3))))
        sending.start()
        sending.join(20)
        ended.set()
        sending.join()
        assert [str(error).partition(": ")[2] for error in told] == ["did not answer in time"]


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX-Long: x"])
def test_a_webhook_that_closes_before_the_end_of_its_header_has_not_received(said):
    with hooked() as hook:
        hook.answer = lambda request: request.wfile.write(said)
        assert str(failure(to_hook(hook))).endswith("closed before the end of its answer")


def test_a_stop_ends_the_wait_for_a_webhook():
    with hooked() as hook:
        asked, waiting = threading.Event(), threading.Event()

        def hang(_request):
            asked.set()
            waiting.wait(30)

        hook.answer = hang
        way = to_hook(hook, timeout=600)
        stopping = threading.Thread(target=lambda: asked.wait(30) and way.stop())
        stopping.start()
        failure(way)
        stopping.join()
        waiting.set()


def test_a_command_has_the_message_on_its_standard_input_and_no_shell_sees_it(tmp_path):
    to_command("tee", tmp_path / "got $(x)").send(MESSAGE, "1")
    assert (tmp_path / "got $(x)").read_text() == f"{MESSAGE}\n"


def test_a_long_message_and_a_command_that_reads_none_are_no_trouble():
    to_command("true").send("x" * 1_000_000, "1")


def test_a_command_that_fails_is_told_with_the_last_line_that_it_said():
    told = str(failure(to_command("sh", "-c", "echo first >&2; printf 'be\\033cause' >&2; exit 3")))
    assert told == "sh: exit code 3: be\\x1bcause"
    assert str(failure(to_command("sh", "-c", "kill -9 $$"))) == "sh: signal 9"
    assert str(failure(to_command("/no/such/program"))) == "/no/such/program: cannot be run: No such file or directory"


def test_a_command_that_says_very_much_is_no_trouble():
    assert failure(to_command("sh", "-c", "yes | head -c 5000000 >&2; echo end >&2; exit 1")).args[0].endswith(": end")


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    script = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/sleeper; sleep 600"
    assert str(failure(to_command("sh", "-c", script, timeout=0.5))) == "sh: was not done after 0.5 s, and was stopped"
    sleeper = int((tmp_path / "sleeper").read_text())

    def is_gone() -> bool:
        status = Path(f"/proc/{sleeper}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for("what it started to be gone", is_gone)


def test_a_command_that_may_not_be_ended_as_it_is_another_users_is_told_and_left(monkeypatch):
    started = []

    def refuse(process, _number):
        started.append(process)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", refuse)
        told = str(failure(to_command("sleep", 600, timeout=0.2)))
    assert told == "sleep: was not done after 0.2 s, and may not be stopped: Operation not permitted"
    os.kill(started[0], signal.SIGKILL)
    os.waitpid(started[0], 0)


def test_a_command_has_no_signal_blocked_and_is_out_of_reach_of_the_terminal(tmp_path):
    script = (
        "import os, signal, sys; open(sys.argv[1], 'w').write("
        "f'{os.getsid(0) == os.getpid()} {len(signal.pthread_sigmask(signal.SIG_BLOCK, []))}')"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        to_command(sys.executable, "-c", script, tmp_path / "told").send(MESSAGE, "1")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (tmp_path / "told").read_text() == "True 0"


def test_a_stop_ends_a_command():
    way = to_command("sleep", 600, timeout=600)
    stopping = threading.Timer(0.2, way.stop)
    stopping.start()
    assert str(failure(way)) == "sleep: was stopped"
    stopping.join()
