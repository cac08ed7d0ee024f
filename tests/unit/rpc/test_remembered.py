from __future__ import annotations

from bridge.rpc.remembered import BoundedDict, Remembered


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


def test_entries_are_put_in() -> None:
    """What is asked for and missing is not made. An entry that is put in anew empties nothing."""
    known: BoundedDict[tuple[str, int], str] = BoundedDict(most=2)

    assert known.get(("a", 1)) is None
    assert ["x", "y"] == [known.remember(("a", 1), "x"), known.remember(("b", 2), "y")]
    known.remember(("b", 2), "z")
    assert {("a", 1): "x", ("b", 2): "z"} == known
    known.remember(("c", 3), "z")
    assert {("c", 3): "z"} == known


def test_a_large_key_is_not_put_in() -> None:
    known: BoundedDict[bytes, int] = BoundedDict(most=2, largest=3)

    assert 1 == known.remember(b"long", 1)
    assert {} == known
