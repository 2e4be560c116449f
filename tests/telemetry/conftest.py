"""A real PostgreSQL server, and a database in it for each test."""

from collections.abc import Iterator

import pytest
from postgres_servers import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture
def database(server) -> str:
    """Return the name of a database that only this test knows."""
    return server.make_database()


@pytest.fixture
def url(server, database) -> str:
    return server.url(database)
