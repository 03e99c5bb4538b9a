"""Every `HEITU_*` environment variable, one typed descriptor each, in this one place.

`settings.devices` reads the variable at the moment of asking, so a value set by a test or by
`heitu.enable()` counts at once. Torch is not imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

from heitu.errors import ExitCode, HeituError

T = TypeVar("T")

MAX_DEVICES = 64  # c10::DeviceIndex is 8 bits wide, and PyTorch's own limit for GPUs is 120
VENDOR_SHIM, PLUGIN = "vendor-shim", "plugin"  # HEITU_VIA
EMULATED = "emulated"  # as HEITU_BACKING: no chip, but the device that is emulated on the CPU
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{u}b": n for u, n in _UNITS.items() if u in set("kmgt")}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def parse_flag(text: str) -> bool:
    """1, true, yes, on; 0, false, no, off."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError("expected 1 or 0")


def parse_devices(text: str) -> int:
    """A number of devices from 1 to MAX_DEVICES."""
    if not re.fullmatch(r"\s*\d+\s*", text) or not 1 <= int(text) <= MAX_DEVICES:
        raise ValueError(f"expected a whole number from 1 to {MAX_DEVICES}")
    return int(text)


def parse_jobs(text: str) -> int:
    """A number of compilers to run at once, from 1 up."""
    if not re.fullmatch(r"\s*\d+\s*", text) or int(text) < 1:
        raise ValueError("expected a whole number from 1 up")
    return int(text)


def parse_memory(text: str) -> int:
    """Bytes, as "80GiB", "512 MiB", "80GB" or a plain number; at least 1 MiB."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError('expected a size such as "80GiB", "512MiB" or "80GB"')
    size = int(float(match[1]) * unit)
    if not 2**20 <= size < 2**63:
        raise ValueError(f"{size} bytes is outside the limits of 1 MiB to 8 EiB")
    return size


def parse_delay(text: str) -> int:
    """Microseconds, up to a second."""
    delay = int(text) if text.strip().isdigit() else -1
    if not 0 <= delay <= 1_000_000:
        raise ValueError("expected microseconds from 0 to 1000000")
    return delay


def parse_directory(text: str) -> Path:
    """A directory, absolute or below the home directory."""
    path = Path(text).expanduser()
    if not text.strip() or not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


def parse_name(text: str) -> str:
    """A word, not empty."""
    if not text.strip():
        raise ValueError("expected a name")
    return text.strip()


def parse_via(text: str) -> str:
    """One of the two words there are."""
    if text.strip() not in (VENDOR_SHIM, PLUGIN):
        raise ValueError(f"expected {VENDOR_SHIM} or {PLUGIN}")
    return text.strip()


def parse_names(text: str) -> tuple[str, ...]:
    """Words parted by commas; none in an empty text."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


class Setting(Generic[T]):
    """One environment variable: its name, its type, its default and what it means."""

    def __init__(self, variable: str, default: T, parse: Callable[[str], T], doc: str) -> None:
        self.variable = variable
        self.default = default
        self.parse = parse
        self.doc = doc

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: Settings, owner: type) -> T: ...
    def __get__(self, instance: Settings | None, owner: type) -> Setting[T] | T:
        return self if instance is None else self.read()

    def __set__(self, instance: Settings, value: T) -> None:
        """Sets the variable of this process, which its children inherit."""
        text = str(int(value)) if isinstance(value, bool) else str(value)
        if isinstance(value, tuple):
            text = ",".join(value)
        self._parse(text)
        os.environ[self.variable] = text

    def read(self) -> T:
        """The value in force. Raises HeituError on a value out of range."""
        text = os.environ.get(self.variable)
        return self.default if text is None else self._parse(text)

    def _parse(self, text: str) -> T:
        try:
            return self.parse(text)
        except ValueError as error:
            raise HeituError(
                f"{self.variable}={text!r} is not usable: {error}.",
                hint=f"{self.variable}: {self.doc}.",
                exit_code=ExitCode.SETTING,
            ) from None


class SettingRow(NamedTuple):
    """One line of the printed table."""

    variable: str
    value: str
    is_set: bool
    doc: str


