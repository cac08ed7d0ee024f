from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.endpoint import endpoint_in
from bridge.config.load import parse
from bridge.config.schema import AccessLines, Admin, Aws, Config, Emulator, Health, Http2, Listener, Log, Role, TlsFiles
from bridge.http2.interface import EngineLimits
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.limits import ConnectionLimits, MaxConnections, PoolLimits
from bridge.rpc.url import Origin, Url
from tests.support.configured import configured, problems


def warnings(text: str) -> list[str]:
    return [*map(str, configured(text).warnings)]


def test_what_is_not_written_has_its_default() -> None:
    config = configured("services:")

    assert Config(warnings=config.warnings) == config


def test_nothing_to_serve_is_a_warning() -> None:
    assert ["bridge.yaml: services: none, so every call is UNIMPLEMENTED"] == warnings("drain: 5s")


def test_every_key_outside_services_and_functions() -> None:
    text = """
admin: null
emulator: http://emulator:9001
workers: 4
http2:
  engine: h2
  max_concurrent_streams: 7
  max_header_list: 32KiB
  max_metadata: 250
  keepalive: {interval: null, timeout: 1s, min_client_interval: 0s}
  max_connection_age: 30m
  idle_timeout: 1m
  stream_idle: null
max_connections: {total: 500, per_peer: 20}
drain: 0s
drain_delay: 5s
buffers: 1GiB
aws:
  region: eu-west-1
  profile: dev
  role_arn: {arn: "arn:aws:iam::123456789012:role/x", external_id: me}
  endpoint_url: http://localhost:4566
  idle_connections: 1
  idle_timeout: 1s
reflection: false
health: {functions: true}
log: {level: debug, format: json, access: false}
"""
    assert Config(
        admin=None,
        emulator=Url(Origin("http", "emulator", 9001)),
        workers=4,
        http2=Http2(
            "h2",
            EngineLimits(7, 32 << 10, 250, min_ping_interval=0),
            ConnectionLimits(
                keepalive_interval=None,
                keepalive_timeout=1,
                max_age=1800,
                idle=60,
                stream_idle=None,
            ),
        ),
        max_connections=MaxConnections(500, 20),
        drain=0,
        drain_delay=5,
        buffers=1 << 30,
        aws=Aws(
            "eu-west-1",
            "dev",
            Role("arn:aws:iam::123456789012:role/x", "me"),
            Url(Origin("http", "localhost", 4566)),
            PoolLimits(1, 1),
        ),
        reflection=False,
        health=Health(functions=True),
        log=Log("debug", "json", access=None),
    ) == configured(text)


def test_hosts_of_aws_that_are_asked_for() -> None:
    aws = configured("aws: {dual_stack: true, fips: true}\nservices:").aws

    assert (True, True) == (aws.dual_stack, aws.fips)


