"""Kernels in the report: what was compiled and launched, and what to change in those that were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from heitu.chips import Chip
from heitu.rehearsal.places import below
from heitu.rehearsal.reasons import Sources
from heitu.rehearsal.record import Defect, Kernel, KernelFinding, Place
from heitu.rehearsal.report import Advice, DefectRow, KernelRow

ORDER = {"refused": 0, "unknown": 1}


def kernel_rows(
    kernels: Iterable[tuple[Kernel, int]], sources: Sources, directory: str
) -> tuple[KernelRow, ...]:
    """One row for each kernel and verdict: those compiled for other constants or dtypes are its variants."""
    together: dict[tuple[object, ...], list[tuple[Kernel, int]]] = {}
    for kernel, launches in kernels:
        key = kernel.kind, kernel.name, kernel.defined, kernel.verdict
        together.setdefault(key, []).append((kernel, launches))
    rows = [_row(variants, sources, directory) for variants in together.values()]
    return tuple(sorted(rows, key=lambda row: (ORDER.get(row.verdict, 2), -row.launches, row.name)))


def _row(variants: list[tuple[Kernel, int]], sources: Sources, directory: str) -> KernelRow:
    kernels = [kernel for kernel, _ in variants]
    first = kernels[0]
    findings = dict.fromkeys(finding for kernel in kernels for finding in kernel.findings)
    required = [kernel.required for kernel in kernels if kernel.required is not None]
    return KernelRow(
        kind=first.kind,
        name=first.name,
        verdict=first.verdict,
        defined=below(first.defined, directory),
        user=below(first.user, directory),
        variants=len(variants),
        launches=sum(launches for _, launches in variants),
        required=max(required, default=None),
        limit=first.limit,
        findings=tuple(
            KernelFinding(one.rule, one.what, one.change, below(one.at, directory)) for one in findings
        ),
        unknown=tuple(dict.fromkeys(each for kernel in kernels for each in kernel.unknown)),
        evidence=tuple(dict.fromkeys(_evidence(sources, first, findings))),
    )


def _evidence(sources: Sources, kernel: Kernel, findings: Iterable[KernelFinding]) -> Iterable[int]:
    chip: Chip = sources.chip
    rules = {finding.rule for finding in findings}
    if kernel.verdict != "refused" or rules & {"dtype", "operator"}:
        yield from sources.add("operators.same_as", chip.operators.same_as)
        yield from sources.add("kernels.triton_dtypes", chip.kernels.triton_dtypes)
    if kernel.limit is not None:
        yield from sources.add("limits.on_chip_memory", chip.limits.on_chip_memory, "B")
    if "grid" in rules:
        yield from sources.add("limits.grid_programs", chip.limits.grid_programs)
        yield from sources.add("limits.grid_extents", chip.limits.grid_extents)


def defect_rows(defects: Iterable[tuple[Defect, int]], directory: str) -> tuple[DefectRow, ...]:
    """In the order of kernels, of which those with most wrong accesses come first."""
    rows = [
        DefectRow(one.kind, one.kernel, below(one.at, directory), one.argument, one.text, accesses)
        for one, accesses in defects
    ]
    of_kernel: Counter[str] = Counter()
    for row in rows:
        of_kernel[row.kernel] += row.accesses
    return tuple(sorted(rows, key=lambda row: (-of_kernel[row.kernel], row.kernel, -row.accesses)))


def kernel_advice(rows: Iterable[KernelRow]) -> list[Advice]:
    """What to change in refused kernels; not in variants that a tuner passed over for others."""
    listed = list(rows)
    launched = {(row.kind, row.name, row.defined) for row in listed if row.launches}
    found = []
    for row in listed:
        for finding in row.findings:
            passed_over = (row.kind, row.name, row.defined) in launched and finding.rule != "grid"
            if not passed_over:
                found.append(_advice(row, finding))
    return found


def _advice(row: KernelRow, finding: KernelFinding) -> Advice:
    place: Place | None = finding.at or row.defined
    return Advice(
        verdict="refused",
        subject=f"kernel {row.name}: {finding.rule}",
        reason=finding.what,
        message="",
        suggestion=finding.change[:1].lower() + finding.change[1:].rstrip("."),
        calls=0,
        bytes=0,
        seconds=None,
        place=place,
        more_places=0,
    )
