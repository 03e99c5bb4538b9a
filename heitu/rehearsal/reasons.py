"""Why an operator has its verdict, in a sentence with the facts of the catalogue that it rests on."""

from __future__ import annotations

import enum
from typing import Any

from heitu.chips import Chip, DtypeRule, Fact, operator_list
from heitu.chips.quantities import show
from heitu.errors import HeituError
from heitu.rehearsal.record import Operator
from heitu.rehearsal.report import Evidence


class Sources:
    """The facts that a report rests on, each once; an Evidence is known by its number."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.all: list[Evidence] = []
        self._numbers: dict[Evidence, int] = {}
        try:
            self._listed = operator_list(chip)
        except HeituError:
            self._listed = None

    def add(self, name: str, fact: Fact[Any] | None, unit: str = "") -> tuple[int, ...]:
        """The number of a fact, and of those that say otherwise; none where it is unknown."""
        if fact is None:
            return ()
        numbers = [self._add(name, fact, unit)]
        numbers += [self._add(f"{name} (others say)", other, unit) for other in fact.also]
        return tuple(numbers)

    def of_list(self) -> tuple[int, ...]:
        """The number of the list of operators itself: it has evidence of its own."""
        if self._listed is None:
            return self.add("operators.listed_in", self.chip.operators.listed_in)
        one = self._listed
        value = f"{one.file.name}: {len(one.overloads):,} overloads, torch {one.torch}"
        value += "" if one.complete else ", not complete"
        return (
            self._number(Evidence("operators.listed_in", value, one.source, one.date, one.kind.value, "")),
        )

    def _add(self, name: str, fact: Fact[Any], unit: str) -> int:
        value = fact.value.value if isinstance(fact.value, enum.Enum) else show(fact.value, unit)
        return self._number(Evidence(name, value, fact.source, fact.date, fact.kind.value, fact.note))

    def _number(self, evidence: Evidence) -> int:
        number = self._numbers.setdefault(evidence, len(self.all))
        if number == len(self.all):
            self.all.append(evidence)
        return number


def rule_of(chip: Chip, operator: Operator) -> DtypeRule | None:
    """The dtype rule that spoke, if one did."""
    if operator.rule is None or not 0 <= operator.rule < len(chip.dtypes):
        return None
    return chip.dtypes[operator.rule]


def reason(operator: Operator, sources: Sources) -> tuple[str, str, tuple[int, ...]]:
    """The sentence, the plugin's words where they are known, and numbers of evidence."""
    chip, facts = sources.chip, sources.chip.operators
    rule = rule_of(chip, operator)
    text, message = "", ""
    evidence: tuple[int, ...] = ()
    if operator.why == "same_device":
        text, evidence = "the chip runs CUDA's own operators", sources.add("operators.same_as", facts.same_as)
    elif operator.why == "listed":
        text, evidence = "the plugin registers it", sources.of_list()
    elif operator.why == "not_listed":
        text = "the plugin does not register it, and torch has no composite of registered ones for it"
        evidence = sources.of_list() + sources.add("operators.others", facts.others)
        words = facts.fallback_warning if operator.verdict == "fallback" else facts.missing_error
        message = "" if words is None else words.value.replace("{operator}", operator.name)
    elif operator.why == "on_host":
        text = "the plugin registers it and runs it on the host all the same"
        evidence = sources.add("operators.on_host", facts.on_host)
    elif operator.why == "no_list":
        text = "nobody has published which operators the chip has"
    elif operator.why == "incomplete_list":
        text, evidence = "the list that is known does not have it, and is not complete", sources.of_list()
    elif operator.why == "other_key":
        text = "it was reached by sparse, quantized or nested tensors, of which the list says nothing"
        evidence = sources.of_list()
    elif operator.why != "dtype":
        text = f"the rules say: {operator.why}"
    if rule is not None:
        said = _said(rule)
        text = said if operator.why == "dtype" or not text else f"{text}; {said}"
        message = rule.message or message
        evidence += sources.add(f"dtypes: {rule.dtype}", rule.verdict)
    elif operator.why == "dtype":
        text = "of its dtype"
    return text, message, tuple(dict.fromkeys(evidence))


def _said(rule: DtypeRule) -> str:
    where = "in this operator" if rule.operators else "everywhere"
    return {
        "refused": f"{rule.dtype} is refused {where}",
        "narrowed": f"{rule.dtype} is computed in {rule.to or 'a smaller dtype'} {where}",
        "emulated": f"{rule.dtype} is emulated {where}: right, and slow",
        "stated_ok": f"{rule.dtype} is said to work {where}",
        "stated_no": f"{rule.dtype} is said not to be supported {where}; what happens then is not said",
    }[rule.verdict.value.value]