def test_empty_sections_hold_their_defaults() -> None:
    """What is left when everything under a key is commented out."""
    text = "http2:\naws:\ndefaults:\nservices:\nfunctions:\nhealth:\nlog:\n"

    assert configured("services:") == configured(text)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("aws.fips: has no effect with endpoint_url", "aws: {fips: true, endpoint_url: 'http://h'}"),
        ("aws.dual_stack: has no effect with endpoint_url", "aws: {dual_stack: true, endpoint_url: 'http://h'}"),
        ('lissten: unknown key, did you mean "listen"?', "lissten: a:1"),
        ('http2.keepalive.time-out: unknown key, did you mean "timeout"?', "http2: {keepalive: {time-out: 1s}}"),
        ('http2: expected a mapping, found "h2"', "http2: h2"),
        ('http2.keepalive: expected a mapping, found "5m"', "http2: {keepalive: 5m}"),
        ('admin: expected HOST:PORT, the port from 0 to 65535, found "9901"', "admin: 9901"),
        ("admin: expected an address such as 127.0.0.1:50051, found a list", "admin: []"),
        (
            "emulator: expected an address such as 127.0.0.1:9001, or the URL of a local Lambda, found null",
            "emulator: null",
        ),
        ('emulator: expected http:// or https://, found "ftp://x"', "emulator: ftp://x"),
        ('admin.hosts: expected a list, found "bridge.example.com"', "admin: {hosts: bridge.example.com}"),
        (
            (
                "admin.hosts[0]: expected a host name without a port, such as bridge.example.com or "
                '*.example.com, found "a.example:80"'
            ),
            "admin: {hosts: ['a.example:80']}",
        ),
        (
            (
                "emulator.hosts[0]: expected a host name without a port, such as bridge.example.com or "
                '*.example.com, found "*"'
            ),
            "emulator: {hosts: ['*']}",
        ),
        ('admin.host: unknown key, did you mean "hosts"?', "admin: {host: a}"),
        (
            "emulator.hosts: has no effect: http://e:9001 is a local Lambda that runs already",
            "emulator: {address: 'http://e:9001', hosts: [a.example]}",
        ),
        (
            'max_connections.total: expected a whole number from 1 to 1,000,000, found "0"',
            "max_connections: {total: 0}",
        ),
        (
            'max_connections.per_peer: expected a whole number from 1 to 1,000,000, found "-1"',
            "max_connections: {per_peer: -1}",
        ),
        ('max_connections: expected a mapping, found "10"', "max_connections: 10"),
        ('workers: expected a whole number from 0 to 1,024, found "-1"', "workers: -1"),
        ('drain: a duration needs a unit: 25s, 25ms, found "25"', "drain: 25"),
        ("drain: expected a duration such as 250ms, 5s, 2m or 1h, found null", "drain: null"),
        ('buffers: expected a size from 1MiB to 1TiB, found "1KiB"', "buffers: 1KiB"),
        ('aws.region: expected a region such as eu-west-1, found "Ireland"', "aws: {region: Ireland}"),
        ('aws.role_arn: needs "arn"', "aws: {role_arn: {external_id: me}}"),
        ('log.level: expected debug, info, warning or error, found "INFO", did you mean "info"?', "log: {level: INFO}"),
        ('health: expected a mapping, found "true"', "health: true"),
        ("services: expected a mapping, found a list", "services: []"),
    ],
)
def test_what_does_not_fit_is_refused(problem: str, text: str) -> None:
    assert [f"bridge.yaml:1: {problem}"] == problems(text)


# -- listen ------------------------------------------------------------------------------------------------------------


