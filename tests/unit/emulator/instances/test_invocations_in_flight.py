"""What becomes of the replies that an instance's runtime owes."""

from __future__ import annotations

from bridge.emulator.instances import failures
from bridge.emulator.instances.invocation import Reply
from bridge.emulator.instances.invocations_in_flight import InvocationsInFlight


def test_an_invocation_whose_reply_is_over_keeps_nobody_busy() -> None:
    in_flight = InvocationsInFlight()
    in_flight.add("first", Reply())
    assert in_flight.is_busy

    in_flight.finish("first", None)

    assert not in_flight.is_busy
    assert len(in_flight) == 1  # until its log is written


def test_every_reply_fails_with_its_own_request_id() -> None:
    in_flight, first, second = InvocationsInFlight(), Reply(), Reply()
    in_flight.add("first", first)
    in_flight.add("second", second)

    in_flight.fail_all(lambda request_id: failures.timed_out(request_id, 3))

    assert [reply.failure for reply in (first, second)] == [
        failures.timed_out("first", 3),
        failures.timed_out("second", 3),
    ]


def test_an_answer_to_an_unknown_invocation_is_ignored() -> None:
    in_flight, reply = InvocationsInFlight(), Reply()
    in_flight.add("known", reply)

    in_flight.finish("unknown", None)

    assert not reply.is_over


def test_a_breakpoint_lifts_the_limits_of_the_present_invocations_alone() -> None:
    in_flight = InvocationsInFlight()
    in_flight.add("present", Reply())

    in_flight.lift_time_limits()
    in_flight.add("later", Reply())

    assert not in_flight.has_time_limit("present")
    assert in_flight.has_time_limit("later")
    in_flight.remove("present")
    assert in_flight.has_time_limit("present")
