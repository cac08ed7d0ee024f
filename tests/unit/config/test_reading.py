from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest

from bridge.config.element import Document, Element, compose
from bridge.config.problems import Refused
from bridge.config.reading import ByHand, FieldReaders, Key, Plan, Trait, is_schema_class, mapping
from bridge.config.values import duration, integer, optional, text
from bridge.rpc.limits import RetryPolicy


class Mark(Trait, Enum):
    RED = "red"
    ROUND = "round"


@dataclass(frozen=True, slots=True)
class Ball:
    """A class with every kind of field."""

    text_is: ClassVar = "owner"

    owner: Annotated[str, text]
    size: Annotated[int, integer(1, 9), Mark.ROUND] = 3
    colour: Literal["red", "blue"] = "red"
    flat: bool | None = None
    note: str = "given by whoever reads it"

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if self.size > 5 and "flat" in written:
            yield "flat", "is not for large balls"
        if self.owner == "nobody":
            yield "", "needs somebody"


@dataclass(frozen=True, slots=True)
class Lamp:
    on: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    ball: Ball | None = None
    lamp: Annotated[Lamp, Mark.RED] = Lamp(on=True)
    shelf: Annotated[int, ByHand()] = 0
    policy: Annotated[
        RetryPolicy,
        FieldReaders({"attempts": integer(1, 9), "budget": Key(optional(duration(0)), "times.budget", (Mark.ROUND,))}),
        Mark.RED,
    ] = field(default_factory=RetryPolicy)
    nested: Annotated[RetryPolicy, FieldReaders({"backoff": duration(0)}, under="again")] = field(
        default_factory=lambda: RetryPolicy(backoff=7.0)
    )


@dataclass(frozen=True, slots=True)
class NoKeys:
    name: str
    ball: Ball | Lamp | None = None


def element_of(yaml: str) -> Element:
    return compose(yaml, Document("bridge.yaml", Path("/here"), {}))


def room(yaml: str, **overrides: Element) -> tuple[Room, list[str]]:
    """The room and what is wrong with it."""
    element = element_of(yaml)
    plan = Plan.of(Room)
    found = plan.read(element, plan.flatten(element.keys()), overrides=overrides, shelf=4)
    return found, [f"{problem.key_path}: {problem.message}" for problem in element.document.problems]


def ball(yaml: str) -> Ball:
    return mapping(Ball)(element_of(f"ball: {yaml}").keys()["ball"])


def test_what_is_not_written_has_the_default_of_the_outer_class() -> None:
    expected = Room(shelf=4, nested=RetryPolicy(backoff=7.0))

    assert (expected, []) == room("{}")
    assert expected.lamp == Lamp(on=True)


def test_each_kind_of_field_is_read() -> None:
    found, problems = room(
        """
ball: {owner: me, size: 9, colour: blue, flat: null}
lamp: {on: no}
attempts: 5
times: {budget: 2s}
again: {backoff: 3s}
"""
    )

    assert [] == problems
    assert Ball("me", 9, "blue") == found.ball
    assert Lamp(on=False) == found.lamp
    assert RetryPolicy(attempts=5, budget=2.0) == found.policy
    assert RetryPolicy(backoff=3.0) == found.nested


def test_text_is_the_value_of_one_key() -> None:
    assert Ball("me") == ball("me")


@pytest.mark.parametrize(
    ("problem", "yaml"),
    [
        ('bal: unknown key, did you mean "ball"?', "bal: me"),
        ("lamp.of: unknown key", "lamp: {of: yes}"),
        ('times.budged: unknown key, did you mean "budget"?', "times: {budged: 1s}"),
        ("lamp.on: unknown key", "lamp.on: yes"),
        ("lamp: expected a mapping, found a list", "lamp: []"),
        ("lamp.on: expected true or false, found a list", "lamp: {on: []}"),
        ('ball: needs "owner"', "ball: {size: 2}"),
        ("ball.owner: must not be empty", "ball: {owner: ''}"),
        ("ball.flat: is not for large balls", "ball: {owner: me, size: 6, flat: yes}"),
        ("ball: needs somebody", "ball: nobody"),
    ],
)
def test_what_is_wrong_is_noted_where_it_is_written(problem: str, yaml: str) -> None:
    (found,) = room(yaml)[1]

    assert found.startswith(problem)


def test_null_is_not_written() -> None:
    assert ([], Ball("me", 6)) == (room("ball: {owner: me, size: 6, flat: null}")[1], ball("{owner: me, size: 6}"))


def test_every_problem_of_a_class_that_cannot_be_made_is_told() -> None:
    element = element_of("ball: {size: 10, colour: green}").keys()["ball"]

    with pytest.raises(Refused, match='needs "owner"'):
        mapping(Ball)(element)
    assert ["ball.size", "ball.colour"] == [problem.key_path for problem in element.document.problems]


def test_a_flag_wins_over_what_is_written() -> None:
    flag = element_of("flag: yes").keys()["flag"]

    assert Lamp(on=True) == room("lamp: {on: no}", **{"lamp.on": flag})[0].lamp


def test_traits_are_those_of_the_field_and_of_the_key() -> None:
    traits = {name: slot.traits for name, slot in Plan.of(Room).slots.items()}

    assert {
        "ball": (),
        "lamp.on": (Mark.RED,),
        "shelf": (),
        "attempts": (Mark.RED,),
        "times.budget": (Mark.RED, Mark.ROUND),
        "again.backoff": (),
    } == traits
    assert (Mark.ROUND,) == Plan.of(Ball).slots["size"].traits


def test_a_class_whose_fields_have_no_readers_is_no_mapping() -> None:
    assert is_schema_class(Room)
    assert not is_schema_class(NoKeys)
    assert not is_schema_class(RetryPolicy)
