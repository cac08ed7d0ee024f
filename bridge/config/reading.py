"""How a class of the schema is read from a mapping of the file: its fields say it themselves.

A field is the key of its name. `Annotated` holds the reader of its value; a bool, a Literal, and a class of the schema
need none. A class is a mapping in the mapping. A field that has no reader is no key: whoever reads the class gives it.
Two class attributes may be there: `text_is` and `misfits`, which `SchemaClass` explains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from bridge.config.element import Element
from bridge.config.problems import Refused, did_you_mean
from bridge.config.values import JsonShape, Read, boolean, choice, optional, shape_of, shaped

SchemaType = TypeVar("SchemaType")

Settings = dict[str, Element]
"""What is written in a mapping, by dotted name: `interval` under `keepalive` is `keepalive.interval`."""


class SchemaClass(Protocol):
    """What a class of the schema may have besides its fields."""

    text_is: str
    """The key whose value a text stands for, where a mapping is expected."""

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield each misfit of the keys: the name of a key, or "" for the mapping itself, and a message.

        `written` are the names of what is written and not null.
        """
        ...


class Trait:
    """Something else that is true of a key, for those who ask. It stands in `Annotated` next to the reader."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Key:
    """How one key is read, where it has another name than its field, or traits of its own."""

    read: Read[Any]
    name: str = ""
    """Dotted; empty: the field's."""
    traits: tuple[Trait, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldReaders:
    """The keys of a class that another package defines: how its fields are read. Other fields keep their defaults."""

    keys: Mapping[str, Key | Read[Any]]
    """By the field's name."""
    under: str = ""
    """The key whose mapping they stand in; empty: they stand among the keys of the outer class."""


class NullableFields(FieldReaders):
    """As `FieldReaders`, with a mapping that may also be null. Then the field is None."""


class ByHand:
    """Marks a key that is known, but read by whoever reads the class."""


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One key of a mapping."""

    name: str
    read: Read[Any] | None
    """None: by hand."""
    default: Any
    """MISSING: the key must be there."""
    traits: tuple[Trait, ...] = ()


class Plan(Generic[SchemaType]):
    """How a class is read: `of` makes it from the class."""

    def __init__(
        self,
        made: Callable[..., SchemaType],
        parts: Mapping[str, KeySlot | Plan[Any]],
        *,
        null: KeySlot | None = None,
    ) -> None:
        """`parts` stand under the names of the class's fields. `null` is the key that may be null."""
        self._made = made
        self._parts = parts
        self._null = null
        slots = [
            slot for part in parts.values() for slot in ([part] if isinstance(part, KeySlot) else part.slots.values())
        ]
        self.slots: Mapping[str, KeySlot] = {slot.name: slot for slot in ([null] if null else []) + slots}
        """All keys, by dotted name."""

    @staticmethod
    def of(made: type[SchemaType]) -> Plan[SchemaType]:
        return _plan_of(cast("Hashable", made))

    def flatten(self, elements: Mapping[str, Element], *, also: Collection[str] = ()) -> Settings:
        """Return what is written of these elements. Unknown keys are noted. The keys in `also` are known."""
        return flatten(elements, (*also, *self.slots))

    def read(
        self,
        element: Element,
        settings: Settings,
        *,
        overrides: Mapping[str, Element] | None = None,
        **given: Any,
    ) -> SchemaType:
        """Make the class from what is written. What is wrong is noted, and the default used.

        `overrides` are what flags and variables say, by dotted name. `given` has the fields that are no keys, and those
        read by hand. Raises Refused if a key that must be there is not, or cannot be read.
        """
        refused: list[Refused] = []
        made = self._make(element, settings, overrides or {}, given, refused)
        for each in refused[:-1]:
            element.document.note(each)
        if refused:
            raise refused[-1]
        self._note_misfits(made, element, settings)
        return cast("SchemaType", made)

    def _make(
        self,
        element: Element,
        settings: Settings,
        overrides: Mapping[str, Element],
        given: Mapping[str, Any],
        refused: list[Refused],
    ) -> SchemaType | None:
        if self._null is not None and self._null.name in settings and settings[self._null.name].is_null:
            return None
        values = dict(given)
        for field, part in self._parts.items():
            if field in given:
                continue
            if isinstance(part, KeySlot):
                values[field] = _value(part, element, settings, overrides, refused)
            else:
                values[field] = part._make(element, settings, overrides, {}, refused)
        return None if refused else self._made(**values)

    def _note_misfits(self, made: SchemaType | None, element: Element, settings: Settings) -> None:
        misfits = getattr(made, "misfits", None)
        if misfits is None:
            return
        written = {name for name, each in settings.items() if not each.is_null}
        for name, message in misfits(written):
            at = settings.get(name, element)
            at.document.note(at.refuse(message))


def _value(
    slot: KeySlot, element: Element, settings: Settings, overrides: Mapping[str, Element], refused: list[Refused]
) -> Any:
    """Return the value of a flag or variable, else of the file, else the default."""
    assert slot.read is not None, f"{slot.name} is read by hand"
    value = slot.default
    if slot.name in settings:
        value = attempt(slot.read, settings[slot.name], value, refused if value is MISSING else None)
    elif value is MISSING:
        refused.append(element.refuse(f'needs "{slot.name}"'))
    if slot.name in overrides:
        value = attempt(slot.read, overrides[slot.name], value)
    return value


def attempt(
    read: Read[SchemaType], element: Element, stand_in: SchemaType, refused: list[Refused] | None = None
) -> SchemaType:
    """Return what `read` returns. If it refuses, that is noted, or kept in `refused`, and the stand-in is returned."""
    try:
        return read(element)
    except Refused as problem:
        if refused is None:
            element.document.note(problem)
        else:
            refused.append(problem)
        return stand_in


def flatten(elements: Mapping[str, Element], known: Collection[str], prefix: str = "") -> Settings:
    """Return what is written, by dotted name. `known` has dotted names. Unknown keys are noted and left out."""
    settings: Settings = {}
    for key, element in elements.items():
        name = prefix + key
        is_inner = any(each.startswith(f"{name}.") for each in known)
        is_leaf = not is_inner or element.is_null or (element.is_mapping and not element.keys())
        if name in known and "." not in key and is_leaf:
            settings[name] = element
        elif "." not in key and is_inner:
            settings |= flatten(attempt(Element.keys, element, {}), known, f"{name}.")
        else:
            siblings = (each.removeprefix(prefix).partition(".")[0] for each in known if each.startswith(prefix))
            note_unknown_key(element, key, tuple(dict.fromkeys(siblings)))
    return settings


def laid_over(lower: Settings, upper: Settings) -> Settings:
    """Return what holds of both: what is written above covers the same key below. What is in a mapping above covers a
    null below.
    """
    opened = {name.rpartition(".")[0] for name in upper}
    return {name: element for name, element in lower.items() if name not in opened} | upper


def note_unknown_key(element: Element, name: str, known: Collection[str]) -> None:
    element.document.note(element.refuse("unknown key" + did_you_mean(name, known)))


def mapping(made: type[SchemaType]) -> Read[SchemaType]:
    """Return a reader of this class of the schema. It also reads text, if the class has `text_is`."""

    def read_mapping(element: Element) -> SchemaType:
        plan = Plan.of(made)
        short: str | None = getattr(made, "text_is", None)
        if short is not None and not element.is_mapping:
            return plan.read(element, {short: element})
        return plan.read(element, plan.flatten(element.keys()))

    return shaped(read_mapping, lambda: shape_of_class(made))


def shape_of_class(made: type[Any], *, without: Collection[str] = ()) -> JsonShape:
    """Return what a mapping of this class looks like, or the text that stands for it."""
    whole = shape_of_keys({name: slot for name, slot in Plan.of(made).slots.items() if name not in without})
    short = getattr(made, "text_is", None)
    read = None if short is None else Plan.of(made).slots[short].read
    return whole if short is None else {"anyOf": [{"type": "string"} if read is None else shape_of(read), whole]}


def shape_of_keys(slots: Mapping[str, KeySlot]) -> JsonShape:
    """Return what a mapping with these keys looks like. Keys that are read by hand take anything."""
    keys: dict[str, JsonShape] = {}
    for top in dict.fromkeys(name.partition(".")[0] for name in slots):
        own = slots.get(top)
        inner = {name.partition(".")[2]: slot for name, slot in slots.items() if name.startswith(f"{top}.")}
        if not inner:
            keys[top] = {} if own is None or own.read is None else shape_of(own.read)
        else:
            keys[top] = {**shape_of_keys(inner), "type": ["object", "null"]}  # nothing written is null for YAML
    shape: dict[str, object] = {"type": "object", "properties": keys, "additionalProperties": False}
    needed = [name for name, slot in slots.items() if slot.default is MISSING and "." not in name and slot.read]
    return shape | {"required": needed} if needed else shape


@cache
def _plan_of(made: Hashable) -> Plan[Any]:
    return _plan(cast("type[Any]", made), usual=None, prefix="", traits=())


# -- from a class to its plan ------------------------------------------------------------------------------------------


def _plan(made: type[SchemaType], usual: SchemaType | None, prefix: str, traits: tuple[Trait, ...]) -> Plan[SchemaType]:
    """`usual` has the defaults; None: those of the class."""
    parts: dict[str, KeySlot | Plan[Any]] = {}
    for name, hint in get_type_hints(made, include_extras=True).items():
        if name in _field_names(made):
            default = _default(made, name) if usual is None else getattr(usual, name)
            part = _part(hint, name, default, prefix, traits)
            if part is not None:
                parts[name] = part
    return Plan(made, parts)


def _part(hint: Any, name: str, default: Any, prefix: str, traits: tuple[Trait, ...]) -> KeySlot | Plan[Any] | None:
    """How a field is read; None: it is no key."""
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    traits = (*traits, *(note for note in notes if isinstance(note, Trait)))
    how = next((note for note in notes if not isinstance(note, Trait)), None)
    if how is None:
        if is_schema_class(kind):
            return _plan(kind, None if default is MISSING else default, f"{prefix}{name}.", traits)
        how = _reader_of(kind)
    match how:
        case None:
            return None
        case ByHand():
            return KeySlot(prefix + name, None, default, traits)
        case FieldReaders(keys, under):
            inner = f"{prefix}{under}." if under else prefix
            return Plan(
                type(default),
                {each: _slot(key, each, getattr(default, each), inner, traits) for each, key in keys.items()},
                null=KeySlot(prefix + under, None, None, traits) if isinstance(how, NullableFields) else None,
            )
        case _:
            return _slot(how, name, default, prefix, traits)


def _slot(how: Key | Read[Any], name: str, default: Any, prefix: str, traits: tuple[Trait, ...]) -> KeySlot:
    key = how if isinstance(how, Key) else Key(how)
    return KeySlot(prefix + (key.name or name), key.read, default, (*traits, *key.traits))


def _reader_of(kind: Any) -> Read[Any] | None:
    """Return the reader of a type that needs no annotation; None if it needs one."""
    if kind is bool:
        return boolean
    if get_origin(kind) is Literal:
        return choice(*get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        one, *others = [each for each in get_args(kind) if each is not NoneType]
        read = None if others else mapping(one) if is_schema_class(one) else _reader_of(one)
        return optional(read) if read is not None else None
    return None


def is_schema_class(kind: Any) -> bool:
    """Whether some of its fields are keys."""
    return isinstance(kind, type) and is_dataclass(kind) and bool(Plan.of(kind).slots)


def _field_names(made: type) -> frozenset[str]:
    return frozenset(field.name for field in fields(made))


def _default(made: type, name: str) -> Any:
    field = next(field for field in fields(made) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()
