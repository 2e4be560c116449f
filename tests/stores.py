"""Stores to archive in: a directory, a real OpenSSH server on the loopback, and moto's server, which stands in for S3.

What moto does is what its makers know of S3. It has If-None-Match and uploads in parts, and answers in S3's words; it is no proof of what
Amazon's, or any other server, does.
"""

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
BUCKET = "archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store as a test sees it: its URL, and what is in it, hidden names too."""

    url: str
    environ: Mapping[str, str]
    files: Callable[[], dict[str, bytes]]
    write: Callable[[str, bytes], None]
    remove: Callable[[str], None]


def in_directory(root: Path, url: str, environ: Mapping[str, str]) -> Store:
    """Return a store whose files a directory shows."""

    def files() -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if not p.is_dir()}

    def write(name: str, data: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return Store(url=url, environ=environ, files=files, write=write, remove=lambda name: (root / name).unlink())


@contextmanager
def ssh_server(directory: Path, program: str = "internal-sftp") -> Iterator[tuple[int, Path]]:
    """Run OpenSSH's server with keys of its own; yield its port, and a home from which it is known and lets in."""
    if not SSHD:
        pytest.skip("needs an OpenSSH server, which CI installs")
    home = directory / "home"
    (home / ".ssh").mkdir(parents=True)
    host, user = directory / "host_key", home / ".ssh" / "id_ed25519"
    for key in (host, user):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it goes to have no privileges
    with create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = directory / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {user}.pub\nPidFile none\nUsePAM no\n"
        f"StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp {program}\nMaxStartups 100\n"
    )
    kind, key = host.with_suffix(".pub").read_text().split()[:2]
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "listening" in line:
                break
        else:
            raise AssertionError("the SSH server did not start")
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        yield port, home
    finally:
        process.terminate()
        process.wait()
        drain.join(10)  # whoever is still connected, as after a test that failed, has it open as well
        process.stderr.close()


class S3Server:
    """Moto's server in a thread; what comes to it may be looked at, and changed, by a test."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, *words: Any) -> None: ...

        self._inner = DomainDispatcherApplication(create_backend_app)
        self.change: Callable[[dict[str, Any]], int | None] = lambda environ: None
        """Given what came, may change it, or return a status to answer with."""
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Silent)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "not-to-be-shown",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        status = self.change(environ)
        if status is not None:
            start(f"{status} told by the test", [("Content-Type", "application/xml")])
            code = {501: "NotImplemented", 503: "ServiceUnavailable", 403: "AccessDenied"}[status]
            return [f"<Error><Code>{code}</Code><Message>told by the test</Message></Error>".encode()]
        return self._inner(environ, start)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="not-to-be-shown",
            region_name="us-east-1",
        )


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run moto's server, with a bucket that is empty."""
    server = S3Server()
    try:
        yield server
    finally:
        server.stop()


def bucket(server: S3Server) -> Store:
    """Return an empty bucket as a store; a prefix keeps it apart from others of the same server."""
    client = server.client()
    prefix = f"test-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=BUCKET)

    def files() -> dict[str, bytes]:
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", ())
        keys = [item["Key"] for item in found]
        return {key.removeprefix(f"{prefix}/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def write(name: str, data: bytes) -> None:
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=data)

    def remove(name: str) -> None:
        client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{name}")

    return Store(url=f"s3://{BUCKET}/{prefix}", environ=server.environ, files=files, write=write, remove=remove)


def check_folder(files: Mapping[str, bytes], folder: str, names: list[str], directory: Path) -> None:
    """Check that a folder has these files, a receipt of each and SHA256SUMS, nothing else, and that sha256sum says that they are whole."""
    mine = {name.removeprefix(f"{folder}/"): data for name, data in files.items() if name.startswith(f"{folder}/")}
    shown = {name: data for name, data in mine.items() if not name.startswith(".")}
    assert sorted(shown) == sorted([*names, *(f"{name}.receipt.json" for name in names), "SHA256SUMS"])
    sums = shown["SHA256SUMS"].decode()
    assert sorted(sums.splitlines()) == sorted(f"{hashlib.sha256(shown[name]).hexdigest()}  {name}" for name in names)
    copies = directory / f"copy-{os.urandom(4).hex()}"
    copies.mkdir()
    for name, data in shown.items():
        (copies / name).write_bytes(data)
    told = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=copies, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def make_l0s(directory: Path, kpf: Any, exposures: int = 3) -> list[Path]:
    """Make L0s of a small night with its telemetry, and return their paths."""
    import kpf_night

    from assembler.service.finder import find_night
    from assembler.service.pipeline import assemble
    from assembler.service.replay import open_history
    from assembler.telemetry import sqlite
    from assembler.telemetry.load import read_samples

    night = kpf_night.make_night(directory / "data", exposures=exposures)
    sqlite.load(str(directory / "history.db"), read_samples(night.telemetry))
    found = [find_night(kpf, night.directory, frame) for frame in night.frames]
    with closing(open_history(f"sqlite:///{directory / 'history.db'}")) as history:
        return [assemble(f, history, directory / "L0", version="test", clock=lambda: 1_790_000_000 * 10**9).path for f in found]


def other_key() -> str:
    """Return the type and the key of another host."""
    return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB3R8q0PXd5mUD2l3Ck0Wk6l4Wq0mE3S6mF5ZgSgE3cB"
