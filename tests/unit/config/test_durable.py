"""`durable`: how it is read, and what it cannot go with."""

from pathlib import Path

import pytest

from bridge.config.durable import Durable, ExecutionName
from tests.support.configured import configured, leg, problems

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"
DURABLE = "durable: {name: {metadata: idempotency-key}}"


def _entry(more: str = "", target: str = "function:f:live", durable: str = DURABLE) -> str:
    sections = "functions: {l: {handler: a.b}}\nduplex: {listen: '127.0.0.1:1'}"
    return f"{sections}\nservices: {{a.B: {{target: '{target}', {durable}{more}}}}}"


@pytest.mark.parametrize("target", ["function:f:live", "function:f:7", "function:f:$LATEST", f"{ARN}:live", "local:l"])
def test_a_qualified_function_may_be_durable(target: str) -> None:
    assert Durable(ExecutionName("idempotency-key")) == leg(_entry(target=target)).durable


def test_names_of_metadata_have_no_case() -> None:
    read = leg(_entry(durable="durable: {name: {metadata: Idempotency-Key}}")).durable

    assert read is not None
    assert "idempotency-key" == read.name.metadata


@pytest.mark.parametrize("target", ["function:f", ARN])
def test_a_function_without_a_qualifier_is_refused(target: str) -> None:
    assert [f"bridge.yaml:3: services.a.B.durable: durable needs a version or an alias: {target}:ALIAS"] == problems(
        _entry(target=target)
    )


STREAM = "durable needs invoke_mode: buffered, because streamed invocations take no name"
DUPLEX = "durable needs duplex: {use: never}, because calls in full duplex are no executions"


@pytest.mark.parametrize(
    ("problem", "more"),
    [
        (f"invoke_mode: {STREAM}", "invoke_mode: response_stream"),
        (f"duplex.use: {DUPLEX}", "duplex: {use: auto}"),
        (f"duplex.use: {DUPLEX}", "duplex: {use: always}"),
        (f"duplex.calls: {DUPLEX}", "duplex: {calls: 5}"),
        ("quirks: durable has no effect with quirks: rie, which keeps no executions", "quirks: rie"),
    ],
)
def test_what_takes_no_name_is_refused(problem: str, more: str) -> None:
    assert [f"bridge.yaml:3: services.a.B.{problem}"] == problems(_entry(f", {more}"))


@pytest.mark.parametrize(
    ("message", "defaults"),
    [(STREAM, "invoke_mode: response_stream"), (DUPLEX, "duplex: {use: always}")],
)
def test_defaults_are_no_excuse(message: str, defaults: str) -> None:
    """Where the entry itself says nothing of it, the problem is that of `durable`."""
    assert [f"bridge.yaml:4: services.a.B.durable: {message}"] == problems(f"defaults: {{{defaults}}}\n{_entry()}")


def test_defaults_that_are_the_default_change_nothing() -> None:
    """`auto` under `defaults` is what nobody has to write."""
    assert [] == problems(f"defaults: {{duplex: {{use: auto, calls: 5}}}}\n{_entry()}")


def test_without_duplex_an_entry_is_never_in_full_duplex() -> None:
    """The default of `duplex.use` is for entries that are not durable."""
    assert not leg(_entry()).may_connect
    assert leg(_entry(durable="durable: null")).may_connect
    assert not leg(_entry(", duplex: {use: never}")).may_connect
    assert () == configured(_entry()).warnings


def test_equal_calls_of_two_tenants_are_no_one_execution(tmp_path: Path) -> None:
    raw = "payload: json, event: raw, descriptors: ."
    [problem] = problems(_entry(f", tenant: {{metadata: x-tenant}}, {raw}"), folder=tmp_path)

    assert problem.startswith("bridge.yaml:3: services.a.B.event: durable with a tenant cannot go with event: raw")
    assert [] == problems(_entry(", tenant: {metadata: x-tenant}"))


@pytest.mark.parametrize(
    ("problem", "durable"),
    [
        ('durable: needs "name.metadata"', "durable: {}"),
        ('durable: needs "name.metadata"', "durable: {name: {}}"),
        ("durable.name: expected a mapping", "durable: {name: idempotency-key}"),
        ("durable: expected a mapping", "durable: idempotency-key"),
        ("durable.name.metadata: the value must be text", "durable: {name: {metadata: key-bin}}"),
        ("durable.name.metadata: x-amz… names are AWS's", "durable: {name: {metadata: x-amz-key}}"),
        ("durable.name.header: unknown key", "durable: {name: {header: key}}"),
    ],
)
def test_what_names_no_execution_is_refused(problem: str, durable: str) -> None:
    assert any(
        line.startswith(f"bridge.yaml:3: services.a.B.{problem}") for line in problems(_entry(durable=durable))
    ), problems(_entry(durable=durable))


def test_null_is_no_execution() -> None:
    assert leg(_entry(durable="durable: null")).durable is None
