"""A real PostgreSQL server, to be stopped and started."""

import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest


class Server:
    """A server that listens to a socket in its own directory; it can be stopped hard, and started again."""

    def __init__(self, directory: Path) -> None:
        # pgserver brings the programs, knows how to run them as root, and makes and starts the server.
        import pgserver

        self._directory = directory
        made = pgserver.get_server(directory, cleanup_mode=None)
        atexit.unregister(made._cleanup)  # it would stop the server that it started, not the one of a restart
        self._pg_ctl, self._user = pgserver.pg_ctl, made.system_user
        self._numbers = itertools.count()
        self.tell("ALTER SYSTEM SET fsync = off")
        self.tell("SELECT pg_reload_conf()")

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self._directory}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(database), autocommit=True)

    def tell(self, statement: str, database: str = "postgres") -> list[tuple]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def make_database(self) -> str:
        name = f"test{next(self._numbers)}"
        self.tell(f"CREATE DATABASE {name}")
        return name

    def stop(self) -> None:
        self._pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._directory, user=self._user)

    def start(self) -> None:
        options = ["-o", '-h ""', "-o", f"-k {self._directory}", "-l", str(self._directory / "log")]
        self._pg_ctl(["-w", *options, "start"], pgdata=self._directory, user=self._user)

    def restrict(self, user: str) -> None:
        """Let a user in with a password only."""
        rules = self._directory / "pg_hba.conf"
        rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
        (before,) = self.tell("SELECT pg_conf_load_time()")
        self.tell("SELECT pg_reload_conf()")
        for _ in range(1000):  # the server reads its rules when it comes to it
            if self.tell("SELECT pg_conf_load_time()") != [before]:
                return
        raise AssertionError("the server does not read its rules")


@contextmanager
def running() -> Iterator[Server]:
    """Run a server of its own."""
    # Not in pytest's directory, which other users may not enter, and the server is one when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="l0-", ignore_cleanup_errors=True) as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", directory)  # where pgserver has its lock; it warns where there is none
        for name in [name for name in os.environ if name.startswith("PG")]:
            patch.delenv(name)  # what a developer has for other servers
        place = Path(directory) / "postgres"
        made = Server(place)
        try:
            yield made
        finally:
            made.stop()
            shutil.rmtree(place)
