"""Real message brokers: what is there outlasts a hard stop, and comes in order after one that lasts for a while."""

import json
import socket
import sys
import threading

import pytest
from announced import NOW, notice, receiver
from broker_servers import RabbitMQ, Redis, running
from kombu import Connection, Exchange, Queue
from recording import Recording
from watching import wait_for

from assembler.core.announcements import Secret, ToBroker
from assembler.core.instants import SECOND
from assembler.errors import ConfigurationError, DeliveryError
from assembler.service.announcement_queue import AnnouncementQueue
from assembler.service.broker import Broker
from assembler.service.receivers import way_to
from assembler.service.sender import Sender

MESSAGE = json.dumps({"id": "1"})


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory):
    with running(RabbitMQ, tmp_path_factory.mktemp("broker") / "rabbitmq") as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with running(Redis, tmp_path_factory.mktemp("broker") / "redis") as server:
        yield server


@pytest.fixture(params=["rabbitmq", "redis"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def way():
    opened = []

    def open_way(server, **told) -> Broker:
        opened.append(Broker(ToBroker(**({"url": server.url} | told)), 10.0, lambda secret: secret.value))
        return opened[-1]

    yield open_way
    for broker in opened:
        broker.close()


def received(server, queue: str) -> list[dict]:
    """Take everything from a queue, as a consumer with kombu does it."""
    got = []
    with Connection(server.url) as connection:
        taking = connection.SimpleQueue(Queue(queue, durable=True))
        while True:
            try:
                message = taking.get(timeout=0.3)
            except taking.Empty:
                taking.close()
                return got
            assert message.content_type == "application/json"
            got.append(message.payload)
            message.ack()


def test_a_queue_is_made_where_it_is_not_there_and_messages_outlast_a_hard_stop(server, way):
    broker = way(server, queue="outlasting")
    for number in range(3):
        broker.send(json.dumps({"id": str(number)}), str(number))
    server.stop()
    with pytest.raises(DeliveryError):
        broker.send(json.dumps({"id": "lost"}), "lost")
    server.start()
    broker.send(json.dumps({"id": "3"}), "3")
    assert [told["id"] for told in received(server, "outlasting")] == ["0", "1", "2", "3"]


def test_announcements_come_in_order_after_the_broker_was_away_for_a_while(server, tmp_path):
    to_it = receiver("mq", way=ToBroker(url=server.url, queue="in-order"), timeout=5.0)
    path = str(tmp_path / "queue.sqlite")
    queue = AnnouncementQueue(path, (to_it,), NOW)
    log, now = Recording(), NOW

    def clock() -> int:  # a second is over at each look, so that nobody waits for a pause
        nonlocal now
        now += SECOND
        return now

    def put(numbers) -> None:
        for number in numbers:
            queue.put(notice(number), NOW)
            (entry,) = queue.unmade()
            queue.made(entry.number, json.dumps({"id": notice(number).id}))
        sender.nudge()

    sender = Sender(path, (to_it,), clock=clock, log=log)
    try:
        sender.start()
        put(range(3))
        wait_for("the first ones", lambda: not queue.standing(to_it).waiting)
        server.stop()
        put(range(3, 6))
        wait_for("an attempt that fails", lambda: queue.standing(to_it).attempts)
        server.start()
        put(range(6, 8))
        wait_for("the others", lambda: not queue.standing(to_it).waiting)
    finally:
        assert sender.stop()
        queue.close()
    got = [told["id"] for told in received(server, "in-order")]
    assert list(dict.fromkeys(got)) == [notice(number).id for number in range(8)]
    assert log.events().count("announced") == 8
    assert "receiver_failed" in log.events()
    assert "receiver_answers_again" in log.events()


def test_what_no_queue_takes_is_not_received(rabbitmq, way):
    exchange = Exchange("l0", "topic", durable=True)
    with Connection(rabbitmq.url) as connection:
        exchange(connection.default_channel).declare()
        broker = way(rabbitmq, exchange="l0", routing_key="kpf.published")
        with pytest.raises(DeliveryError, match=r"no queue takes it: exchange 'l0', routing key 'kpf\.published'"):
            broker.send(MESSAGE, "1")
        Queue("bound", exchange, "kpf.*", durable=True)(connection.default_channel).declare()
    broker.send(MESSAGE, "1")
    assert received(rabbitmq, "bound") == [{"id": "1"}]


def test_an_exchange_that_is_not_there_is_told_and_a_queue_that_is_another_kind_is_used_as_it_is(rabbitmq, way):
    with pytest.raises(DeliveryError, match=r"NOT_FOUND.*no exchange 'nowhere'"):
        way(rabbitmq, exchange="nowhere", routing_key="x").send(MESSAGE, "1")
    with Connection(rabbitmq.url) as connection:
        Queue("bounded", durable=True, max_length=5)(connection.default_channel).declare()
        way(rabbitmq, queue="bounded").send(MESSAGE, "1")
        with connection.default_channel as channel:
            assert channel.basic_get("bounded", no_ack=True).body == MESSAGE


def test_a_password_is_told_to_nobody_else(server, way):
    told = server.url.replace("://", "://guest@")
    with pytest.raises(DeliveryError) as raised:
        way(server, url=told, password=Secret(value="s3cr3t"), queue="q").send(MESSAGE, "1")
    assert "s3cr3t" not in str(raised.value)
    assert str(raised.value).startswith(f"{told.split('://')[0]}://127.0.0.1:{server.port}: ")


def test_a_server_that_accepts_and_says_nothing_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taken = []
        accepting = threading.Thread(target=lambda: taken.append(silent.accept()))
        accepting.start()
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}//"
        with pytest.raises(DeliveryError):
            Broker(ToBroker(url=url, queue="q"), 0.3, lambda secret: secret.value).send(MESSAGE, "1")
        accepting.join()
        taken[0][0].close()


@pytest.mark.parametrize(("url", "module"), [("amqp://x/", "kombu"), ("redis://x/", "redis")])
def test_without_the_extra_one_clear_message_says_which_to_install(monkeypatch, url, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"announcing to {url[:-1]} needs {module} .*; install l0-assembler\[broker\]"):
        way_to(receiver(way=ToBroker(url=url, queue="q")))
