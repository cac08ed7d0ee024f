"""Values: immutable, compared by content."""

import pytest

from bridge.rpc.events import Headers
from bridge.rpc.value import FrozenValue


def test_values_are_equal_by_content_and_cannot_change() -> None:
    """Two that hold the same are the same; neither can be assigned to."""
    one, other = Headers((("a", "b"),)), Headers((("a", "b"),))

    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(AttributeError):
        one.metadata = ()  # type: ignore[misc]  # the point


def test_values_are_not_tracked_by_the_collector() -> None:
    """Thousands a second are made and dropped."""
    import gc

    assert isinstance(Headers(), FrozenValue)
    assert not gc.is_tracked(Headers())
