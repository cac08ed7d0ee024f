"""How `call --target` speaks to a target that entries of `services` lead to."""

from __future__ import annotations

import pytest

from bridge.commands.failure import CommandFailed
from bridge.commands.target_entries import entries_for
from bridge.config.schema import Service
from tests.support.configured import configured

PLAIN = configured('services: {"*": local:f}\nfunctions: {f: {handler: a.b}}').services["*"]
STREAM = "{target: local:f, invoke_mode: response_stream}"


def entries(text: str, *called: str) -> dict[str, Service]:
    config = configured(f"services: {{{text}}}\nfunctions: {{f: {{handler: a.b}}, g: {{handler: a.b}}}}")
    service, method = called or (None, None)
    return dict(entries_for(PLAIN, config.services, None if service is None or method is None else (service, method)))


def test_an_unknown_target_has_the_settings_of_none() -> None:
    assert {"*": PLAIN} == entries("a.A: {target: local:g, invoke_mode: response_stream}")


def test_other_services_are_called_as_the_one_that_is_configured() -> None:
    found = entries(f"a.A: {STREAM}, b.B: local:g", "b.B", "Go")

    assert {"a.A": "response_stream", "*": "response_stream"} == {
        key: entry.legs[0].invoke_mode for key, entry in found.items()
    }


def test_entries_may_differ_in_what_no_target_notices() -> None:
    found = entries("a.A: local:f, a.A/Slow: {timeout: 9m}", "b.B", "Go")

    assert {"a.A", "a.A/Slow", "*"} == found.keys()


@pytest.mark.parametrize(
    ("called", "mode"),
    [("a.A/Go", "buffered"), ("b.c.D/Go", "response_stream"), ("grpc.health.v1.Health/Check", None)],
)
def test_several_entries_hold_for_their_services(called: str, mode: str | None) -> None:
    found = entries(f"a.A: local:f, b.*: {STREAM}", *called.split("/"))

    assert {"a.A", "b.*"} == found.keys()
    assert mode is None or mode == found[{"a": "a.A", "b": "b.*"}[called[0]]].legs[0].invoke_mode


@pytest.mark.parametrize(
    ("called", "told"),
    [
        ("c.C/Go", "c.C/Go matches none of the entries of `services` that lead to local:f; there are a.A/Go, shop.*"),
        ("a.A/No", "a.A/No matches none of the entries of `services` that lead to local:f; there are a.A/Go, shop.*"),
    ],
)
def test_a_service_of_none_of_several_entries_is_told_which_there_are(called: str, told: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        entries(f"a.A/Go: local:f, shop.*: {STREAM}, c.*: local:g", *called.split("/"))

    assert (2, told) == (refused.value.exit_code, str(refused.value))


def test_a_service_without_its_method_is_left_to_the_call() -> None:
    """`a.A` is read as method A of service a."""
    assert "a.A" in entries(f"a.A: local:f, b.B: {STREAM}", "a", "A")


def test_a_split_keeps_the_target_alone() -> None:
    found = entries("a.A: {split: {local:f: {weight: 1, invoke_mode: response_stream}, local:g: 99}}")

    (leg,) = found["a.A"].legs
    assert ("local:f", "response_stream") == (str(leg.target), leg.invoke_mode)


def test_a_service_of_an_entry_is_called_with_this_entry_alone() -> None:
    """With one for all services, the descriptors of the folder would all have to be right."""
    assert {"a.A"} == entries(f"a.A: {STREAM}", "a.A", "Go").keys()
    assert {"a.A", "*"} == entries(f"a.A: {STREAM}").keys()
