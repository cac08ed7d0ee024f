from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.not_yet import NOT_YET, NotYet, equal, not_yet, unlike
from bridge.config.problems import Place
from tests.support.configured import problems

SAMPLES: dict[str, str] = {}
"""A file that uses what each key of the table refuses. One whose key has left the table may go."""

WORKING = """
workers: 1
aws: {role_arn: null}
defaults: {payload: grpc-web, event: http-v2, invoke_mode: buffered, json: {names: json, defaults: true}, role_arn: null,
           quirks: null, tls: null, headers: {}, auth: none, compression: pass}
functions: {f: {handler: a.b, url: {auth: iam}}}
services: {a.B: function:f, c.D: local:f}
"""


@pytest.mark.parametrize("row", NOT_YET, ids=lambda row: row.what)
def test_what_the_table_names_is_refused(row: NotYet, tmp_path: Path) -> None:
    """And refused for that alone: underneath, the value is read and checked."""
    text = SAMPLES[row.key]

    found = problems(text, folder=tmp_path, unfinished=[row])
    assert found
    assert all(line.endswith(f": not yet: {row.what}") for line in found)
    assert [] == problems(text, folder=tmp_path)


def test_defaults_work() -> None:
    """Writing a default down asks for nothing new."""
    assert [] == problems(WORKING, unfinished=NOT_YET)


def test_a_refusal_has_its_place() -> None:
    row = NotYet("services.target", bool, "targets")

    assert ["bridge.yaml:2: services.a.B: not yet: targets"] == problems(
        "services:\n  a.B: https://h", unfinished=[row]
    )


def test_rows_of_one_key_are_told_apart_by_value() -> None:
    table = [NotYet("k", equal("a"), "a"), NotYet("k", unlike("b"), "all but b")]
    place = Place("f", 1, "k")

    assert [["a", "all but b"], [], ["all but b"]] == [
        [
            problem.message.removeprefix("not yet: ")
            for problem in not_yet([("k", value, place)], table)
        ]
        for value in ("a", "b", "c")
    ]
