"""`heitu run`: starts a program, unedited, with a cuda device: the chip that is here, or an emulated one."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from heitu.errors import ExitCode, HeituError
from heitu.launch.environment import apply, inherits_record
from heitu.settings import PLUGIN, VENDOR_SHIM, parse_devices, parse_memory, parse_names, settings

if TYPE_CHECKING:
    from heitu.backings.selection import Choice

EXAMPLES = """\
examples:
  heitu run train.py --lr 1e-3
  heitu run --devices 2 -m package.module
  heitu run -- torchrun --nproc-per-node 2 train.py
  heitu run --devices 2 -- accelerate launch --num_processes 2 train.py
  heitu run -- python -u train.py
  heitu run --check-kernels script_with_triton_kernels.py
  heitu run --chip ascend-910b --report report.html train.py
  heitu run --chip ascend-910b --plugin train.py

Arguments, exit code, signals, stdin and tracebacks are the program's own. Child processes
inherit the device, except those that Python starts with -I, -E or -S. A command after -- is looked
for beside this Python first, then on PATH.
"""


def parser() -> argparse.ArgumentParser:
    """The options of `heitu run`; the program's own words are not among them (see `split`)."""
    made = argparse.ArgumentParser(
        prog="heitu run",
        usage="heitu run [options] {SCRIPT | -m MODULE | -c CODE | -- COMMAND} [ARGS ...]",
        description="Runs a program, unedited, with a cuda device: over the plugin of the chip that "
        "is present, otherwise emulated on the CPU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--devices", metavar="N", type=reading(parse_devices), help="number of emulated devices (default: 1)"
    )
    made.add_argument(
        "--memory", metavar="SIZE", type=reading(parse_memory), help='memory of one device, e.g. "80GiB"'
    )
    made.add_argument(
        "--dry",
        action="store_true",
        help="rehearse without the values of large tensors: for programs too large for this machine",
    )
    made.add_argument(
        "--check-kernels",
        action="store_true",
        help="judge each access of memory by a Triton kernel: bounds, memory that was never written, races",
    )
    chips = made.add_argument_group("chips")
    chips.add_argument(
        "--emulate", action="store_true", help="leave chips that are present alone; the device is emulated"
    )
    chips.add_argument(
        "--plugin", action="store_true", help="run the plugin of the maker of --chip, with no chip under it"
    )
    chips.add_argument(
        "--via",
        choices=[VENDOR_SHIM, PLUGIN],
        help="instead of Heitu's device: the maker's own redirection of CUDA programs, for comparison, or "
        "the plugin alone, for programs that are written for it",
    )
    rehearsal = made.add_argument_group(
        "rehearsal", "the program runs by the rules of a chip, and what that came to is said at its end"
    )
    rehearsal.add_argument(
        "--chip", metavar="NAME",
        help="a name of `heitu chips`, or ./my-chip.toml; where such a chip is present, it is used",
    )  # fmt: skip
    rehearsal.add_argument(
        "--report", metavar="FILE", action="append", type=Path, default=[],
        help="write a report, .html or .json; may be given twice",
    )  # fmt: skip
    rehearsal.add_argument(
        "--strict", action="store_true", help="the first operator that is not native on the chip raises"
    )
    rehearsal.add_argument(
        "--allow", metavar="OP", action="append", type=parse_names, default=[],
        help="lets an operator pass under --strict, e.g. isin or isin.Tensor_Tensor",
    )  # fmt: skip
    rehearsal.add_argument("--no-record", action="store_true", help="apply the rules, and count nothing")
    return made


