from __future__ import annotations

from pathlib import Path

from bridge.config.table import HEADINGS, RouteRow, format_limits, route_rows
from bridge.rpc.limits import Limits
from tests.support.configured import configured

USUAL = "request 4MiB, buffered 6MiB, concurrency 1000"


def test_each_target_is_a_row(tmp_path: Path) -> None:
    """In the order of the file."""
    (tmp_path / "d").touch()
    text = """
functions: {echo: {handler: a.b}}
services:
  a.B: {target: function:f, timeout: 90s, payload: json, event: raw, descriptors: d, invoke_mode: response_stream}
  a.B/M: local:echo
  b.*: {split: {function:f: 2, 'grpc://h:1': 1}, max_concurrency: 5}
  c.C: {target: 'https://x.lambda-url.eu-west-1.on.aws', auth: iam}
  "*": null
"""
    assert [
        RouteRow("a.B", "function:f", "-", "json in raw, streamed", "90s", USUAL),
        RouteRow("a.B/M", "local:echo", "-", "grpc-web in http-v2", "90s", USUAL),
        RouteRow("b.*", "function:f", "66.7%", "grpc-web in http-v2", "-", USUAL.replace("1000", "5")),
        RouteRow("b.*", "grpc://h:1", "33.3%", "grpc", "-", USUAL.replace("1000", "5")),
        RouteRow(
            "c.C", "https://x.lambda-url.eu-west-1.on.aws", "-", "grpc-web, signed for lambda in eu-west-1", "-", USUAL
        ),
        RouteRow("*", "UNIMPLEMENTED", "-", "-", "-", "-"),
    ] == route_rows(configured(text, folder=tmp_path))


def test_headers_are_not_in_the_table() -> None:
    """Their values may be secrets."""
    config = configured("services: {a.B: {target: 'https://h', headers: {x-api-key: s3cret}}}")

    assert "s3cret" not in str(route_rows(config))


def test_headings_name_the_columns() -> None:
    assert ("service", "target", "share", "speaks", "timeout", "limits") == HEADINGS


def test_only_bounds_that_are_set_are_written() -> None:
    assert "request 4MiB, buffered 6MiB, response 1KiB, concurrency 1" == format_limits(Limits(max_response=1024), 1)