def test_listeners(tmp_path: Path) -> None:
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).touch()
    text = """
listen:
  - "[::]:50051"
  - address: unix:/run/bridge.sock
  - {address: "unix:/run/other.sock", mode: '0600'}
  - {address: "unix:/run/third.sock", mode: "750"}
  - address: 0.0.0.0:50052
    tls: {cert: tls.crt, key: tls.key, client_ca: ca.crt}
"""
    assert (
        Listener(TcpAddress("::", 50051)),
        Listener(UnixAddress(Path("/run/bridge.sock")), mode=0o660),
        Listener(UnixAddress(Path("/run/other.sock")), mode=0o600),
        Listener(UnixAddress(Path("/run/third.sock")), mode=0o750),
        Listener(
            TcpAddress("0.0.0.0", 50052),
            TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"),
        ),
    ) == configured(text, folder=tmp_path).listen


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (["listen: needs at least one address"], "[]"),
        (['listen[0]: needs "address"'], "[{}]"),
        (["listen[1]: a:1 is listed twice"], "['a:1', 'a:1']"),
        (
            [
                'listen[0].tls: needs "key"',
                'listen[0].tls.cert: no such file: "c"',
                'listen[0].tls.crt: unknown key, did you mean "cert"?',
            ],
            "[{address: 'a:1', tls: {cert: c, crt: c}}]",
        ),
        (
            [
                (
                    'listen[0].mode: write the permissions in quotes, such as "0660", found "0660" without: '
                    "YAML reads 0660 as the number 432"
                )
            ],
            "[{address: 'unix:/a', mode: 0660}]",
        ),
        (
            [
                (
                    'listen[0].mode: write the permissions in quotes, such as "0660", found "432" without: '
                    "YAML reads 0660 as the number 432"
                )
            ],
            "[{address: 'unix:/a', mode: 432}]",
        ),
        (
            [
                (
                    'listen[0].mode: write the permissions in quotes, such as "0660", found "0o660" without: '
                    "YAML reads 0660 as the number 432"
                )
            ],
            "[{address: 'unix:/a', mode: 0o660}]",
        ),
        (
            ['listen[0].mode: expected the permissions in quotes, such as "0660", found "0880"'],
            "[{address: 'unix:/a', mode: '0880'}]",
        ),
        (
            ['listen[0].mode: expected the permissions in quotes, such as "0660", found "rw-rw----"'],
            "[{address: 'unix:/a', mode: 'rw-rw----'}]",
        ),
        (
            ['listen[0].mode: expected the permissions in quotes, such as "0660", found "4660"'],
            "[{address: 'unix:/a', mode: '4660'}]",
        ),
        (
            ['listen[0].mode: expected the permissions in quotes, such as "0660", found null'],
            "[{address: 'unix:/a', mode: null}]",
        ),
        (["listen[0].mode: has no effect: only a unix: address has a mode"], "[{address: 'a:1', mode: '0660'}]"),
        (['listen[0].adress: unknown key, did you mean "address"?', 'listen[0]: needs "address"'], "[{adress: 'a:1'}]"),
    ],
)
def test_what_is_no_listener_is_refused(found: list[str], text: str) -> None:
    assert sorted(f"bridge.yaml:1: {line}" for line in found) == sorted(problems(f"listen: {text}"))


ABSTRACT = (
    "abstract sockets are not supported, because every user of the machine may connect to one: name a path, "
    "such as unix:/run/bridge.sock (a file whose name begins with @: unix:./@NAME)"
)


@pytest.mark.parametrize("address", ["unix:@bridge", "unix-abstract:bridge", "unix:@", "unix:@/a/b"])
def test_abstract_sockets_are_refused(address: str) -> None:
    """As listeners and as targets; no file of that name comes into being."""
    assert [f"bridge.yaml:1: listen: {ABSTRACT}"] == problems(f"listen: '{address}'")
    assert [f"bridge.yaml:1: listen[0].address: {ABSTRACT}"] == problems(f"listen: [{{address: '{address}'}}]")
    assert [f"bridge.yaml:1: services.a.B: {ABSTRACT}"] == problems(f"services: {{a.B: '{address}'}}")


def test_a_file_may_have_a_name_like_an_abstract_socket() -> None:
    (listener,) = configured("listen: unix:./@name", folder=Path("/run")).listen

    assert Listener(UnixAddress(Path("/run/@name"))) == listener


@pytest.mark.parametrize(
    ("mode", "is_open"), [("0666", True), ("0602", True), ("0777", True), ("0664", False), ("0770", False)]
)
def test_a_socket_for_everybody_is_a_warning(mode: str, is_open: bool) -> None:
    """Connecting takes the right to write."""
    text = f"services: {{a.B: null}}\nlisten: [{{address: 'unix:/a', mode: '{mode}'}}]"
    warning = f"bridge.yaml:2: listen: every user of this machine may connect to unix:/a (mode {mode})"

    assert ([warning] if is_open else []) == warnings(text)


def test_a_flag_moves_a_listener_and_leaves_it_its_mode() -> None:
    text = "listen: [{address: 'unix:/a', mode: '0600'}]"
    config = parse(text, file="f", folder=Path(), environ={}, overrides={"listen": "unix:/b"})

    assert (Listener(UnixAddress(Path("/b")), mode=0o600),) == config.listen


def test_port_0_may_be_listed_twice() -> None:
    """Each is another port, chosen by the system."""
    assert (Listener(TcpAddress("127.0.0.1", 0)),) * 2 == configured("listen: ['127.0.0.1:0', '127.0.0.1:0']").listen


