from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.hosts import ALL_REGIONS
from bridge.config import iam
from bridge.config.formats import PAYLOADS
from bridge.config.iam import IamAuth
from bridge.config.schema import Defaults, JsonOptions, Match, MatchKind, Role, Service, TargetTls
from bridge.config.services import (
    INHERITED_BY_OWN_TARGET,
    NEEDS,
    matching_keys,
    parse_key,
)
from bridge.config.target import EXPECTED, LocalTarget, LocalWebTarget
from bridge.routing.router import Router
from bridge.rpc.address import UnixAddress
from bridge.rpc.limits import Limits, QueueLimits, RetryPolicy
from bridge.rpc.status import StatusCode
from bridge.rpc.url import ConnectTo, Origin, Url
from tests.support.configured import configured, leg, problems, service

ARN = "arn:aws:lambda:eu-west-1:123456789012:function"
URL_HOST = "https://abc.lambda-url.eu-west-1.on.aws"

TARGETS = {
    "lambda": "function:f:live",
    "local": "local:f",
    "http": "http://h",
    "https": "https://h",
    "grpc": "grpc://h:1",
    "grpcs": "grpcs://h:1",
    "unix": "unix:/s",
}
"""One of each kind."""

PAYLOAD_NAMES = " or ".join(", ".join(PAYLOADS).rsplit(", ", 1))

