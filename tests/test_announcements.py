"""The YAML of who is told: what it may say, and what is told of what it may not."""

from pathlib import Path

import pytest

from assembler.announcements import load_announcements, read_announcements
from assembler.core.announcements import Receiver, Secret, ToBroker, ToCommand, ToFile, ToWebhook
from assembler.errors import ConfigurationError

ALL = """
receivers:
  - {name: log, file: announced.jsonl}
  - name: hook
    webhook: https://hooks.example.org/l0?token=1
    headers: {Authorization: {env: TOKEN}, X-Key: {file: key}, X-From: kpf}
    events: [published]
    timeout: 500 ms
  - {name: run, command: [./notify, "a b"]}
  - {name: mq, broker: "amqp://kpf@broker/", password: {file: /run/password}, exchange: l0, routing_key: kpf}
"""


def test_all_kinds_are_read_and_paths_are_those_beside_the_file():
    assert read_announcements(ALL, "/etc/kpf/announce.yaml") == (
        Receiver(name="log", way=ToFile(path="/etc/kpf/announced.jsonl")),
        Receiver(
            name="hook",
            way=ToWebhook(
                url="https://hooks.example.org/l0?token=1",
                headers=(
                    ("Authorization", Secret(environment="TOKEN")),
                    ("X-Key", Secret(file="/etc/kpf/key")),
                    ("X-From", Secret(value="kpf")),
                ),
            ),
            events=frozenset({"published"}),
            timeout=0.5,
        ),
        Receiver(name="run", way=ToCommand(words=("/etc/kpf/./notify", "a b"))),
        Receiver(
            name="mq", way=ToBroker(url="amqp://kpf@broker/", password=Secret(file="/run/password"), exchange="l0", routing_key="kpf")
        ),
    )


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{name: a}", "2: receivers[0]: expected one of file, webhook, command, broker; found none"),
        ("{name: a, file: x, command: [y]}", "2: receivers[0]: expected one of file, webhook, command, broker; found file and command"),
        ("{name: a b, file: x}", "2: receivers[0].name: expected a name of up to 60 letters, digits, _, . and -, found 'a b'"),
        ("{name: a, file: x}\n- {name: a, file: y}", "3: receivers[1].name: another receiver is called a, too; expected a name of its own"),
        ("{name: a, webhook: 'ftp://x'}", "2: receivers[0].webhook: expected http://HOST... or https://HOST..., in"),
        ("{name: a, webhook: 'http://u:secret@x'}", "2: receivers[0].webhook: a user and a password do not"),
        ("{name: a, webhook: 'http://x', headers: {A: {other: secret}}}", "2: receivers[0].headers.A: expected printable ASCII as text"),
        ("{name: a, webhook: 'http://x', headers: {A: 'secret\u00e9'}}", "2: receivers[0].headers.A: expected printable ASCII as text"),
        ("{name: a, webhook: 'http://x', headers: {Host: secret}}", "2: receivers[0].headers.Host: expected the name of a header that is"),
        ("{name: a, file: x, headers: {A: b}}", "2: receivers[0].headers: goes with webhook, and this one has file"),
        ("{name: a, webhook: 'http://[secret'}", "2: receivers[0].webhook: expected http://HOST... or https://HOST..., in"),
        ("{name: a, webhook: 'http://x', headers: Bearer secret}", "2: receivers[0].headers: expected a mapping"),
        ("{name: a, broker: 'amqp://x', queue: q, password: secret}", "2: receivers[0].password: expected a mapping"),
        ("{name: a, broker: 'amqp://x', queue: q, password: {env: my-secret}}", "2: receivers[0].password.env: expected the name of an"),
        ("{name: a, command: notify --token secret}", "2: receivers[0].command: expected a list"),
        ("{name: a, command: []}", "2: receivers[0].command: expected the program and its arguments"),
        ("{name: a, command: [sleep, 1]}", "2: receivers[0].command[1]: expected text"),
        ("{name: a, broker: 'amqp://x/'}", "2: receivers[0]: expected queue, or exchange and routing_key"),
        ("{name: a, broker: 'redis://x/', exchange: e}", "2: receivers[0].exchange: Redis has none; expected queue"),
        ("{name: a, broker: 'amqp://x:secret@y', queue: q, password: {env: P}}", "2: receivers[0].password: another one stands in"),
        ("{name: a, broker: 'rediss://x/?ssl_cert_reqs=none', queue: q}", "2: receivers[0].broker: expected a URL without ? and #"),
        ("{name: a, file: x, timeout: 1 d}", "2: receivers[0].timeout: expected more than 0 s, and up to 600 s, found '1 d'"),
        ("{name: a, file: x, events: []}", "2: receivers[0].events: expected one of published, archived, or both"),
        ("{name: a, file: x, urgent: true}", "2: receivers[0].urgent: is not known; expected name, file, webhook, command, broker"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_without_secrets(entry, told):
    with pytest.raises(ConfigurationError) as raised:
        read_announcements(f"receivers:\n- {entry}\n", "announce.yaml")
    assert str(raised.value).startswith(f"announce.yaml:{told}")
    assert "secret" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"announce\.yaml: cannot be read"):
        load_announcements(tmp_path / "announce.yaml")


def test_the_example_of_the_page_is_read():
    text = (Path(__file__).parent.parent / "docs" / "announcing.md").read_text()
    block = text.partition("    receivers:\n")[2].partition("\n\n")[0]
    assert len(read_announcements(f"    receivers:\n{block}\n", "announce.yaml")) == 5
