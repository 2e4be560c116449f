"""A watcher that records what it makes, in a real PostgreSQL server that goes away meanwhile."""

from contextlib import closing

from postgres_servers import running
from watching import Watched, wait_for


def test_a_database_that_goes_away_delays_no_l0_and_has_all_of_them_in_the_end(tmp_path):
    with running() as server, closing(Watched(tmp_path)) as watched:
        first, second = watched.frames
        watched.begin("--record", server.url())
        watched.deliver(first)
        watched.wait("published", frame=first)
        wait_for("its record", lambda: server.tell("SELECT 1 FROM pg_tables WHERE tablename = 'exposure'") or None)
        assert server.tell("SELECT exposure_id FROM exposure") == [(first,)]
        server.stop()
        watched.deliver(second)
        watched.wait("published", frame=second)
        watched.wait("records_wait")
        server.start()
        watched.end()
        assert server.tell("SELECT exposure_id, l0_version FROM exposure ORDER BY 1") == [(first, 1), (second, 1)]
        assert watched.count("records_go_on") == 1
        assert watched.count("records_missing") == 0