LOCAL = "functions: {f: {handler: a.b}}\n"


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "key"),
    [
        (Match(MatchKind.METHOD, "a.b.C", "M"), "a.b.C/M"),
        (Match(MatchKind.SERVICE, "a.b.C"), "a.b.C"),
        (Match(MatchKind.SERVICE, "Greeter"), "Greeter"),
        (Match(MatchKind.PREFIX, "a.b"), "a.b.*"),
        (Match(MatchKind.ANY), "*"),
    ],
)
def test_keys(expected: Match, key: str) -> None:
    assert expected == parse_key(key)


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("a key does not begin with a slash", "/a.B/M"),
        ("for all methods of a service, write the service alone", "a.B/*"),
        ("* stands only last after a dot (pkg.*), or alone", "a.*.B"),
        ("* stands only last after a dot (pkg.*), or alone", "a*"),
        ("* stands only last after a dot (pkg.*), or alone", "*.B"),
        ("* stands only last after a dot (pkg.*), or alone", "a.B/M.*"),
        ("expected pkg.Service, pkg.Service/Method, pkg.* or *", "a..B"),
        ("expected pkg.Service, pkg.Service/Method, pkg.* or *", "a.B/M/N"),
        ("expected pkg.Service, pkg.Service/Method, pkg.* or *", "a B"),
        ("expected pkg.Service, pkg.Service/Method, pkg.* or *", ""),
    ],
)
def test_what_is_no_key_is_refused(message: str, key: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_key(key)

    assert str(refused.value).startswith(message)


WORDS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map(".".join)


@given(st.sets(st.one_of(WORDS, WORDS.map("{}.*".format), st.just("*"))), WORDS)
def test_inheritance_finds_the_entry_that_routing_finds(keys: set[str], name: str) -> None:
    """What a method inherits from is what its service would match."""
    inherited_from = next((key for key in matching_keys(name) if key in keys), None)

    assert inherited_from == Router({key: key for key in keys}).match_service(name)


# -- targets -----------------------------------------------------------------------------------------------------------


def test_the_shortest_entry_is_a_target() -> None:
    entry = service(f"services: {{a.B: '{ARN}:greeter'}}", "a.B")

    assert "a.B" == entry.key
    assert f"{ARN}:greeter" == str(entry.legs[0].target)
    assert entry == Service(key="a.B", match=entry.match, legs=entry.legs)
    assert (1.0,) == entry.weights


@pytest.mark.parametrize("written", ["null", "~", "", "{target: null}"])
def test_null_is_unimplemented(written: str) -> None:
    assert () == service(f"services:\n  a.B: {written}", "a.B").legs


def test_null_takes_no_other_keys() -> None:
    assert ["bridge.yaml:1: services.a.B.timeout: has no effect without a target"] == problems(
        "services: {a.B: {target: null, timeout: 5s}}"
    )


def test_an_entry_needs_a_target() -> None:
    assert ['bridge.yaml:2: services.a.B: needs "target" or "split": only a method inherits one'] == problems(
        "services:\n  a.B: {timeout: 5s}\n  a.*: function:f"
    )


def test_target_and_split_exclude_each_other() -> None:
    (problem,) = problems("services: {a.B: {target: function:f, split: {function:g: 1}}}")

    assert 'services.a.B.split: "target" and "split" exclude each other' in problem


def test_a_local_target_must_be_among_the_functions() -> None:
    assert [
        'bridge.yaml:2: services.a.B: functions has no function named ecko, did you mean "echo"?',
    ] == problems("functions: {echo: {handler: a.b}}\nservices: {a.B: local:ecko}")
    assert [
        "bridge.yaml:2: services.a.B: functions has no function named zzz; there is echo",
    ] == problems("functions: {echo: {handler: a.b}}\nservices: {a.B: local:zzz}")


def test_another_local_lambda_has_functions_of_its_own() -> None:
    """With the URL of a running one, the names cannot be checked here."""
    assert [] == problems("emulator: http://127.0.0.1:9001\nservices: {a.B: local:echo}")


def test_a_list_is_no_entry() -> None:
    assert ["bridge.yaml:1: services.a.B: expected a mapping, found a list"] == problems(
        "services: {a.B: [function:f]}"
    )


# -- every key of an entry ---------------------------------------------------------------------------------------------


def test_the_keys_of_an_entry(tmp_path: Path) -> None:
    """Each value arrives where it belongs."""
    (tmp_path / "a.binpb").touch()
    text = """
services:
  a.B:
    target: function:f
    payload: json
    event: raw
    invoke_mode: response_stream
    descriptors: a.binpb
    json: {names: proto, defaults: false}
    role_arn: arn:aws:iam::123456789012:role/x
    endpoint_url: http://127.0.0.1:4566
    quirks: rie
    timeout: 2m
    max_request: 1MiB
    max_buffered: 2MiB
    max_response: 3MiB
    max_trailers: 4KiB
    max_concurrency: 5
    half_close: null
    retry: {attempts: 1, backoff: 0s, max_backoff: 1s, budget: 0%}
    throttled_as: RESOURCE_EXHAUSTED
    compression: identity
"""
    entry = service(text, "a.B", folder=tmp_path)
    (only,) = entry.legs

    assert ("json", "raw", "response_stream", tmp_path / "a.binpb") == (
        only.payload,
        only.event,
        only.invoke_mode,
        only.descriptors and only.descriptors.path,
    )
    assert JsonOptions("proto", defaults=False) == only.json
    assert Role("arn:aws:iam::123456789012:role/x") == only.role_arn
    assert Url(Origin("http", "127.0.0.1", 4566)) == only.endpoint_url
    assert "rie" == only.quirks
    assert 120 == entry.timeout
    assert Limits(1 << 20, 2 << 20, 3 << 20, 4 << 10, None, StatusCode.RESOURCE_EXHAUSTED) == entry.limits
    assert (5, RetryPolicy(1, 0, 1, 0), "identity") == (
        entry.max_concurrency,
        entry.retry,
        entry.compression,
    )


@pytest.mark.parametrize(
    ("defaults", "entry", "expected"),
    [
        ("{}", "{}", QueueLimits()),
        ("{}", "{queue: {calls: 5, wait: 250ms}}", QueueLimits(5, 0.25)),
        ("{}", "{queue: null}", None),
        ("{queue: null}", "{}", None),
        ("{queue: {wait: 2s}}", "{queue: {calls: 5}}", QueueLimits(5, 2.0)),
        ("{queue: {wait: 2s}}", "{queue: null}", None),
        ("{queue: null}", "{queue: {calls: 5}}", QueueLimits(5)),
        ("{queue: null}", "{queue: {}}", QueueLimits()),
    ],
)
def test_a_queue_is_inherited_key_by_key_and_may_be_null(
    defaults: str, entry: str, expected: QueueLimits | None
) -> None:
    """Whatever stands above covers what stands below, null too. A method takes it from its service in the same way."""
    of_service = service(f"defaults: {defaults}\nservices: {{a.B: {{target: function:f, <<: {entry}}}}}", "a.B")
    above = defaults[1:-1]
    below = ", ".join(each for each in ("target: function:f", above) if each)
    of_method = service(
        f"services: {{a.B: {{{below}}}, a.B/M: {entry if entry != '{}' else '{timeout: 1s}'}}}", "a.B/M"
    )

    assert expected == of_service.queue
    assert expected == of_method.queue


@pytest.mark.parametrize(
    ("problem", "queue"),
    [
        ('queue: expected a mapping, found "5"', "5"),
        ("queue.calls: ", "{calls: 0}"),
        ("queue.wait: ", "{wait: 0s}"),
        ('queue.call: unknown key, did you mean "calls"?', "{call: 5}"),
    ],
)
def test_a_wrong_queue_is_reported_where_it_stands(problem: str, queue: str) -> None:
    (found,) = problems(f"services: {{a.B: {{target: function:f, queue: {queue}}}}}")

    assert found.startswith(f"bridge.yaml:1: services.a.B.{problem}")


def test_keys_of_http_targets(tmp_path: Path) -> None:
    for name in ("ca.crt", "c.crt", "c.key"):
        (tmp_path / name).touch()
    text = f"""
services:
  a.B:
    target: {URL_HOST}
    tls: {{ca: ca.crt, cert: c.crt, key: c.key, server_name: users}}
    headers: {{X-Api-Key: secret}}
    auth: iam
"""
    only = leg(text, folder=tmp_path)

    assert TargetTls(tmp_path / "ca.crt", tmp_path / "c.crt", tmp_path / "c.key", "users") == only.tls
    assert {"x-api-key": "secret"} == only.headers
    assert IamAuth("lambda", "eu-west-1") == only.auth


def test_every_problem_of_an_entry_is_reported() -> None:
    """Also when its target is wrong."""
    text = """
services:
  a.B:
    target: nonsense
    timout: 5s
    max_request: 5
    payload: jsno
    retry: {atempts: 3}
    json: [x]
"""
    assert [
        (
            "bridge.yaml:4",
            f'expected {EXPECTED}; found "nonsense"; is it the name of a function? Then function:NAME',
        ),
        ("bridge.yaml:5", 'unknown key, did you mean "timeout"?'),
        ("bridge.yaml:6", 'a size needs a unit: 5B, 5KiB, 5MiB, found "5"'),
        ("bridge.yaml:7", f'expected {PAYLOAD_NAMES}, found "jsno", did you mean "json"?'),
        ("bridge.yaml:8", 'unknown key, did you mean "attempts"?'),
        ("bridge.yaml:9", "expected a mapping, found a list"),
    ] == [(line.split(": ")[0], line.split(": ", 2)[2]) for line in problems(text)]


def test_a_backoff_is_no_longer_than_the_longest() -> None:
    assert ["bridge.yaml:1: services.a.B.retry.backoff: backoff is longer than max_backoff"] == problems(
        "services: {a.B: {target: function:f, retry: {backoff: 5s}}}"
    )


# -- inheritance -------------------------------------------------------------------------------------------------------

FAMILY = """
defaults:
  timeout: 1s
  max_request: 1MiB
  retry: {budget: 5%}
services:
  shop.*: {target: function:shop, timeout: 2s, event: alb, retry: {attempts: 2}, compression: identity}
  shop.Cart/Add: {timeout: 3s}
  shop.Cart/Remove: {target: function:other, max_trailers: 4KiB}
  shop.Cart/List: function:list
  other.Thing: function:thing
  "*": {target: function:any, event: envoy}
  free.Thing/Do: {max_concurrency: 1}
"""


def test_an_entry_inherits_the_defaults() -> None:
    entry = service(FAMILY, "other.Thing")

    assert (1.0, 1 << 20, 0.05, 3) == (
        entry.timeout,
        entry.limits.max_request,
        entry.retry.budget,
        entry.retry.attempts,
    )


def test_a_prefix_does_not_inherit_from_less_specific_entries() -> None:
    """Only methods have an entry that their service would match."""
    assert "http-v2" == service(FAMILY, "other.Thing").legs[0].event


def test_a_method_inherits_key_by_key() -> None:
    """From the entry its service would match, then from the defaults."""
    entry = service(FAMILY, "shop.Cart/Add")

    assert ("function:shop", "alb") == (str(entry.legs[0].target), entry.legs[0].event)
    assert (3.0, "identity") == (entry.timeout, entry.compression)
    assert (2, 0.05, 1 << 20) == (
        entry.retry.attempts,
        entry.retry.budget,
        entry.limits.max_request,
    )


@pytest.mark.parametrize("key", ["shop.Cart/Remove", "shop.Cart/List"])
def test_a_method_with_a_target_of_its_own_inherits_only_bounds(key: str) -> None:
    """How to speak to another target is not inherited."""
    entry = service(FAMILY, key)

    assert ("http-v2", "pass") == (entry.legs[0].event, entry.compression)
    assert (2.0, 2) == (entry.timeout, entry.retry.attempts)


def test_a_method_may_inherit_from_any() -> None:
    assert "envoy" == service(FAMILY, "free.Thing/Do").legs[0].event


def test_keys_that_a_target_of_ones_own_leaves() -> None:
    assert {
        "timeout",
        "max_request",
        "max_buffered",
        "max_response",
        "max_trailers",
        "max_concurrency",
        "queue",
        "half_close",
        "retry",
        "throttled_as",
        "descriptors",
    } == INHERITED_BY_OWN_TARGET


@pytest.mark.parametrize(
    ("message", "services"),
    [
        ('needs "target" or "split": no entry matches its service', "a.B/M: {timeout: 1s}"),
        ('needs "target" or "split": "*" is null', 'a.B/M: {timeout: 1s}, "*": null'),
    ],
)
def test_a_method_without_a_target_to_inherit_is_refused(message: str, services: str) -> None:
    assert [f"bridge.yaml:1: services.a.B/M: {message}"] == problems(f"services: {{{services}}}")


def test_a_method_may_be_null() -> None:
    assert () == service("services: {a.B: function:f, a.B/M: null}", "a.B/M").legs


def test_a_method_inherits_a_split_and_says_more() -> None:
    text = "services: {a.B: {split: {function:f: 1, function:g: {weight: 2, event: alb}}}, a.B/M: {event: http-v1}}"
    entry = service(text, "a.B/M")

    assert [("function:f", 1.0, "http-v1"), ("function:g", 2.0, "alb")] == [
        (str(part.target), part.weight, part.event) for part in entry.legs
    ]


# -- split -------------------------------------------------------------------------------------------------------------


def test_a_leg_is_a_weight_or_a_mapping() -> None:
    text = f"services: {{a.B: {{split: {{'{ARN}:s:v1': 95, 'grpc://h:1': {{weight: 5}}}}, event: alb}}}}"
    entry = service(text, "a.B")

    assert (95.0, 5.0) == entry.weights
    assert [(f"{ARN}:s:v1", "alb"), ("grpc://h:1", "http-v2")] == [
        (str(part.target), part.event) for part in entry.legs
    ]


@pytest.mark.parametrize(
    ("problem", "split"),
    [
        ("split: needs at least one target with its weight", "{}"),
        ("split: expected a mapping, found a list", "[function:f]"),
        ('split.function:f: expected a weight: a number above 0, found "0"', "{function:f: 0}"),
        ("split.function:f: expected a weight: a number above 0, found null", "{function:f: null}"),
        ('split.function:f: needs "weight"', "{function:f: {event: alb}}"),
        ("split.function:f.timeout: unknown key", "{function:f: {weight: 1, timeout: 5s}}"),
        ("split.local:f: functions has no function named f", "{local:f: 1}"),
        (
            "split.function:f.tls: has no effect on a Lambda target",
            "{function:f: {weight: 1, tls: {}}, 'https://h': 1}",
        ),
    ],
)
def test_what_is_no_split_is_refused(problem: str, split: str) -> None:
    assert [f"bridge.yaml:1: services.a.B.{problem}"] == problems(f"services: {{a.B: {{split: {split}}}}}")


def test_every_leg_of_a_split_is_judged() -> None:
    found = problems("services: {a.B: {split: {x: 1, y: 1, function:f: 0}}}")

    assert 3 == len(found)


# -- keys without effect -----------------------------------------------------------------------------------------------

VALUES = {
    "payload": "grpc-web",
    "event": "alb",
    "invoke_mode": "buffered",
    "json": "{names: json}",
    "role_arn": "'arn:aws:iam::123456789012:role/x'",
    "endpoint_url": "http://h",
    "quirks": "rie",
    "tls": "{server_name: x}",
    "headers": "{x: y}",
    "auth": "none",
    "duplex": "{calls: 3}",
    "half_close": "1m",
    "tenant": "{metadata: x-tenant}",
    "connect_to": "h",
    "durable": "{name: {metadata: x-key}}",
}
"""A value of each key that does not work everywhere."""


LAMBDA = {"lambda", "local"}
HTTP = {"http", "https"}
GRPC = {"grpc", "grpcs", "unix"}
WORKS_ON = {
    "payload": LAMBDA | HTTP,
    "event": LAMBDA,
    "invoke_mode": LAMBDA,
    "json": LAMBDA | HTTP,
    "role_arn": {"lambda"},
    "endpoint_url": {"lambda"},
    "quirks": {"lambda"},
    "tls": {"https", "grpcs"},
    "headers": HTTP | GRPC,
    "auth": HTTP,
    "duplex": LAMBDA,
    "half_close": LAMBDA | HTTP,
    "tenant": LAMBDA,
    "connect_to": {"lambda", "grpc", "grpcs"} | HTTP,
    "durable": LAMBDA,
}


def test_all_keys_that_do_not_work_everywhere_are_tried() -> None:
    assert set(NEEDS) == set(VALUES) == set(WORKS_ON)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("key", VALUES)
def test_a_key_without_effect_is_a_problem(key: str, kind: str) -> None:
    """Unless it came from the defaults."""
    own = f"{LOCAL}services: {{a.B: {{target: '{TARGETS[kind]}', {key}: {VALUES[key]}}}}}"
    by_default = f"{LOCAL}defaults: {{{key}: {VALUES[key]}}}\nservices: {{a.B: '{TARGETS[kind]}'}}"

    has_effect = kind in WORKS_ON[key]
    without = [line for line in problems(own) if re.search(rf"{key}(.names|.calls)?: has no effect on a", line)]
    assert has_effect is (without == [])
    assert [] == problems(by_default)


def test_json_options_need_json() -> None:
    assert ["bridge.yaml:1: services.a.B.json.names: has no effect without payload: json"] == problems(
        "services: {a.B: {target: function:f, json: {names: proto}}}"
    )


def test_a_key_with_effect_on_one_leg_is_fine() -> None:
    assert [] == problems(
        "services: {a.B: {split: {function:f: 1, 'grpc://h:1': 1}, payload: protobuf, half_close: 1s}}"
    )


def test_defaults_do_not_reach_where_they_have_no_effect() -> None:
    text = "defaults: {event: alb, headers: {x: y}}\nservices: {a.B: function:f, c.D: 'https://h'}"

    assert ("alb", {}) == (leg(text).event, leg(text).headers)
    assert ("http-v2", {"x": "y"}) == (leg(text, "c.D").event, leg(text, "c.D").headers)


def test_null_has_no_effect_anywhere_and_may_stand() -> None:
    assert [] == problems("services: {a.B: {target: 'https://h', quirks: null, tls: null}}")


# -- crossings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["http-v2", "http-v1", "alb", "envoy", "raw"])
@pytest.mark.parametrize("payload", ["grpc-web", "grpc", "protobuf", "json"])
def test_every_payload_goes_in_every_event_but_raw(payload: str, event: str, tmp_path: Path) -> None:
    """`raw` only with json."""
    (tmp_path / "d").touch()
    text = f"services: {{a.B: {{target: function:f, payload: {payload}, event: {event}, descriptors: d}}}}"

    found = problems(text, folder=tmp_path)
    if event == "raw" and payload != "json":
        assert [f"bridge.yaml:1: services.a.B.event: event: raw cannot carry payload: {payload}"] == found
    else:
        assert [] == found


def test_a_crossing_by_inheritance_is_reported_where_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "d").touch()
    text = """
services:
  a.B: {target: function:f, payload: json, event: raw, descriptors: d}
  a.B/M:
    payload: protobuf
"""
    assert ["bridge.yaml:5: services.a.B/M.payload: event: raw cannot carry payload: protobuf"] == problems(
        text, folder=tmp_path
    )