def main(args: list[str]) -> int:
    """Replaces this process by the program; a rehearsal stays its parent and returns its exit code.

    Raises:
        HeituError: a setting out of range, or the core cannot be built.
    """
    options = parser()
    ours, program = split(args, options)
    asked = options.parse_args(ours)
    if not program or program == ["--"]:
        options.error("what is to run is missing: a script, -m MODULE, or -- COMMAND")
    # A rehearsal inside another (a launcher that the program starts) keeps the record of the outer one.
    outer = inherits_record()
    choice = apply(
        asked.chip,
        asked.devices,
        asked.memory,
        dry=asked.dry,
        check_kernels=asked.check_kernels,
        emulate=asked.emulate,
        plugin=asked.plugin,
        via=asked.via,
    )
    if choice.backing is not None:
        check_chip_options(asked, choice, options)
        argv = resolve(program)
        if not choice.backing.is_inert:
            from heitu.backings.activation import build

            build(choice.backing, over_emulator=choice.over_emulator, via=choice.via)
        execute(argv)
    rehearse = check_rehearsal(asked, options) and not outer
    argv = resolve(program)
    # For a script that is not there Python has its own message; nothing needs building for that.
    if program[0].startswith("-") or os.path.exists(program[0]):
        from heitu.device.build import core_library

        core_library()
    if not rehearse:
        execute(argv)
    from heitu.rehearsal.session import Session, end_as, run

    return end_as(run(argv, Session(program, asked.report, settings.record)))


def check_chip_options(asked: argparse.Namespace, choice: Choice, options: argparse.ArgumentParser) -> None:
    """Refuses what only rehearsals and the emulated device know of."""
    assert choice.backing is not None
    emulated = ("report", "strict", "allow", "no_record", "dry", "check_kernels")
    given = [word for word in emulated if getattr(asked, word)]
    if not choice.over_emulator:
        given += [word for word in ("devices", "memory") if getattr(asked, word) is not None]
    if given:
        where = "the plugin runs" if choice.over_emulator else f"a chip of {choice.backing.maker} is present"
        options.error(
            f"--{given[0].replace('_', '-')} is for the emulated device, and {where}: add --emulate"
        )


def check_rehearsal(asked: argparse.Namespace, options: argparse.ArgumentParser) -> bool:
    """Whether a record is to be kept; hands --strict and --allow on to the program's processes.

    Raises:
        HeituError: a report that cannot be written.
    """
    if settings.chip is None:
        for given in ("report", "strict", "allow", "no_record"):
            if getattr(asked, given):
                options.error(f"--{given.replace('_', '-')} needs --chip")
        return False
    if asked.no_record and (asked.report or asked.strict):
        options.error("--no-record goes neither with --report nor with --strict")
    from heitu.rehearsal.ending import check

    asked.report = [report.absolute() for report in asked.report]
    for report in asked.report:
        check(report)
    if asked.strict:
        settings.strict = True
    if asked.allow:
        from heitu.rehearsal.operator_names import check_allowed

        settings.allow = tuple(name for names in asked.allow for name in names)
        check_allowed(settings.allow)
    return not asked.no_record


def split(args: list[str], options: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Our options, and the program with all that follows it, from the first word that is not ours on."""
    with_value = {name for action in options._actions if action.nargs != 0 for name in action.option_strings}
    end = 0
    while end < len(args) and args[end].startswith("--") and args[end] != "--":
        end += 2 if args[end] in with_value else 1
    if args[end : end + 1] == ["-h"]:
        return ["-h"], []
    return args[:end], args[end:]


def resolve(program: list[str]) -> list[str]:
    """The argument vector, executable first, for what stands after the options of `heitu run`.

    Raises:
        HeituError: there is no such command.
    """
    if program[0] != "--":
        if program[0].startswith("-") and program[0][:2] not in ("-m", "-c"):
            raise HeituError(
                f"{program[0]} is not an option of `heitu run`.",
                hint=f"For an option of Python: heitu run -- python {program[0]} ...",
                exit_code=ExitCode.USAGE,
            )
        return [sys.executable, *program]
    import shutil

    beside = os.path.dirname(sys.executable)
    path = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    found = shutil.which(program[1], path=path)
    if found is None:
        raise HeituError(
            f"There is no command {program[1]!r}, neither in {beside} nor on PATH.",
            hint="Install it beside torch, or give its path.",
            exit_code=ExitCode.USAGE,
        )
    # The whole path as argv[0]: Python finds its environment by it.
    return [found, *program[2:]]


def execute(argv: list[str]) -> NoReturn:
    """Replaces this process, so that nothing of ours stands between the program and its parent."""
    sys.stdout.flush()
    sys.stderr.flush()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        # Python ignores these, and what is ignored stays so across exec.
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(argv[0], argv)


def reading(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser of heitu.settings as the `type` of an option, its message kept."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return read


if __name__ == "__main__":
    from heitu.cli import invoke

    invoke(main, sys.argv[1:])
