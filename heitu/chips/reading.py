"""Chip files: TOML in, `Chip` out; for a mistake the file, the key, what was found and what is allowed."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from heitu.chips.facts import Fact, Kind, Source
from heitu.chips.quantities import choice, text, texts
from heitu.chips.schema import DTYPES, GROUPS, Chip, DtypeRule, Verdict
from heitu.errors import ExitCode, HeituError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
Table = Mapping[str, Any]

SHIPPED = Path(__file__).resolve().parent
# Facts that name a file, and the directory of the package in which it lies if not beside the chip file.
FILES = {
    "operators.listed_in": "operators",
    "operators.dtype_statements": "dtype_statements",
    "kernels.triton_dtypes": "triton_dtypes",
}
UNKNOWN = "unknown"  # written for a fact, it takes back what would be inherited

_LAYER = {"extends", "title", "maker", "notes", "dtypes", *GROUPS}
_TOP = _LAYER | {"sources", "aliases", "chips"}
_EVIDENCE = {"from", "date", "kind", "note"}
_FACT = {"value", *_EVIDENCE}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class ChipFile:
    """One parsed TOML file.

    Raises:
        HeituError: from every method, where what it reads is wrong.
    """

    path: Path
    table: Table

    @classmethod
    def open(cls, path: Path) -> ChipFile:
        """Reads a file and checks its keys at the top; the rest of a chip when that chip is asked for."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise _error(f"{path}: there is no such file.") from None
        except OSError as error:
            raise _error(f"{path}: {error.strerror or error}.") from None
        except UnicodeDecodeError as error:
            raise _error(f"{path}: byte {error.start} is not UTF-8; TOML is UTF-8 text.") from None
        except (ValueError, RecursionError) as error:
            raise _error(f"{path}: not TOML: {str(error) or 'nested too deep'}.") from None
        opened = cls(path, table)
        opened._only("", table, _TOP)
        opened._table("sources", table.get("sources", {}))
        for name, section in opened.sections.items():
            opened._check_name(f"chips.{name}", name)
            opened._only(f"chips.{name}", section, _LAYER)
        for name, target in opened.aliases.items():
            opened._check_name(f"aliases.{name}", name)
            if not isinstance(target, str) or target not in opened.sections:
                opened._fail(f"aliases.{name}", target, _one_of(opened.sections))
        return opened

    @property
    def names(self) -> list[str]:
        """The chips that are written here; a file without [chips] is one, named after the file."""
        return list(self.sections) or [self.path.stem]

    @cached_property
    def sections(self) -> Mapping[str, Table]:
        """The tables under [chips]."""
        return self._table("chips", self.table.get("chips", {}))

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Further names, and the chip each of them means."""
        return self._table("aliases", self.table.get("aliases", {}))

    def chip(self, name: str, parent_of: Callable[[str], Chip], inside: tuple[str, ...] = ()) -> Chip:
        """One chip: what it extends, then what the file says of all its chips, then its own section.

        Args:
            name: one of `names`.
            parent_of: answers for what `extends` names and this file does not have.
            inside: the chips on whose behalf this one is asked for.
        """
        section = self.sections.get(name, {})
        where = f"chips.{name}." if section else ""
        extends = section.get("extends", self.table.get("extends"))
        chip = Chip(name=name, title=name, maker=UNKNOWN, file=self.path)
        layers = [("", self.table), (where, section)] if section else [("", self.table)]
        if extends is not None:
            key = f"{where}extends" if "extends" in section else "extends"
            self._parse(key, text, extends)
            if extends in (*inside, name):
                self._fail(key, extends, "expected a chip that does not itself extend this one")
            if extends in self.sections:
                parent = self.chip(extends, parent_of, (*inside, name))
                layers = [(where, section)]
            else:
                try:
                    parent = parent_of(extends)
                except HeituError as error:
                    if error.exit_code is not ExitCode.UNKNOWN_CHIP:
                        raise
                    raise _error(f"{self.path}: {key}: {error.message}", error.hint) from None
            chip = dataclasses.replace(parent, name=name, file=self.path)
        for prefix, table in layers:
            chip = self._layer(chip, prefix, table)
        return chip

    def _layer(self, chip: Chip, prefix: str, table: Table) -> Chip:
        changed: dict[str, Any] = {
            key: self._parse(f"{prefix}{key}", text, table[key]) for key in ("title", "maker") if key in table
        }
        for group in GROUPS.keys() & table.keys():
            changed[group] = self._group(getattr(chip, group), f"{prefix}{group}", table[group])
        if "notes" in table:
            notes = dict(chip.notes)
            for word, given in self._table(f"{prefix}notes", table["notes"]).items():
                note = self._fact(f"{prefix}notes.{word}", text, given)
                notes.pop(word, None)
                if note is not None:
                    notes[word] = note
            changed["notes"] = tuple(notes.items())
        if "dtypes" in table:
            rules = {rule.key: rule for rule in chip.dtypes}
            for rule in self._rules(f"{prefix}dtypes", table["dtypes"]):
                rules[rule.key] = rule
            changed["dtypes"] = tuple(rules.values())
        return dataclasses.replace(chip, **changed)

    def _group(self, group: Any, key: str, given: object) -> Any:
        """A group with the facts of one table in place of those it had."""
        fields = {field.name: field for field in dataclasses.fields(group)}
        table = self._table(key, given)
        self._only(key, table, fields)
        facts = {}
        for name, stated in table.items():
            fact = facts[name] = self._fact(f"{key}.{name}", fields[name].metadata["parse"], stated)
            directory = FILES.get(f"{key.rpartition('.')[2]}.{name}")
            if directory is not None and fact is not None:
                find_file(self.path, directory, fact.value, f"{key}.{name}")
        return dataclasses.replace(group, **facts)

    def _fact(self, key: str, parse: Callable[[object], T], given: object) -> Fact[T] | None:
        if given == UNKNOWN:
            return None
        return self._evidence(key, "value", parse, self._table(key, given), {"also", *_FACT})

    def _evidence(
        self, key: str, value: str, parse: Callable[[object], T], table: Table, allowed: Iterable[str]
    ) -> Fact[T]:
        """A Fact from a table in which `value` is the key of the value."""
        self._only(key, table, allowed)
        for needed in (value, "from"):
            if needed not in table:
                raise _error(f"{self.path}: {key}: `{needed}` is missing.", f"Example: {_EXAMPLE}")
        source = self._source(f"{key}.from", table["from"])
        also = table.get("also", [])
        if not isinstance(also, list):
            self._fail(f"{key}.also", also, "expected a list of tables with `value` and `from`")
        others = [(f"{key}.also[{i}]", other) for i, other in enumerate(also)]
        return Fact(
            value=self._parse(f"{key}.{value}", parse, table[value]),
            source=source.text,
            date=self._date(f"{key}.date", table["date"]) if "date" in table else source.date,
            kind=self._parse(f"{key}.kind", choice(Kind), table.get("kind", source.kind.value)),
            note=self._parse(f"{key}.note", text, table["note"]) if "note" in table else "",
            also=tuple(self._evidence(at, "value", parse, self._table(at, it), _FACT) for at, it in others),
        )

    def _source(self, key: str, given: object) -> Source:
        sources = self.table.get("sources", {})
        if not isinstance(given, str) or given not in sources:
            self._fail(key, given, _one_of(sources, given, "a key of [sources]"))
        key = f"sources.{given}"
        table = self._table(key, sources[given])
        self._only(key, table, {"text", "date", "kind"})
        for needed in ("text", "date", "kind"):
            if needed not in table:
                raise _error(f"{self.path}: {key}: `{needed}` is missing.", f"Example: {_SOURCE_EXAMPLE}")
        return Source(
            self._parse(f"{key}.text", text, table["text"]),
            self._date(f"{key}.date", table["date"]),
            self._parse(f"{key}.kind", choice(Kind), table["kind"]),
        )

    def _rules(self, key: str, given: object) -> Iterable[DtypeRule]:
        if not isinstance(given, list):
            self._fail(key, given, "expected a list of tables")
        for index, item in enumerate(given):
            yield from self._rule(f"{key}[{index}]", self._table(f"{key}[{index}]", item))

    def _rule(self, key: str, table: Table) -> Iterable[DtypeRule]:
        """A rule for each of the dtypes that `table` names."""
        allowed = {"dtype", "verdict", "to", "operators", "message", "also"} | _EVIDENCE
        verdict = self._evidence(key, "verdict", choice(Verdict), table, allowed)
        to = self._dtype(f"{key}.to", table["to"]) if "to" in table else ""
        if (verdict.value is Verdict.NARROWED) != bool(to):
            self._fail(f"{key}.to", to, 'expected a dtype if the verdict is "narrowed", else nothing')
        operators = table.get("operators")
        message = table.get("message")
        dtypes = table.get("dtype")
        for dtype in dtypes if isinstance(dtypes, list) and dtypes else [dtypes]:
            yield DtypeRule(
                self._dtype(f"{key}.dtype", dtype),
                verdict,
                to,
                self._parse(f"{key}.operators", texts, operators) if operators is not None else (),
                self._parse(f"{key}.message", text, message) if message is not None else "",
            )

    def _dtype(self, key: str, given: object) -> str:
        if given not in DTYPES:
            self._fail(key, given, _one_of(DTYPES, given))
        return str(given)

    def _check_name(self, key: str, name: str) -> None:
        if not _NAME.fullmatch(name):
            self._fail(key, name, "expected a name of small letters, digits, '.', '_' and '-'")

    def _date(self, key: str, given: object) -> str:
        if isinstance(given, datetime.date) and not isinstance(given, datetime.datetime):
            given = given.isoformat()
        if not isinstance(given, str) or not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", given):
            self._fail(key, given, 'expected a date: 2026-08-21, or "2026-08" or "2026"')
        return given

    def _parse(self, key: str, parse: Callable[[object], T], given: object) -> T:
        try:
            return parse(given)
        except ValueError as error:
            self._fail(key, given, str(error))

    def _table(self, key: str, given: object) -> Table:
        if not isinstance(given, dict):
            self._fail(key, given, f"expected a table, such as {_EXAMPLE}")
        return given

    def _only(self, key: str, given: object, allowed: Iterable[str]) -> None:
        for found in self._table(key, given):
            if found not in allowed:
                where = f"{key}.{found}" if key else found
                raise _error(f"{self.path}: {where}: there is no such key; {_one_of(allowed, found)}.")

    def _fail(self, key: str, given: object, allowed: str) -> NoReturn:
        found = repr(given)
        raise _error(f"{self.path}: {key}: {found if len(found) < 80 else f'{found[:76]} ...'}: {allowed}.")


_EXAMPLE = '{ value = "64 GiB", from = "datasheet" }'
_SOURCE_EXAMPLE = 'datasheet = { text = "where to look it up", date = 2026-08-21, kind = "vendor" }'


def find_file(chip_file: Path, directory: str, name: str, key: str) -> Path:
    """A file that a chip file names: beside it, or in the package's own `directory`."""
    places = (chip_file.parent / name, SHIPPED / directory / name)
    for path in places:
        with contextlib.suppress(OSError):
            if path.is_file():
                return path
    looked = " or ".join(str(path.parent) for path in places)
    raise _error(f"{chip_file}: {key}: {name!r}: there is no such file in {looked}.")


def _one_of(allowed: Iterable[str], given: object = None, what: str = "one of") -> str:
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6) if isinstance(given, str) else []
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    head = "expected one of" if what == "one of" else f"expected {what}:"
    return f"{head} {', '.join(names) or '(there are none)'}{meant}"


def _error(message: str, hint: str | None = None) -> HeituError:
    return HeituError(message, hint=hint, exit_code=ExitCode.CHIP_FILE)
