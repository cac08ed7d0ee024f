"""Requests under way while the buffers run short: who sends on, who waits, who ends."""

from __future__ import annotations

import pytest

from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.errors import BuffersFull
from bridge.server.uploads import UPLOAD_TURN, WAIT, Uploads

_LIMIT = 1000
"""Half of it: 500; three quarters: 750."""


class _Upload:
    """A request of a connection; its client sends whenever it may."""

    def __init__(self, bench: _Bench, connection: str) -> None:
        self.connection = connection
        self.account = OpenAccount(bench.buffers)
        self.may_send = True
        self.refused: BuffersFull | None = None
        self._bench = bench
        bench.uploads.begin(self, 0)

    def sends(self, size: int) -> None:
        self.account.hold_anyway(size)
        self._bench.uploads.grow(self, size)
        if self.refused is None:
            self.may_send = self._bench.uploads.may_send_on(self, now=self._bench.now)

    def ends(self) -> None:
        """Complete, answered and over."""
        self._bench.uploads.end(self)
        self.account.close()

    def send_on(self) -> None:
        self.may_send = True

    def refuse(self, cause: BuffersFull) -> None:
        self.refused = cause
        self.account.close()


class _Bench:
    def __init__(self) -> None:
        self.buffers = Buffers(_LIMIT, call_cost=0, covered=0)
        self.uploads = Uploads(self.buffers)
        self.now = 100.0

    def upload(self, connection: str, size: int = 0) -> _Upload:
        upload = _Upload(self, connection)
        if size:
            upload.sends(size)
        return upload

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.uploads.check(self.now)


@pytest.fixture
def bench() -> _Bench:
    return _Bench()


def test_everybody_sends_on_while_there_is_room(bench: _Bench) -> None:
    uploads = [bench.upload(connection, 100) for connection in ("a", "a", "a", "a", "b")]

    assert all(upload.may_send for upload in uploads)
    assert 500 == bench.uploads.held


def test_where_room_is_short_one_request_sends_on_and_the_others_wait(bench: _Bench) -> None:
    first, second, third = (bench.upload("a", 200) for _ in range(3))
    fourth = bench.upload("a", 10)

    assert [True, True, True, False] == [each.may_send for each in (first, second, third, fourth)]
    second.sends(10)
    assert not second.may_send


def test_a_connection_below_its_share_does_not_wait(bench: _Bench) -> None:
    """However much the others hold."""
    for _ in range(6):
        bench.upload("greedy", 100)
    small = bench.upload("modest", 50)

    assert small.may_send
    assert small.refused is None


def test_who_waits_goes_on_when_room_comes_free(bench: _Bench) -> None:
    """At once, the one that has waited longest first."""
    filling = bench.upload("a", 550)
    waiting = [bench.upload("a", 20) for _ in range(3)]
    before = [each.may_send for each in waiting]
    filling.ends()

    assert [False] * 3 == before
    assert [True] * 3 == [each.may_send for each in waiting]
    assert not bench.buffers.is_awaited


def test_room_that_others_give_back_counts_as_well(bench: _Bench) -> None:
    """Replies fill the buffers, too."""
    reply = OpenAccount(bench.buffers)
    reply.hold_anyway(900)
    first, waiting = bench.upload("a", 20), bench.upload("b", 20)
    before = (first.may_send, waiting.may_send)
    reply.let_go(500)

    assert (True, False) == before
    assert waiting.may_send
    reply.close()


def test_the_turn_passes_on_from_a_client_that_does_not_use_it(bench: _Bench) -> None:
    """Requests that wait for each other would wait for ever."""
    slow, waiting = bench.upload("a", 600), bench.upload("a", 20)
    before = waiting.may_send
    bench.pass_time(UPLOAD_TURN + 1)
    after = waiting.may_send
    slow.sends(1)

    assert (False, True, False) == (before, after, slow.may_send)


def test_the_turn_passes_on_when_its_request_is_complete(bench: _Bench) -> None:
    first = bench.upload("a", 550)
    waiting = [bench.upload("a", 20) for _ in range(2)]
    bench.uploads.end(first)  # complete: its call still holds it
    bench.upload("b", 500)
    assert waiting[0].may_send


def test_who_has_waited_too_long_is_refused(bench: _Bench) -> None:
    """Naming the limit; the one whose turn it is goes on."""
    first, waiting = bench.upload("a", 600), bench.upload("a", 20)
    for _ in range(int(WAIT) + 2):
        bench.pass_time(1)
        first.sends(1)

    assert first.refused is None
    assert waiting.refused is not None
    assert "1000 bytes (buffers)" in str(waiting.refused)
    assert 600 + int(WAIT) + 2 == bench.uploads.held == bench.buffers.held


def test_the_connection_that_holds_most_loses_its_youngest_request(bench: _Bench) -> None:
    """Where windows that were open already bring more than there is room for."""
    greedy = [bench.upload("greedy", 200) for _ in range(3)]
    modest = bench.upload("modest", 100)
    modest.sends(100)

    assert [False, False, True] == [each.refused is not None for each in greedy]
    assert modest.refused is None
    assert 600 == bench.uploads.held == bench.buffers.held


def test_a_request_alone_is_not_ended_for_others(bench: _Bench) -> None:
    """Its own limits and the whole of the buffers bound it."""
    alone = bench.upload("a", 900)

    assert alone.may_send
    assert alone.refused is None


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_for_ever_and_everything_is_given_back(seed: int) -> None:
    """Whatever comes in whatever order: each request ends, complete or refused, and the counts are 0 at the end."""
    from random import Random

    chance = Random(seed)
    bench = _Bench()
    wanted = {bench.upload(chance.choice("abc")): chance.randint(1, 700) for _ in range(12)}
    under_way = dict(wanted)
    for _ in range(400):
        for upload in chance.sample(list(under_way), len(under_way)):
            if upload.may_send and upload.refused is None:
                size = min(under_way[upload], chance.randint(1, 60))
                upload.sends(size)
                under_way[upload] -= size
                is_refused: bool = upload.refused is not None  # by its own last bytes
                if not is_refused and not under_way[upload]:
                    upload.ends()
        under_way = {each: left for each, left in under_way.items() if left and not each.refused}
        assert bench.uploads.held <= _LIMIT
        bench.pass_time(1)

    assert {} == under_way
    assert any(upload.refused is None for upload in wanted)
    assert (0, 0) == (bench.uploads.held, bench.buffers.held)
