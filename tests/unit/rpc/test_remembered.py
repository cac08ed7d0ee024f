from __future__ import annotations

from bridge.rpc.remembered import Remembered


def test_made_once() -> None:
    made: list[str] = []

    def make(key: str) -> int:
        made.append(key)
        return len(key)

    lengths = Remembered(make, most=2, largest=3, size_of=len)

    assert [1, 1, 2] == [lengths["a"], lengths["a"], lengths["ab"]]
    assert ["a", "ab"] == made


def test_bounded() -> None:
    """A full memory is emptied, and a large key is not kept."""
    same = Remembered(str, most=2, largest=3, size_of=len)

    assert ["a", "b", "c", "long"] == [same[key] for key in ("a", "b", "c", "long")]
    assert {"c": "c"} == same
