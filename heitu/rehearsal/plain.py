"""Frozen dataclasses as what JSON has, and back with every type checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses become dicts, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(made: type[T], value: Any, where: str = "") -> T:
    """The inverse. Keys that `made` does not have are left out.

    Raises:
        ValueError: a key is missing or a value has another type; the message says where.
    """
    return typing.cast(T, _build(made, value, where))


def _build(wanted: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _build(next(one for one in arguments if one is not types.NoneType), value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        if arguments[-1] is not ... and len(items) != len(arguments):
            raise ValueError(f"{where or 'the whole'} has {len(items)} values, expected {len(arguments)}")
        each = [arguments[0]] * len(items) if arguments[-1] is ... else arguments
        return tuple(
            _build(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(each, items, strict=True))
        )
    if dataclasses.is_dataclass(wanted):
        return _build_dataclass(wanted, value, where)
    if isinstance(wanted, type) and issubclass(wanted, tuple):  # a NamedTuple
        hints = typing.get_type_hints(wanted)
        items = _expect(list, value, where)
        if len(items) != len(hints):
            raise ValueError(f"{where} has {len(items)} values, expected {len(hints)}")
        return wanted(*(_build(hint, item, where) for hint, item in zip(hints.values(), items, strict=True)))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is int and isinstance(value, bool):
        raise ValueError(f"{where} is a truth value, expected a number")
    return _expect(wanted, value, where)


def _build_dataclass(wanted: Any, value: Any, where: str) -> Any:
    said = _expect(dict, value, where)
    hints = typing.get_type_hints(wanted)
    made = {}
    for field in dataclasses.fields(wanted):
        inner = f"{where}.{field.name}" if where else field.name
        if field.name not in said:
            raise ValueError(f"{inner} is missing")
        made[field.name] = _build(hints[field.name], said[field.name], inner)
    return wanted(**made)


def _expect(wanted: type, value: Any, where: str) -> Any:
    if not isinstance(value, wanted):
        names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        names |= {list: "a list", dict: "an object"}
        raise ValueError(f"{where or 'the whole'} is not {names.get(wanted, wanted.__name__)}")
    return value