@pytest.mark.parametrize("kind", ["lambda", "https"])
def test_json_needs_descriptors(kind: str) -> None:
    assert ["bridge.yaml:1: services.a.B.payload: payload: json needs descriptors"] == problems(
        f"services: {{a.B: {{target: '{TARGETS[kind]}', payload: json}}}}"
    )


def test_a_file_of_descriptors_must_be_there() -> None:
    assert ['bridge.yaml:1: services.a.B.descriptors: no such file or folder: "d"'] == problems(
        "services: {a.B: {target: function:f, payload: json, descriptors: d}}"
    )


# -- connect_to --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "written"),
    [
        (ConnectTo("vpce-1.lambda.eu-west-1.vpce.amazonaws.com"), "vpce-1.lambda.eu-west-1.vpce.amazonaws.com"),
        (ConnectTo("10.0.0.1", 8443), "10.0.0.1:8443"),
        (ConnectTo("::1"), "[::1]"),
        (ConnectTo("::1", 443), "[::1]:443"),
        (None, None),
    ],
)
@pytest.mark.parametrize("target", ["https://h", "http://h", "grpcs://h:1", "grpc://h:1", "function:f", ARN + ":f"])
def test_where_connections_lead(expected: ConnectTo | None, written: str | None, target: str) -> None:
    text = f"services: {{a.B: {{target: '{target}', connect_to: {json.dumps(written)}}}}}"

    assert expected == leg(text).connect_to


