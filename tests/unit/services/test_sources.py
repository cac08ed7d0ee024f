from __future__ import annotations

import asyncio

import pytest

from bridge.rpc.errors import FunctionFailed
from bridge.services import builtin
from bridge.services.descriptors import Descriptors
from bridge.services.errors import NotDescribed
from bridge.services.reflected_target import ReflectedTarget
from bridge.services.sources import Source, Sources
from tests.support.reflecting import ReflectingFunction
from tests.support.schemas import CART, HELLO, MONEY, proto_file

HELLO_FILE = Descriptors((HELLO,), name="hello.binpb")
SHOP_FILE = Descriptors((CART, MONEY), name="shop.binpb")
OTHER_HELLO = proto_file(
    "hello.proto",
    package="helloworld",
    messages={"HelloRequest": ["other"]},
    services={"Other": {"Do": ("helloworld.HelloRequest", "helloworld.HelloRequest")}},
)
HEALTH_OF_THEIR_OWN = proto_file(
    "own_health.proto",
    package="grpc.health.v1",
    messages={"Own": []},
    services={"Health": {"Check": ("grpc.health.v1.Own", "grpc.health.v1.Own")}},
)


def asked(function: ReflectingFunction) -> Source:
    return Source(target=ReflectedTarget(function, name="function", now=lambda: 0.0))


def given(descriptors: Descriptors) -> Source:
    return Source(descriptors)


def test_services_are_those_of_keys_and_the_built_in_ones() -> None:
    """Exact keys are listed without knowing anything about them; null entries are not."""
    sources = Sources({"a.B": Source(), "a.C/Do": Source(), "a.D": None})

    assert sorted([*builtin.METHODS, "a.B", "a.C"]) == sources.services()


def test_services_under_a_prefix_are_listed_when_known() -> None:
    """A prefix lists what its descriptors hold, as far as its calls lead there."""
    sources = Sources({"shop.*": given(SHOP_FILE), "*": None})

    assert sorted([*builtin.METHODS, "shop.Cart"]) == sources.services()


def test_a_service_that_leads_elsewhere_is_not_listed_under_a_prefix() -> None:
    """Descriptors of `shop.*` that mention a service hidden by a null entry don't bring it back."""
    sources = Sources({"shop.*": given(SHOP_FILE), "shop.Cart": None})

    assert sorted(builtin.METHODS) == sources.services()


async def test_a_descriptor_file_is_asked_before_the_function() -> None:
    """What the configuration describes wakes nobody."""
    function = ReflectingFunction(["helloworld.Greeter"], {"helloworld.Greeter": HELLO})
    target = ReflectedTarget(function, name="function", now=lambda: 0.0)
    sources = Sources({"helloworld.Greeter": Source(HELLO_FILE, target)})

    assert HELLO_FILE is await sources.describing("helloworld.Greeter")
    assert [] == function.asked


async def test_the_function_is_asked_for_what_no_file_covers() -> None:
    """A function behind an exact key is asked for its service, and its answer is kept."""
    function = ReflectingFunction(["helloworld.Greeter"], {"helloworld.Greeter": HELLO})
    sources = Sources({"helloworld.Greeter": asked(function)})
    first = await sources.describing("helloworld.Greeter.SayHello")
    second = await sources.describing("helloworld.HelloRequest")

    assert first is second
    assert 1 == len(function.asked)
    assert "bidi_stream" == sources.method_kind("/helloworld.Greeter/Chat")


async def test_a_type_asked_first_wakes_the_function_of_its_package() -> None:
    """A message is sought at the services of its package, and at no others."""
    greeter = ReflectingFunction(["helloworld.Greeter"], {"helloworld.Greeter": HELLO})
    stranger = ReflectingFunction([], {})
    sources = Sources({"helloworld.Greeter": asked(greeter), "other.Service": asked(stranger)})
    found = await sources.describing("helloworld.HelloRequest")

    assert found.has_file("hello.proto")
    assert [] == stranger.asked


async def test_a_type_known_elsewhere_wakes_nobody() -> None:
    """A catch-all target is not asked for what a descriptor file covers."""
    function = ReflectingFunction([], {})
    sources = Sources({"shop.Cart": given(SHOP_FILE), "*": asked(function)})

    assert SHOP_FILE is await sources.describing("shop.Money")
    assert [] == function.asked


async def test_the_source_of_the_route_answers() -> None:
    """Of two sources that define a service, the one of the matching route is heard."""
    hello = Descriptors((HELLO,), name="second")
    sources = Sources({"old.*": given(HELLO_FILE), "helloworld.*": given(hello)})

    assert hello is await sources.describing("helloworld.Greeter")


async def test_two_versions_of_a_type_stay_with_their_service() -> None:
    """A type that two sources define is taken from the one that the client was told of last."""
    other = Descriptors((OTHER_HELLO,), name="other.binpb")
    sources = Sources({"helloworld.Greeter": given(HELLO_FILE), "helloworld.Other": given(other)})

    assert other is await sources.describing("helloworld.HelloRequest", beside=other)
    assert other is sources.with_file("hello.proto", beside=other)
    assert HELLO_FILE is sources.with_file("hello.proto")


