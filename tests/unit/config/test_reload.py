from __future__ import annotations

from dataclasses import fields, replace

import pytest

from bridge.config.reload import APPLIED, NEEDS_RESTART, Changes, after_reload, changed_sections
from bridge.config.schema import Config
from tests.support.configured import configured

OLD = configured("services: {a.B: function:f}")
NEW = configured("""
listen: a:1
admin: null
emulator: a:2
workers: 2
http2: {engine: h2}
max_connections: {total: 1}
duplex: {listen: "127.0.0.1:50052"}
drain: 1s
drain_delay: 1s
buffers: 1MiB
aws: {region: eu-west-1}
defaults: {timeout: 1s}
services: {a.B: function:g}
functions: {f: {handler: a.b}}
reflection: false
health: {functions: true}
log: {level: debug}
""")


def test_every_section_is_one_or_the_other() -> None:
    assert {"services", "defaults", "functions", "health", "reflection", "log", "aws"} == set(APPLIED)
    assert {field.name for field in fields(Config)} - {"warnings", "filled", "secrets", "named_files", *APPLIED} == set(
        NEEDS_RESTART
    )


def test_nothing_changed() -> None:
    assert Changes((), ()) == changed_sections(OLD, configured("services: {a.B: function:f}"))


@pytest.mark.parametrize("section", [*APPLIED, *NEEDS_RESTART])
def test_a_changed_section_is_named(section: str) -> None:
    new = replace(OLD, **{section: getattr(NEW, section)})

    changes = changed_sections(OLD, new)
    assert (section,) == changes.applied + changes.needs_restart


def test_a_default_changes_the_services_that_inherit_it() -> None:
    new = configured("services: {a.B: function:f}\ndefaults: {timeout: 1s}")

    assert Changes(("defaults", "services"), ()) == changed_sections(OLD, new)


def test_after_a_reload_what_needs_a_restart_is_as_before() -> None:
    result = after_reload(OLD, NEW)

    assert Changes((), NEEDS_RESTART) == changed_sections(result, NEW)
    assert Changes(APPLIED, ()) == changed_sections(OLD, result)