@pytest.mark.parametrize(
    ("problem", "written"),
    [
        ("expected HOST or HOST:PORT", '""'),
        ("expected HOST:PORT, the port from 1 to 65535", "'h:0'"),
        ("expected HOST:PORT, the port from 1 to 65535", "'h:'"),
        ("an IPv6 address needs brackets", "'::1'"),
        ("expected a host name or IP address", "'https//h'"),
        ("expected HOST or HOST:PORT, found a list", "[h]"),
    ],
)
def test_what_is_no_place_to_connect_to(problem: str, written: str) -> None:
    (found,) = problems(f"services: {{a.B: {{target: 'https://h', connect_to: {written}}}}}")

    assert found.startswith(f"bridge.yaml:1: services.a.B.connect_to: {problem}")


@pytest.mark.parametrize(
    ("problem", "target"),
    [
        ("connect_to: has no effect on a unix: target", "target: 'unix:/run/x.sock'"),
        ("connect_to: has no effect on a local: target", "target: 'local:f'"),
        ("connect_to: connect_to has no effect with quirks: rie", "target: 'function:f', quirks: rie"),
    ],
)
def test_where_connect_to_cannot_work(problem: str, target: str) -> None:
    (found,) = problems(f"functions: {{f: {{handler: a.b}}}}\nservices: {{a.B: {{{target}, connect_to: h}}}}")

    assert f"bridge.yaml:2: services.a.B.{problem}" == found