class Settings:
    """The settings in force, read from the environment when asked for."""

    enable = Setting("HEITU_ENABLE", False, parse_flag, "the launcher's mark; not for hand use")
    devices = Setting(
        "HEITU_DEVICES",
        1,
        parse_devices,
        "number of emulated devices; unset: 1, or LOCAL_WORLD_SIZE where that is more",
    )
    memory = Setting[int | None](
        "HEITU_MEMORY", None, parse_memory, 'memory of one device, e.g. "80GiB"; unset: the device\'s own'
    )
    chip = Setting[str | None](
        "HEITU_CHIP", None, parse_name, "the chip whose rules hold: a name of `heitu chips`, or a file"
    )
    record = Setting[Path | None](
        "HEITU_RECORD", None, parse_directory, "the directory of a rehearsal's record; unset: none is kept"
    )
    strict = Setting("HEITU_STRICT", False, parse_flag, "1: the first operator that is not native raises")
    allow = Setting[tuple[str, ...]](
        "HEITU_ALLOW", (), parse_names, "operators that a strict run lets pass, parted by commas"
    )
    backing = Setting[str | None](
        "HEITU_BACKING",
        None,
        parse_name,
        "whose chip programs run on: a file of heitu/backings/vendors, or emulated; unset: the one present",
    )
    plugin = Setting("HEITU_PLUGIN", False, parse_flag, "1: the maker's plugin runs over an emulator")
    via = Setting[str | None](
        "HEITU_VIA",
        None,
        parse_via,
        "instead of Heitu's device: vendor-shim, the maker's own redirection, or plugin, the plugin alone",
    )
    visible_devices = Setting[str | None](
        "HEITU_VISIBLE_DEVICES", None, str, "what the visible-devices variables agreed on; not for hand use"
    )
    cann_calls = Setting[Path | None](
        "HEITU_CANN_CALLS",
        None,
        parse_directory,
        "a directory in which each process leaves what it called of the CANN emulator; unset: none does",
    )
    cann_soc = Setting[str | None](
        "HEITU_CANN_SOC", None, parse_name, "the chip that the CANN emulator claims to be; unset: Ascend910B1"
    )
    cann_devices = Setting[int | None](
        "HEITU_CANN_DEVICES", None, parse_devices, "number of devices of the CANN emulator; unset: 1"
    )
    cann_memory = Setting[int | None](
        "HEITU_CANN_MEMORY", None, parse_memory, "memory of one device of the CANN emulator; unset: 64 GiB"
    )
    cann_version = Setting[str | None](
        "HEITU_CANN_VERSION", None, parse_name, "the CANN that the emulator claims to be; unset: 9.0.0"
    )
    cann_delay = Setting[int | None](
        "HEITU_CANN_DELAY",
        None,
        parse_delay,
        "microseconds by which streams of the CANN emulator are late at most, at random; unset: 0",
    )
    check_kernels = Setting(
        "HEITU_CHECK_KERNELS", False, parse_flag, "1: judge each access of memory by a Triton kernel"
    )
    dry = Setting("HEITU_DRY", False, parse_flag, "1: rehearse without the values of large tensors")
    cache_dir = Setting[Path | None](
        "HEITU_CACHE_DIR", None, parse_directory, "where the built core is kept; unset: the user's cache"
    )
    build_jobs = Setting[int | None](
        "HEITU_BUILD_JOBS", None, parse_jobs, "compilers run at once; unset: one for each processor"
    )
    quiet = Setting("HEITU_QUIET", False, parse_flag, "1: say nothing on stderr but errors")

    def __iter__(self) -> Iterator[Setting[Any]]:
        return (value for value in vars(type(self)).values() if isinstance(value, Setting))

    def __setattr__(self, name: str, value: object) -> None:
        if not isinstance(getattr(type(self), name, None), Setting):
            raise AttributeError(f"there is no setting {name!r}")
        super().__setattr__(name, value)

    def check(self) -> None:
        """Raises HeituError on an unknown HEITU_* variable or a value that cannot be read."""
        known = [setting.variable for setting in self]
        for variable in sorted(os.environ):
            if variable.startswith("HEITU_") and variable not in known:
                import difflib

                close = difflib.get_close_matches(variable, known, n=1, cutoff=0.0)
                raise HeituError(
                    f"{variable} is not a setting of Heitu.",
                    hint=f"The closest is {close[0]}; `heitu doctor --settings` lists them all.",
                    exit_code=ExitCode.SETTING,
                )
        for setting in self:
            setting.read()

    def rows(self) -> list[SettingRow]:
        """The table that is printed; a value that cannot be read stands there as it was given."""
        rows = []
        for setting in self:
            try:
                value = str(setting.read())
            except HeituError:
                value = os.environ[setting.variable]
            rows.append(SettingRow(setting.variable, value, setting.variable in os.environ, setting.doc))
        return rows


settings = Settings()
