"""The defaults that the configuration documents."""

from bridge.rpc.limits import Limits
from bridge.rpc.status import StatusCode


def test_defaults_are_those_of_the_configuration() -> None:
    """4 MiB a message, 6 MiB a call, 8 KiB of trailers, a minute to half-close."""
    assert (
        Limits(
            max_request=4 * 1024 * 1024,
            max_buffered=6 * 1024 * 1024,
            max_response=None,
            max_trailers=8 * 1024,
            half_close=60.0,
            throttled_as=StatusCode.UNAVAILABLE,
        )
        == Limits()
    )