# -- auth, headers, tls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "host"),
    [
        (IamAuth("lambda", "eu-west-1"), "abc.lambda-url.eu-west-1.on.aws"),
        (IamAuth("lambda", "eu-west-1"), "ABC.lambda-url.eu-west-1.on.aws"),
        (IamAuth("execute-api", "us-gov-west-1"), "abc.execute-api.us-gov-west-1.amazonaws.com"),
        (IamAuth("lambda", "eu-west-1"), "abc.1.lambda-web.eu-west-1.on.aws"),
        (IamAuth("lambda", ALL_REGIONS), "abc.lambda-web.global.on.aws"),
    ],
)
def test_known_hosts_say_what_requests_are_signed_for(expected: IamAuth, host: str) -> None:
    assert expected == leg(f"services: {{a.B: {{target: 'https://{host}', auth: iam}}}}").auth


def test_a_host_of_all_regions_needs_awscrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` says what to install. Without `auth: iam` nothing is signed, and nothing is missing."""
    monkeypatch.setattr(iam, "find_spec", lambda name: None)
    host = "abc.lambda-web.global.on.aws"
    (problem,) = problems(f"services: {{a.B: {{target: 'https://{host}', auth: iam}}}}")

    assert problem.startswith(f"bridge.yaml:1: services.a.B.auth: requests to {host} need a signature for all regions")
    assert "pip install 'grpc-lambda-bridge[sigv4a]'" in problem
    assert leg(f"services: {{a.B: 'https://{host}'}}").auth is None
    one_region = "services: {a.B: {target: 'https://abc.1.lambda-web.eu-west-1.on.aws', auth: iam}}"
    assert IamAuth("lambda", "eu-west-1") == leg(one_region).auth


@pytest.mark.parametrize("auth", ["iam", "{iam: {service: lambda}}", "{iam: {}}", "{iam: null}"])
def test_other_hosts_must_name_service_and_region(auth: str) -> None:
    """A name that only resembles one of AWS's is another host."""
    host = "x.lambda-url.eu-west-1.on.aws.example.com"
    (problem,) = problems(f"services: {{a.B: {{target: 'https://{host}', auth: {auth}}}}}")

    assert problem.startswith(f"bridge.yaml:1: services.a.B.auth: neither service nor region can be told from {host}")


def test_what_is_written_wins_over_the_host() -> None:
    text = f"services: {{a.B: {{target: '{URL_HOST}', auth: {{iam: {{region: us-east-1}}}}}}}}"

    assert IamAuth("lambda", "us-east-1") == leg(text).auth


def test_a_local_web_function_is_an_http_target() -> None:
    """What works on HTTP works on it, and what belongs to Invoke does not."""
    functions = "functions: {w: {web: {command: [c]}}, f: {handler: a.b}}"
    one, other = (leg(f"{functions}\nservices: {{a.B: 'local:{name}'}}").target for name in ("w", "f"))

    assert (LocalWebTarget("w"), LocalTarget("f")) == (one, other)
    assert "local:w" == str(one)
    assert {"x-a": "1"} == leg(f"{functions}\nservices: {{a.B: {{target: 'local:w', headers: {{x-a: '1'}}}}}}").headers
    for key, value in {
        "event": "http-v1",
        "invoke_mode": "response_stream",
        "auth": "iam",
        "tls": "{ca: null}",
    }.items():
        (problem,) = problems(f"{functions}\nservices: {{a.B: {{target: 'local:w', {key}: {value}}}}}")
        assert "has no effect on a local: target that is a Web Function" in problem


def test_no_auth_is_the_default() -> None:
    assert leg("services: {a.B: {target: 'https://h', auth: none}}").auth is None


@pytest.mark.parametrize(
    ("problem", "headers"),
    [
        ("headers.Content-Type: the bridge sets this header itself", "{Content-Type: x}"),
        ("headers.grpc-timeout: the bridge sets this header itself", "{grpc-timeout: 1S}"),
        ("headers.a b: not the name of a header", "{a b: x}"),
        ("headers.X: written twice: header names have no case", "{x: y, X: y}"),
        ("headers.x: a header's value is visible ASCII, at most 8KiB", '{x: "s3cret\\r\\nb: c"}'),
        ("headers.x: expected text, found a list", "{x: [s3cret]}"),
        ("headers.x: expected text, found null", "{x: null}"),
        ("headers: expected a mapping, found text", "s3cret"),
    ],
)
def test_what_is_no_header_is_refused_without_its_value(problem: str, headers: str) -> None:
    """Values may be secrets, and secrets stay out of messages."""
    found = problems(f"services: {{a.B: {{target: 'https://h', headers: {headers}}}}}")

    assert [f"bridge.yaml:1: services.a.B.{problem}"] == found


def test_headers_of_a_signed_request_are_not_ours_to_write() -> None:
    assert ["bridge.yaml:1: services.a.B.headers: auth: iam sets authorization itself"] == problems(
        f"services: {{a.B: {{target: '{URL_HOST}', auth: iam, headers: {{Authorization: x}}}}}}"
    )


def test_secrets_are_not_printed() -> None:
    config = configured(
        "services: {a.B: {target: 'https://h', headers: {x: s3cret}}}\n"
        "functions: {f: {handler: a.b, env: {KEY: s3cret}}}"
    )

    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("problem", "tls"),
    [
        ("cert and key need each other", "{cert: c}"),
        ("cert and key need each other", "{key: c}"),
    ],
)
def test_a_certificate_needs_its_key(problem: str, tls: str, tmp_path: Path) -> None:
    (tmp_path / "c").touch()

    assert [f"bridge.yaml:1: services.a.B.tls: {problem}"] == problems(
        f"services: {{a.B: {{target: 'https://h', tls: {tls}}}}}", folder=tmp_path
    )


# -- defaults ----------------------------------------------------------------------------------------------------------


def test_defaults_hold_for_calls_without_an_entry() -> None:
    config = configured("defaults: {timeout: 5s, max_request: 1MiB, max_concurrency: 7}\nservices:")

    assert Defaults(timeout=5.0, limits=Limits(max_request=1 << 20), max_concurrency=7) == config.defaults


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("defaults.target: unknown key", "{target: function:f}"),
        (f'defaults.payload: expected {PAYLOAD_NAMES}, found "x"', "{payload: x}"),
        ('defaults.timeout: a duration needs a unit: 5s, 5ms, found "5"', "{timeout: 5}"),
        ("defaults: expected a mapping, found a list", "[]"),
    ],
)
def test_defaults_are_judged_although_no_entry_inherits_them(problem: str, text: str) -> None:
    assert [f"bridge.yaml:1: {problem}"] == problems(f"defaults: {text}")


def test_a_problem_of_the_defaults_is_reported_once() -> None:
    """However many entries inherit it."""
    assert 1 == len(problems("defaults: {timeout: 5}\nservices: {a.B: function:f, c.D: function:g}"))


def test_a_socket_of_a_target_is_relative_to_the_file(tmp_path: Path) -> None:
    target = leg("services: {a.B: unix:app.sock}", folder=tmp_path).target

    assert f"unix:{tmp_path}/app.sock" == str(target)
    assert UnixAddress(tmp_path / "app.sock") == getattr(target, "address", None)
