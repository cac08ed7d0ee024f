from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.config.element import Document, Element, compose
from bridge.config.problems import Refused
from bridge.config.reading import mapping
from bridge.config.schema import Role
from bridge.config.values import (
    Read,
    address,
    boolean,
    choice,
    duration,
    file,
    file_or_folder,
    folder,
    integer,
    optional,
    path,
    percentage,
    region,
    size,
    tcp_address,
    text,
    url,
    weight,
)
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.url import Origin, Url


def element(value: str, where: Path = Path("/here")) -> Element:
    return compose(f"key: {value}", Document("bridge.yaml", where, {})).keys()["key"]


def refusal(read: Read[object], value: str, where: Path = Path("/here")) -> str:
    with pytest.raises(Refused) as refused:
        read(element(value, where))
    return str(refused.value)


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", '"true"'])
def test_truth(word: str) -> None:
    assert boolean(element(word)) is True


@pytest.mark.parametrize("word", ["false", "FALSE", "no", "off"])
def test_falsehood(word: str) -> None:
    assert boolean(element(word)) is False


@pytest.mark.parametrize(
    ("found", "value"), [('"1"', "1"), ("null", "null"), ("a list", "[]"), ("a mapping", "{}"), ("nothing", "")]
)
def test_other_types_are_named(found: str, value: str) -> None:
    assert f"expected true or false, found {found}" == refusal(boolean, value)


def test_a_choice_names_its_words_and_the_nearest() -> None:
    read = choice("buffered", "response_stream")

    assert "buffered" == read(element("buffered"))
    assert 'expected buffered or response_stream, found "response-stream", did you mean "response_stream"?' == refusal(
        read, "response-stream"
    )


@pytest.mark.parametrize(("expected", "value"), [(0, "0"), (10, "10"), (1000, "1_000"), (7, '"7"')])
def test_whole_numbers(expected: int, value: str) -> None:
    assert expected == integer(0, 1000)(element(value))


@pytest.mark.parametrize("value", ["010", "0x10", "1e3", "1.0", "1:30", "-1", "1001", "ten", "٣", "9" * 30])
def test_numbers_that_yaml_1_1_would_read_otherwise_are_refused(value: str) -> None:
    assert f'expected a whole number from 0 to 1,000, found "{value}"' == refusal(integer(0, 1000), value)


@pytest.mark.parametrize(("expected", "value"), [(95.0, "95"), (0.5, "0.5")])
def test_weights(expected: float, value: str) -> None:
    assert expected == weight(element(value))


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "nan", "inf", "1e3", "5%"])
def test_weights_are_above_zero(value: str) -> None:
    assert f'expected a weight: a number above 0, found "{value}"' == refusal(weight, value)


def test_durations_are_bounded() -> None:
    assert 'expected a duration from 1s to 1h, found "2h"' == refusal(duration(1, 3600), "2h")
    assert 'expected a duration from 1s to 1h, found "0s"' == refusal(duration(1, 3600), "0s")
    assert 'a duration needs a unit: 5s, 5ms, found "5"' == refusal(duration(1), "5")
    assert "expected a duration such as 250ms, 5s, 2m or 1h, found null" == refusal(duration(1), "null")


def test_sizes_are_bounded() -> None:
    assert 'expected a size from 1B to 1KiB, found "2KiB"' == refusal(size(1, 1024), "2KiB")


def test_percentages_end_at_a_hundred() -> None:
    assert 'expected a percentage up to 100%, found "101%"' == refusal(percentage, "101%")


def test_null_is_a_value_only_where_it_is_said() -> None:
    assert optional(text)(element("null")) is None
    assert "expected text, found null" == refusal(text, "null")


# -- files -------------------------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_file() -> None:
    assert Path("/here/sub/a.pem") == path(element("sub/a.pem"))
    assert Path("/there/a.pem") == path(element("/there/a.pem"))


def test_files_and_folders_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    assert tmp_path / "file" == file(element("file", tmp_path))
    assert tmp_path / "folder" == folder(element("folder", tmp_path))
    assert tmp_path / "folder" == file_or_folder(element("folder", tmp_path))
    assert 'no such file: "other"' == refusal(file, "other", tmp_path)
    assert 'no such folder: "other"' == refusal(folder, "other", tmp_path)
    assert 'no such file or folder: "other"' == refusal(file_or_folder, "other", tmp_path)
    assert 'expected a file, "folder" is none' == refusal(file, "folder", tmp_path)
    assert 'expected a folder, "file" is none' == refusal(folder, "file", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_must_be_readable(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0)

    assert '"key" may not be read by this user' == refusal(file, "key", tmp_path)


def test_odd_paths_are_refused() -> None:
    assert "a path holds no NUL" == refusal(path, '"a\\0"')
    assert "must not be empty" == refusal(path, '""')
    assert refusal(file, "x" * 5000).startswith("no such file")


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (TcpAddress("127.0.0.1", 50051), "127.0.0.1:50051"),
        (TcpAddress("localhost", 0), "localhost:0"),
        (TcpAddress("bridge.internal", 65535), "bridge.internal:65535"),
        (TcpAddress("::1", 50051), '"[::1]:50051"'),
        (UnixAddress(Path("/run/bridge.sock")), "unix:/run/bridge.sock"),
        (UnixAddress(Path("/run/bridge.sock")), "unix:///run/bridge.sock"),
        (UnixAddress(Path("/here/bridge.sock")), "unix:bridge.sock"),
    ],
)
def test_addresses(expected: object, value: str) -> None:
    assert expected == address(element(value))