async def test_a_service_of_single_methods_is_described_by_them() -> None:
    """A key of one method is enough for its service to be described."""
    sources = Sources({"shop.Cart/Pay": given(SHOP_FILE)})

    assert SHOP_FILE is await sources.describing("shop.Cart")
    assert "unary" == sources.method_kind("/shop.Cart/Pay")


async def test_built_in_services_describe_themselves() -> None:
    """Health and reflection need no configuration, even under a catch-all."""
    sources = Sources({"*": asked(ReflectingFunction([], {}))})

    assert builtin.descriptors() is await sources.describing("grpc.health.v1.Health.Check")
    assert "server_stream" == sources.method_kind("/grpc.health.v1.Health/Watch")


async def test_an_exact_key_overrides_a_built_in_service() -> None:
    """A route of its own gives health to a function, and its descriptors too."""
    own = Descriptors((HEALTH_OF_THEIR_OWN,), name="own")
    sources = Sources({"grpc.health.v1.Health": given(own)})

    assert own is await sources.describing("grpc.health.v1.Health")
    assert "unknown" == sources.method_kind("/grpc.health.v1.Health/Watch")


async def test_what_nobody_describes_is_not_described() -> None:
    """The failure names the symbol."""
    with pytest.raises(NotDescribed, match=r"nothing here describes a\.B"):
        await Sources({"a.B": Source()}).describing("a.B")


async def test_the_failure_of_a_function_is_told() -> None:
    """If nobody else knows the symbol, the client learns why the function could not say."""
    function = ReflectingFunction([], {})
    function.failure = FunctionFailed("crashed")

    with pytest.raises(NotDescribed, match="could not be asked: crashed"):
        await Sources({"a.B": asked(function)}).describing("a.B")


async def test_null_entries_wake_nobody() -> None:
    """A service without a target is not asked for, and a prefix does not answer for it."""
    function = ReflectingFunction(["a.B"], {})
    sources = Sources({"a.B": None, "a.*": asked(function)})

    with pytest.raises(NotDescribed):
        await sources.describing("a.B")
    assert [] == function.asked


def test_protobufs_own_files_are_always_there() -> None:
    """A client may ask for a well-known file by name."""
    found = Sources({}).with_file("google/protobuf/api.proto")

    assert found is not None
    assert 4 == len(found.with_imports("google/protobuf/api.proto"))
    assert None is Sources({}).with_file("nobody.proto")


@pytest.mark.parametrize("path", ["/a.B/C", "/shop.Cart/No", "/grpc.health.v1.Health/No", "", "nonsense"])
def test_methods_that_nobody_describes_are_of_unknown_kind(path: str) -> None:
    """Metrics say `unknown` where no descriptor speaks."""
    assert "unknown" == Sources({"shop.Cart": given(SHOP_FILE), "a.B": Source()}).method_kind(path)


async def test_closing_breaks_off_conversations() -> None:
    """Who waits for sources that are replaced is told to ask again."""
    function = ReflectingFunction([], {})
    function.gate = asyncio.Event()
    sources = Sources({"a.B": asked(function)})
    waiting = asyncio.get_running_loop().create_task(sources.describing("a.B"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sources.close()

    with pytest.raises(NotDescribed, match="ask again"):
        await waiting


@pytest.mark.parametrize("symbol", ["google.rpc.BadRequest", "google.rpc.Status", "google.rpc.RetryInfo.retry_delay"])
async def test_error_details_are_always_described(symbol: str) -> None:
    """Any call may end with them, so clients can show them whatever a service's own files import; nobody is woken for
    it.
    """
    function = ReflectingFunction(["helloworld.Greeter"], {"helloworld.Greeter": HELLO})
    sources = Sources({"*": asked(function)})

    described = await sources.describing(symbol)

    assert described.file_of(symbol) in (
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
    )
    assert [] == function.asked


async def test_error_details_of_the_configuration_come_first() -> None:
    """A file of one's own that defines a message of this name is what clients see."""
    own = Descriptors(
        (proto_file("own.proto", package="google.rpc", messages={"BadRequest": ["own"]}),),
        name="own",
    )

    assert own is await Sources({"a.B": given(own)}).describing("google.rpc.BadRequest")
    assert "google.rpc" == (await Sources({"a.B": None}).describing("google.rpc.BadRequest")).name


@pytest.mark.parametrize(
    "filename",
    ["google/rpc/error_details.proto", "google/api/http.proto", "google/protobuf/any.proto"],
)
def test_files_that_everybody_imports_can_be_asked_for(filename: str) -> None:
    found = Sources({}).with_file(filename)

    assert found is not None
    assert found.has_file(filename)


@pytest.mark.parametrize(
    "filename",
    [
        "google/rpc/nothing.proto",
        "google/api/../secret.proto",
        "os.proto",
        "google/protobuf/compiler/plugin.proto",
    ],
)
def test_files_that_are_not_there(filename: str) -> None:
    assert Sources({}).with_file(filename) is None
