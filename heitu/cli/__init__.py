"""The command line: one module a subcommand, found by its file name, each callable alone.

`heitu run` is `python -m heitu.cli.run`. A subcommand's module has a docstring, whose first line is its
line in `heitu --help`, and `main(args: list[str]) -> int`, which gets what follows its name and returns an
exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from heitu.errors import ExitCode, HeituError

USAGE = "usage: heitu [-h] [--version] COMMAND ..."


def main() -> NoReturn:
    """The `heitu` script."""
    name, *rest = sys.argv[1:] or [""]
    if name in subcommands():
        invoke(importlib.import_module(f"heitu.cli.{name}").main, rest)
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        from heitu import __version__

        print(f"heitu {__version__}")
    else:
        complaint = f"there is no command {name!r}" if name else "a command is missing"
        print(f"{USAGE}\nheitu: error: {complaint}; there are: {', '.join(subcommands())}", file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    sys.exit(ExitCode.OK)


def invoke(command: Callable[[list[str]], int], args: list[str]) -> NoReturn:
    """Runs a command; an error of ours ends it with a sentence on stderr and that error's exit code."""
    try:
        sys.exit(command(args))
    except HeituError as error:
        lines = [f"heitu: {error.message}", *([f"       {error.hint}"] if error.hint else [])]
        print("\n".join(lines), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("heitu: interrupted", file=sys.stderr)
        sys.exit(130)


def subcommands() -> list[str]:
    """The names of the modules in this package."""
    names = (entry for entry in os.listdir(os.path.dirname(__file__)) if entry.endswith(".py"))
    return sorted(name[:-3] for name in names if not name.startswith("_"))


def overview() -> str:
    """The text of `heitu --help`."""
    lines = [USAGE, "", "Runs an unmodified CUDA PyTorch program on a machine with no GPU.", "", "commands:"]
    for name in subcommands():
        doc = importlib.import_module(f"heitu.cli.{name}").__doc__ or ""
        lines.append(f"  {name:<10} {doc.splitlines()[0].partition(': ')[2]}")
    return "\n".join([*lines, "", "`heitu COMMAND --help` says more about each."])
