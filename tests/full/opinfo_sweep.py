"""Runs every entry of PyTorch's OpInfo in every dtype of CUDA on the device, against the CPU.

    python -m tests.full.opinfo_sweep                 # what is not in --state yet, then the report
    python -m tests.full.opinfo_sweep --fresh --jobs 2
    python -m tests.full.opinfo_sweep --fresh --only 'fft|mm' --no-report

Entries run in processes of their own, so a crash costs one dtype of one entry and is attributed. The exit
code is 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.full.opinfo_records import lines
from tests.full.opinfo_report import Report

REPOSITORY = Path(__file__).resolve().parents[2]
ENTRIES_PER_PROCESS = 24
SILENT_SECONDS = 240  # a process that writes nothing for so long is stopped
LIST = "from tests.full.opinfo_checks import entries; print('\\n'.join(entries()))"


def heitu_run(*arguments: str) -> list[str]:
    """A command under Heitu."""
    return [sys.executable, "-m", "heitu", "run", *arguments]


def environment() -> dict[str, str]:
    """One thread per process: results do not depend on how many run."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def all_entries() -> list[str]:
    """Names of the database's entries. Raises CalledProcessError where it cannot be imported."""
    listing = subprocess.run(
        heitu_run("-c", LIST),
        env=environment(),
        cwd=REPOSITORY,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    return listing.stdout.split("\n")[:-1]


class Shard:
    """Some entries, checked one after another by as many processes as it takes."""

    def __init__(self, path: Path, names: list[str], samples: tuple[int, int]) -> None:
        self.path = path
        self.names = names
        self.samples = samples

    def waiting(self) -> list[str]:
        done = set()
        for record in lines(self.path):
            done.discard(record.get("again", ""))
            done.add(record.get("done", ""))
        return [name for name in self.names if name not in done]

    def forget(self) -> None:
        """Lets its entries run again; their findings are replaced as they come."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"again": name}) + "\n" for name in self.names)

    def records(self) -> list[dict[str, Any]]:
        """The findings, without those that `forget` took back."""
        found: list[dict[str, Any]] = []
        for record in lines(self.path):
            if "again" in record:
                found = [earlier for earlier in found if earlier["entry"] != record["again"]]
            elif record.get("entry") in self.names:
                found.append(record)
        return found

    def run(self) -> None:
        while names := self.waiting():
            seen = self.path.stat().st_size if self.path.exists() else 0
            counts = map(str, self.samples)
            command = heitu_run("-m", "tests.full.opinfo_worker", str(self.path), *counts, *names)
            errors = self.path.with_suffix(".stderr").open("w")
            process = subprocess.Popen(
                command, env=environment(), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=errors
            )
            reason = self._wait(process)
            if reason:
                self._attribute(reason, seen)

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        size, since = -1, time.monotonic()
        while True:
            try:
                code = process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                now = self.path.stat().st_size if self.path.exists() else 0
                if now != size:
                    size, since = now, time.monotonic()
                elif time.monotonic() - since > SILENT_SECONDS:
                    process.kill()
                    process.wait()
                    return f"stuck for {SILENT_SECONDS} s"
            else:
                return "" if code == 0 else f"crash: exit code {code}"

    def _attribute(self, reason: str, seen: int) -> None:
        """Books the crash on what was under way; the next process goes on behind it."""
        written = self.path.stat().st_size if self.path.exists() else 0
        last = [record for record in lines(self.path) if "at" in record][-1:] if written > seen else []
        if not last:
            said = self.path.with_suffix(".stderr").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"A process of the sweep died before its first entry ({reason}):\n{said}")
        name, dtype = last[0]["at"]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"entry": name, "dtype": dtype, "crash": reason}) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.full.opinfo_sweep")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default 2)")
    parser.add_argument("--state", type=Path, default=REPOSITORY / "build" / "opinfo", help="findings so far")
    parser.add_argument("--fresh", action="store_true", help="check again what is in the state")
    parser.add_argument("--first", type=int, default=12, help="samples from the start (default 12)")
    parser.add_argument("--later", type=int, default=6, help="samples spread over the rest (default 6)")
    parser.add_argument("--only", default="", metavar="REGEX", help="entries whose name matches")
    parser.add_argument("--report", type=Path, default=REPOSITORY / "docs", help="folder of the report")
    parser.add_argument("--no-report", action="store_true", help="print the marks only")
    options = parser.parse_args(arguments)
    options.state.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    shards = []
    names = all_entries()
    for i in range(0, len(names), ENTRIES_PER_PROCESS):
        chosen = [name for name in names[i : i + ENTRIES_PER_PROCESS] if re.search(options.only, name)]
        path = options.state / f"{i // ENTRIES_PER_PROCESS:03d}.jsonl"
        if chosen:
            shards.append(Shard(path, chosen, (options.first, options.later)))
    if options.fresh:
        for shard in shards:
            shard.forget()
    with ThreadPoolExecutor(options.jobs) as pool:
        for done, shard in enumerate(pool.map(_run, shards), 1):
            print(f"{done}/{len(shards)} {shard.names[-1]}", file=sys.stderr)
    records = [record for shard in shards for record in shard.records()]
    shown = f"python -m tests.full.opinfo_sweep --first {options.first} --later {options.later}"
    shown += " --fresh" if options.fresh else " (resumed)"
    report = Report(records, time.monotonic() - started, shown, options.first + options.later)
    print(report.table())
    if not options.no_report:
        report.write(options.report)
    return 0 if report.reached() else 1


def _run(shard: Shard) -> Shard:
    shard.run()
    return shard


if __name__ == "__main__":
    sys.exit(main())
