"""`heitu chips`: lists the chips, or says what is known of one, fact by fact, with sources."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from heitu import chips
from heitu.backings.catalogue import backing_of
from heitu.chips.quantities import show
from heitu.chips.schema import GROUPS, Chip
from heitu.chips.writing import to_toml
from heitu.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

UNKNOWN = "unknown"
_Row = tuple[str, "chips.Fact[Any] | None", str, str]  # word, fact, its unit, what to add to the value


def main(args: list[str]) -> int:
    """Prints the table of all chips, or all of one. Returns 0.

    Raises:
        HeituError: there is no such chip, or its file is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="heitu chips",
        description="Lists the chips, or says what is known of one, with the source of each fact.",
    )
    parser.add_argument("chip", nargs="?", metavar="NAME", help="a chip, or a file (./my-chip.toml)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON on stdout")
    output.add_argument("--toml", action="store_true", help="print one chip as a file to edit")
    asked = parser.parse_args(args)
    if asked.chip is None:
        if asked.toml:
            parser.error("--toml needs the NAME of a chip")
        rows = [_row(chips.load(name)) for name in chips.names()]
        print(json.dumps(rows, indent=2, ensure_ascii=False)) if asked.json else _print_table(rows)
        return ExitCode.OK
    chip = chips.load(asked.chip)
    if asked.toml:
        print(to_toml(chip), end="")
    elif asked.json:
        print(json.dumps(_all_of(chip), indent=2, ensure_ascii=False))
    else:
        _print_chip(chip)
    return ExitCode.OK


def _row(chip: Chip) -> dict[str, Any]:
    """What the table says of a chip; None is unknown."""

    def value(fact: chips.Fact[Any] | None) -> Any:
        return None if fact is None else fact.value

    listed = chips.operator_list(chip)
    return {
        "name": chip.name,
        "maker": chip.maker,
        "integration": value(chip.software.integration),
        "memory_bytes": value(chip.hardware.memory_bytes),
        "bfloat16_flops": value(chip.peak.bfloat16),
        "operators": None if listed is None else len(listed.overloads),
        "operators_complete": None if listed is None else listed.complete,
        "same_operators_as": value(chip.operators.same_as),
        "triton": value(chip.kernels.triton_backend) or value(chip.kernels.triton_package),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for title in ("chip", "maker", "class", "memory", "bf16\nTFLOP/s", "operators", "Triton"):
        numeric = title not in ("chip", "maker", "class", "Triton")
        table.add_column(title, justify="right" if numeric else "left")
    for row in rows:
        cells = [
            row["name"],
            row["maker"],
            row["integration"],
            row["memory_bytes"] and show(row["memory_bytes"], "B"),
            row["bfloat16_flops"] and f"{row['bfloat16_flops'] / 1e12:.0f}",
            _operators(row),
            row["triton"],
        ]
        table.add_row(*(Text(cell) if cell else Text(UNKNOWN, style="dim") for cell in cells))
    console = _console()
    console.print(table)
    for alias, name in chips.aliases().items():
        console.print(f"{alias} means {name}.", highlight=False)


def _operators(row: dict[str, Any]) -> str | None:
    if row["operators"] is not None:
        return f"{row['operators']:,}" if row["operators_complete"] else f"{row['operators']:,}+"
    return f"as {row['same_operators_as']}" if row["same_operators_as"] else None


def _print_chip(chip: Chip) -> None:
    from rich.table import Table
    from rich.text import Text

    console = _console()
    names = [chip.name, *(alias for alias, name in chips.aliases().items() if name == chip.name)]
    console.print(Text(f"{chip.title} ({', '.join(names)})", style="bold"))
    for name, facts in _facts_by_group(chip):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(min_width=10, max_width=20)
        unknown = []
        for word, fact, unit, more in facts:
            if fact is None:
                unknown.append(word)
                continue
            table.add_row(Text(f"  {word}"), _described(fact, unit, more))
        if unknown:
            table.add_row(Text(f"  {UNKNOWN}", style="dim"), Text(", ".join(unknown), style="dim"))
        console.print(Text(f"\n{name}", style="bold cyan"))
        console.print(table)
    _print_backing(chip, console)


def _print_backing(chip: Chip, console: Console) -> None:
    """How a program runs on the chip where it is present, and how far that is tested."""
    from rich.text import Text

    backing = backing_of(chip.maker)
    if backing is None:
        return
    console.print(Text("\nprograms on it", style="bold cyan"))
    reached = f"over {backing.plugin}" if backing.plugin else f"by the torch of {backing.maker}"
    console.print(Text(f"  {backing.way.value} {reached}: {backing.state.value}"))


def _described(fact: chips.Fact[Any], unit: str, more: str) -> Text:
    """A value, and below it the evidence, and what others say."""
    from rich.text import Text

    text = Text(show(fact.value, unit) + more)
    if fact.note:
        text.append(f" ({fact.note})")
    text.append(f"\n{fact.kind.value}, {fact.date}: {fact.source}", style="dim")
    for other in fact.also:
        text.append(f"\nalso {show(other.value, unit)}", style="yellow")
        text.append(f" ({other.note})" if other.note else "", style="yellow")
        text.append(f"\n{other.kind.value}, {other.date}: {other.source}", style="dim")
    return text


def _facts_by_group(chip: Chip) -> Iterator[tuple[str, list[_Row]]]:
    """The name of each group, and its facts."""
    for name in GROUPS:
        group = getattr(chip, name)
        more = {"listed_in": _extent(chip)} if name == "operators" else {}
        yield (
            name,
            [
                (field.name, getattr(group, field.name), field.metadata["unit"], more.get(field.name, ""))
                for field in dataclasses.fields(group)
            ],
        )
    alike: dict[tuple[object, ...], list[chips.DtypeRule]] = {}
    for rule in chip.dtypes:
        alike.setdefault((rule.verdict, rule.to, rule.operators, rule.message), []).append(rule)
    if alike:
        yield (
            "dtypes",
            [
                (", ".join(rule.dtype for rule in rules), rules[0].verdict, "", _scope(rules[0]))
                for rules in alike.values()
            ],
        )
    if chip.notes:
        yield "notes", [(word, note, "", "") for word, note in chip.notes]


def _extent(chip: Chip) -> str:
    listed = chips.operator_list(chip)
    if listed is None:
        return ""
    complete = "" if listed.complete else ", not complete"
    return f": {len(listed.overloads):,} overloads, torch {listed.torch}{complete}"


def _scope(rule: chips.DtypeRule) -> str:
    to = f" to {rule.to}" if rule.to else ""
    where = f" in {', '.join(rule.operators)}" if rule.operators else " everywhere"
    return f"{to}{where}" + (f", saying: {rule.message}" if rule.message else "")


def _all_of(chip: Chip) -> dict[str, Any]:
    """All of a chip for JSON; a fact that is unknown is null, values are in base units."""

    def plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value.value if isinstance(value, enum.Enum) else value for key, value in items}

    said = dataclasses.asdict(chip, dict_factory=plain)
    said["file"] = str(chip.file)
    said["notes"] = dict(said["notes"])
    backing = backing_of(chip.maker)
    said["backing"] = backing and {
        "name": backing.name,
        "way": backing.way.value,
        "state": backing.state.value,
    }
    return said


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width to fold lines at.
    return Console() if sys.stdout.isatty() else Console(width=1000)


if __name__ == "__main__":
    from heitu.cli import invoke

    invoke(main, sys.argv[1:])
