"""Announcements: what is in a message, how it is known again, and what is never in a text."""

import json

from announced import NOW, notice
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.announcements import (
    Account,
    Earlier,
    Receiver,
    Secret,
    ToBroker,
    ToWebhook,
    earlier_version,
    message,
    pause_after,
    redacted,
)
from assembler.core.instants import SECOND
from assembler.core.states import FIRST_PAUSE, LONGEST_PAUSE
from assembler.core.versions import Replaced, version_cards

ACCOUNT = Account(
    path="/l0/superseded/KP.1.v1.fits",
    size=2880,
    sha256="0" * 64,
    origins=("green",),
    codes=[("warning", "stale"), ("error", "truncated"), ("warning", "stale")],
    frame=7,
    begin="2024-04-22T08:00:32.886179",
    supersedes=Earlier(path="", version=1, sha256="1" * 64),
)


def test_a_message_has_every_field_and_is_one_line():
    text = message(notice(version=2), ACCOUNT, NOW)
    assert "\n" not in text
    assert json.loads(text) == {
        "id": notice(version=2).id,
        "event": "published",
        "path": "/l0/superseded/KP.1.v1.fits",
        "url": None,
        "name": "KP.1.fits",
        "size": 2880,
        "checksum": "sha256:" + "0" * 64,
        "version": 2,
        "supersedes": {"path": None, "version": 1, "checksum": "sha256:" + "1" * 64},
        "origins": ["green"],
        "findings": {"error": 1, "warning": 2, "info": 0, "codes": {"stale": 2, "truncated": 1}},
        "instrument": "KPF",
        "frame": 7,
        "date_beg": "2024-04-22T08:00:32.886179",
        "date": "2024-04-22T08:11:30.500",
        "time": "2026-09-21T14:13:20.000Z",
    }


def test_of_what_was_archived_the_url_is_told_and_no_path():
    told = json.loads(message(notice(event="archived", url="s3://archive/KP.1.fits"), ACCOUNT, NOW))
    assert (told["path"], told["url"]) == (None, "s3://archive/KP.1.fits")


def test_an_id_is_the_same_for_the_same_file_and_another_for_any_other():
    others = [{"event": "archived"}, {"path": "/l0/b.fits"}, {"version": 2}, {"written": "2024-04-22T08:11:30.501"}, {"url": "s3://a/b"}]
    ids = [notice(**changes).id for changes in ({}, *others)]
    assert len(set(ids)) == len(ids)
    assert notice(replaced="/l0/superseded/x", instrument="KPF2").id == notice().id


def test_no_secret_is_in_the_text_of_a_receiver():
    hook = ToWebhook(url="https://hooks.example.org/secret?token=secret", headers=(("Authorization", Secret(value="secret")),))
    broker = ToBroker(url="amqp://kpf:secret@broker/", password=Secret(value="secret"), queue="l0")
    for way in (hook, broker):
        receiver = Receiver(name="one", way=way)
        assert "secret" not in f"{receiver!r} {receiver.shown}"


@given(st.text(), st.lists(st.text(alphabet="abc", min_size=1)))
def test_what_is_redacted_has_no_secret_in_it(text, secrets):
    assert all(secret not in redacted(text, secrets) for secret in secrets)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_pause_is_never_shorter_than_two_thirds_of_the_first_and_never_longer_than_the_longest(attempts, chance, refused):
    assert FIRST_PAUSE * 2 // 3 <= pause_after(attempts, chance, refused=refused) <= LONGEST_PAUSE
    assert pause_after(1, chance) < 3 * SECOND


def test_what_the_primary_tells_of_the_version_before_is_read_as_it_is_written():
    cards = version_cards(Replaced(version=3, written="2024-04-22T08:11:30.500", sha256="a" * 64, reason="red came late"))
    history = [card[8:] for card in cards if card.startswith("HISTORY")]
    assert earlier_version(history, 4) == (3, "a" * 64)
    assert earlier_version(history, 3) is None
    assert earlier_version([], 1) is None