@pytest.mark.parametrize(
    "expected", [TcpAddress("127.0.0.1", 1), TcpAddress("::1", 50051), UnixAddress(Path("/run/s"))]
)
def test_an_address_survives_its_text(expected: TcpAddress | UnixAddress) -> None:
    assert expected == address(element(f'"{expected}"'))


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ('expected HOST:PORT, the port from 0 to 65535, found "50051"', "50051"),
        ('expected HOST:PORT, the port from 0 to 65535, found "localhost"', "localhost"),
        ('expected HOST:PORT, the port from 0 to 65535, found "a:65536"', "a:65536"),
        ('expected HOST:PORT, the port from 0 to 65535, found "a:-1"', "a:-1"),
        ('expected HOST:PORT, the port from 0 to 65535, found "a:٣"', "a:٣"),
        ('expected HOST:PORT, the port from 0 to 65535, found "a:99999999999"', "a:99999999999"),
        ("name the host: 127.0.0.1 for this machine only, 0.0.0.0 for all", ":50051"),
        ("name the host: 127.0.0.1 for this machine only, 0.0.0.0 for all", '"*:50051"'),
        ('an IPv6 address needs brackets: [::1]:50051, found "::1:50051"', '"::1:50051"'),
        ('expected an IPv6 address in the brackets, found "[x]:1"', '"[x]:1"'),
        ('expected a host name or IP address, found "127.0.0.256:1"', "127.0.0.256:1"),
        ('expected a host name or IP address, found "a b:1"', "a b:1"),
        ("expected a path after unix:", '"unix:"'),
        ('expected unix:PATH or unix:///PATH, found "unix://run/s"', "unix://run/s"),
        ("a socket's path has 107 bytes at most, this is longer", "unix:" + "x" * 108),
    ],
)
def test_what_is_no_address_is_refused(message: str, value: str) -> None:
    assert message == refusal(address, value)


def test_a_tcp_address_is_not_a_socket_file() -> None:
    assert refusal(tcp_address, "unix:/run/s").startswith("expected HOST:PORT")


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (Url(Origin("https", "a.b", 443)), "https://a.b"),
        (Url(Origin("https", "a.b", 443)), "https://a.b/"),
        (Url(Origin("http", "a.b", 8080), "/stage/v1"), "http://a.b:8080/stage/v1/"),
        (Url(Origin("http", "::1", 80)), '"http://[::1]"'),
        (Url(Origin("https", "a.b", 443)), "HTTPS://A.B"),
    ],
)
def test_urls(expected: Url, value: str) -> None:
    assert expected == url(element(value))


@pytest.mark.parametrize("text", ["https://a.b", "http://a.b:8080/stage", "http://[::1]:81/x"])
def test_a_url_survives_its_text(text: str) -> None:
    assert text == str(url(element(f'"{text}"')))


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ('expected http:// or https://, found "ftp://a.b"', "ftp://a.b"),
        ("a URL here holds no credentials; use headers or auth", "https://user:password@a.b"),
        (
            'a URL here ends with its path, without ? and #, found "https://a.b/?x=1"',
            "https://a.b/?x=1",
        ),
        (
            'a URL here ends with its path, without ? and #, found "https://a.b/#x"',
            '"https://a.b/#x"',
        ),
        ('expected a host name or IP address in "https:///x"', "https:///x"),
        ('not a URL: "https://a.b:x"', "https://a.b:x"),
        ('not a URL: "https://[::1"', '"https://[::1"'),
        ('expected a port from 1 to 65535 in "https://a.b:0"', "https://a.b:0"),
        ("a URL holds no spaces, control characters or letters beyond ASCII", "https://a.b/x y"),
        ("a URL holds no spaces, control characters or letters beyond ASCII", "https://ä.b"),
    ],
)
def test_what_is_no_url_is_refused(message: str, value: str) -> None:
    assert message == refusal(url, value)


# -- AWS ---------------------------------------------------------------------------------------------------------------


def test_a_role_is_its_arn_or_a_mapping() -> None:
    arn = "arn:aws:iam::123456789012:role/team/bridge"

    assert Role(arn) == mapping(Role)(element(arn))
    assert Role(arn, "id", "me") == mapping(Role)(element(f'{{arn: "{arn}", external_id: id, session_name: me}}'))


def test_what_is_no_role_is_refused() -> None:
    assert refusal(mapping(Role), "arn:aws:iam::1:role/x").startswith("expected the ARN of a role")
    assert refusal(mapping(Role), "bridge").startswith("expected the ARN of a role")


@pytest.mark.parametrize("name", ["eu-west-1", "us-gov-east-1", "us-isob-east-1", "eusc-de-east-1"])
def test_regions(name: str) -> None:
    assert name == region(element(name))


def test_what_is_no_region_is_refused() -> None:
    assert 'expected a region such as eu-west-1, found "Ireland"' == refusal(region, "Ireland")
