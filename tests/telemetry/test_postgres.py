"""The history in a PostgreSQL server: the same answers as any other, and trouble that ends."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from samples import ASKED, INSTANTS, TIME, expected_as_of, expected_during, samples

from assembler.telemetry.history import open_history
from assembler.telemetry.postgres import load


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)), INSTANTS, TIME, TIME)
def test_the_last_value_at_or_before_a_time_is_found(server, database, url, rows, instants, begin, end):
    server.tell("DROP SCHEMA public CASCADE", database)
    server.tell("CREATE SCHEMA public", database)
    assert load(url, rows) == len(rows)
    history = open_history(url)
    told = history.as_of(ASKED, instants)
    numbers = history.during(ASKED, begin, end)
    history.close()
    assert told == [expected_as_of(rows, instant) for instant in instants]
    assert numbers == expected_during(rows, begin, end)
