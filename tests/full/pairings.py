"""What releases of torch_npu ask of CANN, and what the emulator has of it: `… -m tests.full.pairings 2.10.0`.

The wheels are downloaded and looked at; nothing of them is installed or run. What is linked is read from the
symbol tables, what is opened while a program runs from the names among the constants: each is the upper
bound of what is asked for, since a constant may also be a label.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from heitu.device.build import library_file
from heitu.emulators.cann import tables
from heitu.emulators.cann.activation import library

VERSIONS = ("2.7.1", "2.8.0", "2.9.0", "2.10.0", "2.11.0", "2.12.0", "2.13.0", "2.14.0")
# What `import torch_npu` loads; the others are opened by what few programs use (torchair, ATB).
IMPORTED = re.compile(r"torch_npu/(_C\..*|lib/lib(torch_npu|npu_profiler|tensorpipe))\.so")
# CANN's names: C functions of the runtime, the graph compiler's classes, kernels, collectives.
LINKED = re.compile(r"(acl|Hccl|rt[A-Z]|_ZNK?2ge)\w*")
RUNTIME = re.compile(r"(acl(?!nn)|Hccl)(?!_)(?:(?!acl|Hccl)\w)+")
KERNEL = re.compile(r"(aclnn[A-Z](?:(?!aclnn)\w)*?)GetWorkspaceSize")
# A line of readelf: name, type, address, offset, size.
SECTION = re.compile(r"\s\.rodata(?:\.str\S*)?\s+PROGBITS\s+\w+\s+(\w+)\s+(\w+)")
MARKS = ("<!-- releases -->", "<!-- end of releases -->")


@dataclass(frozen=True)
class Asked:
    """What one release asks for.

    Args:
        linked: symbols without which it cannot be imported.
        opened: functions that it looks up while a program runs.
        kernels: operators, as aclnnAdd.
    """

    linked: frozenset[str]
    opened: frozenset[str]
    kernels: frozenset[str]


def main() -> int:
    """Prints a table; 1 where a release links what the emulator does not have, or names unknown operators."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("releases", nargs="*", default=VERSIONS, help="versions of torch_npu")
    parser.add_argument("--into", type=Path, help="the document that the table is written into")
    arguments = parser.parse_args()
    has = exported(library_file(library()))
    known = {name.lstrip("-") for name in tables.KNOWN.read_text("utf-8").split()}
    emulated = {operator.name for operator in tables.emulated()}
    rows, failed = [], False
    for release in arguments.releases:
        with tempfile.TemporaryDirectory(prefix="heitu-pairings-") as scratch:
            asked = read(download(release, Path(scratch)))
        unlinked, unknown = asked.linked - has, asked.kernels - known
        opened = asked.opened - asked.linked
        rows.append(
            f"| {release} | {len(asked.linked)} | {len(unlinked)} | {len(opened)} | {len(opened - has)} "
            f"| {len(asked.kernels)} | {len(asked.kernels & emulated)} | {len(unknown)} |"
        )
        print(rows[-1], flush=True)
        for name in sorted(unlinked):
            print(f"{release} links {name}, which the emulator does not have", file=sys.stderr)
        for name in sorted(unknown):
            print(f"{release} names {name}, which is not in {tables.KNOWN.name}", file=sys.stderr)
        failed |= bool(unlinked or unknown)
    if arguments.into is not None:
        write(arguments.into, table(rows))
    return int(failed)


def table(rows: list[str]) -> str:
    """The rows under their head."""
    head = (
        "| torch_npu | linked | missing | opened | missing | operators | emulated | unknown |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    )
    return "\n".join([f"{datetime.date.today()}:", "", *head, *rows])


def write(document: Path, text: str) -> None:
    """Puts the text between the marks."""
    before, _, rest = document.read_text("utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    document.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}", "utf-8")


def download(version: str, folder: Path) -> list[Path]:
    """That release's libraries, unpacked in `folder`. Raises CalledProcessError where there is no wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), f"torch_npu=={version}"], check=True, stdout=sys.stderr)
    [wheel] = folder.glob("torch_npu-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if IMPORTED.fullmatch(name)]
        archive.extractall(folder, names)
    wheel.unlink()
    return [folder / name for name in names]


def read(libraries: list[Path]) -> Asked:
    """What these libraries ask of CANN."""
    own = {name for path in libraries for name in exported(path)}
    wanted = {name for path in libraries for name in symbols(path, "--undefined-only", "--no-weak")} - own
    words = {word for path in libraries for word in constants(path)}
    kernels = {found[1] for word in words if (found := KERNEL.fullmatch(word))}
    return Asked(
        linked=frozenset(name for name in wanted if LINKED.fullmatch(name)),
        opened=frozenset(word for word in words if RUNTIME.fullmatch(word)),
        kernels=frozenset(kernels),
    )


def exported(path: Path) -> set[str]:
    """The symbols that a library gives."""
    return symbols(path, "--defined-only")


def symbols(path: Path, *options: str) -> set[str]:
    """Names in its table of dynamic symbols."""
    command = ["nm", "--dynamic", *options, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines()}


def constants(path: Path) -> set[str]:
    """The strings among its read-only data, each from one zero byte to the next."""
    listed = subprocess.run(["readelf", "-SW", str(path)], check=True, capture_output=True, text=True).stdout
    words: set[str] = set()
    with path.open("rb") as file:
        for offset, size in SECTION.findall(listed):
            file.seek(int(offset, 16))
            words |= {word.decode("latin-1") for word in file.read(int(size, 16)).split(b"\0")}
    return words


if __name__ == "__main__":
    raise SystemExit(main())
