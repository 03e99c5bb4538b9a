"""A `Chip` as a chip file of its own, which a user may go on editing."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Callable
from typing import Any

from heitu.chips.facts import Fact
from heitu.chips.quantities import show
from heitu.chips.schema import GROUPS, Chip


def to_toml(chip: Chip) -> str:
    """A file that says all of `chip` and extends nothing."""
    writer = _Writer()
    body = writer.body(chip)
    head = [f"title = {_quoted(chip.title)}", f"maker = {_quoted(chip.maker)}", "", "[sources]"]
    for (source, date, kind), key in writer.sources.items():
        head.append(f"{key} = {{ text = {_quoted(source)}, date = {_quoted(date)}, kind = {_quoted(kind)} }}")
    return "\n".join([*head, *body, ""])


class _Writer:
    """Gathers the sources while it writes facts."""

    def __init__(self) -> None:
        self.sources: dict[tuple[str, str, str], str] = {}  # text, date, kind -> key

    def body(self, chip: Chip) -> list[str]:
        """The lines below [sources]."""
        lines: list[str] = []
        for name in GROUPS:
            group = getattr(chip, name)
            facts = [(field, getattr(group, field.name)) for field in dataclasses.fields(group)]
            stated = [(field, fact) for field, fact in facts if fact is not None]
            lines += ["", f"[{name}]"] if stated else []
            for field, fact in stated:
                entries = self._entries("value", fact, **field.metadata)
                lines.append(f"{field.name} = {{ {', '.join(entries)} }}")
        lines += ["", "[notes]"] if chip.notes else []
        for word, note in chip.notes:
            lines.append(f"{_key(word)} = {{ {', '.join(self._entries('value', note))} }}")
        for rule in chip.dtypes:
            lines += ["", "[[dtypes]]", f"dtype = {_quoted(rule.dtype)}"]
            lines += [f"to = {_quoted(rule.to)}"] if rule.to else []
            lines += [f"operators = {_written(rule.operators)}"] if rule.operators else []
            lines += [f"message = {_quoted(rule.message)}"] if rule.message else []
            lines += self._entries("verdict", rule.verdict)
        return lines

    def _entries(
        self,
        key: str,
        fact: Fact[Any],
        parse: Callable[[object], object] | None = None,
        unit: str = "",
        **_: str,
    ) -> list[str]:
        """`key = value` pairs; a quantity has its unit where that is exact."""
        evidence = (fact.source, fact.date, fact.kind.value)
        source = self.sources.setdefault(evidence, f"source-{len(self.sources) + 1}")
        value = fact.value
        if parse is not None and unit:
            shown = show(value, unit)
            value = shown if _reads_as(parse, shown, value) else value
        entries = [f"{key} = {_written(value)}", f"from = {_quoted(source)}"]
        entries += [f"note = {_quoted(fact.note)}"] if fact.note else []
        if fact.also:
            others = (f"{{ {', '.join(self._entries('value', o, parse, unit))} }}" for o in fact.also)
            entries.append(f"also = [{', '.join(others)}]")
        return entries


def _reads_as(parse: Callable[[object], object], text: str, value: object) -> bool:
    try:
        return parse(text) == value
    except ValueError:
        return False


def _written(value: object) -> str:
    if isinstance(value, enum.Enum):
        return _quoted(str(value.value))
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    # JSON escapes what TOML does, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else _quoted(word)