def test_two_servers_cannot_have_one_address() -> None:
    assert [
        "bridge.yaml:2: admin: 127.0.0.1:50051 is taken by listen",
        "bridge.yaml:3: emulator: 127.0.0.1:50051 is taken by admin",
    ] == problems(
        "listen: 127.0.0.1:50051\nadmin: 127.0.0.1:50051\nemulator: 127.0.0.1:50051\nfunctions: {f: {handler: a.b}}"
    )


def test_any_free_port_is_never_taken() -> None:
    assert [] == problems("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0")


def test_the_long_forms_of_ports() -> None:
    """An address alone is the short form; either part of the long one may be left out."""
    config = configured(
        "admin: {address: '0.0.0.0:1', hosts: [bridge.example.com, '*.prod.svc']}\nemulator: {hosts: [on.aws]}"
    )

    assert Admin(TcpAddress("0.0.0.0", 1), ("bridge.example.com", "*.prod.svc")) == config.admin
    assert Emulator(hosts=("on.aws",)) == config.emulator
    assert Admin(TcpAddress("a", 1)) == configured("admin: a:1").admin
    assert configured("services:").admin == configured("admin: {}").admin
    assert Url(Origin("http", "e", 9001)) == configured("emulator: {address: 'http://e:9001'}").emulator


@pytest.mark.parametrize(("key", "kind"), [("admin", Admin), ("emulator", Emulator)])
def test_a_flag_moves_a_port_and_leaves_it_its_names(key: str, kind: type[Admin | Emulator]) -> None:
    text = f"{key}: {{address: 'a:1', hosts: [b.example]}}"
    config = parse(text, file="f", folder=Path(), environ={}, overrides={key: "c:2"})

    assert kind(TcpAddress("c", 2), ("b.example",)) == getattr(config, key)


# -- AWS's own variables -----------------------------------------------------------------------------------------------


IGNORED = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}


@pytest.mark.parametrize(
    ("expected", "environ"),
    [
        (None, {}),
        (("AWS_ENDPOINT_URL", "http://b"), {"AWS_ENDPOINT_URL": "http://b"}),
        (
            ("AWS_ENDPOINT_URL_LAMBDA", "http://a"),
            {"AWS_ENDPOINT_URL_LAMBDA": "http://a", "AWS_ENDPOINT_URL": "http://b"},
        ),
        (None, {"AWS_ENDPOINT_URL": ""}),
        (None, {"AWS_ENDPOINT_URL": "http://b"} | IGNORED),
    ],
)
def test_lambdas_endpoint_may_come_from_aws_variables(
    expected: tuple[str, str] | None, environ: dict[str, str]
) -> None:
    assert expected == endpoint_in(environ)


def test_an_endpoint_that_is_ignored_may_be_anything() -> None:
    assert [] == problems("services:", environ={"AWS_ENDPOINT_URL": "b"} | IGNORED)


def test_a_bad_aws_variable_is_named() -> None:
    assert ['AWS_ENDPOINT_URL: expected http:// or https://, found "b"'] == problems(
        "services:", environ={"AWS_ENDPOINT_URL": "b"}
    )


def test_functions_beside_another_local_lambda_are_a_warning() -> None:
    text = "emulator: http://e:9001\nfunctions: {f: {handler: a.b}}\nservices: {a.B: local:f}"
    warning = "bridge.yaml:2: functions: not run, because emulator names one that runs already: http://e:9001"

    assert [warning] == warnings(text)


@pytest.mark.parametrize(
    ("text", "access"),
    [
        ("true", AccessLines()),
        ("false", None),
        ("{health: false}", AccessLines(health=False)),
        ("{health: false, reflection: false}", AccessLines(health=False, reflection=False)),
        ("{}", AccessLines()),
    ],
)
def test_health_and_reflection_may_have_no_lines(text: str, access: AccessLines | None) -> None:
    """The short forms are all lines, and none."""
    assert access == configured(f"services: {{}}\nlog: {{access: {text}}}").log.access
