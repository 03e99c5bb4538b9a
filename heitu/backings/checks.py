"""The checks of `heitu doctor` that are about chips: presence, versions that fit, known breakages.

Neither torch nor a plugin is imported: that is what may fail.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

from heitu.backings.backing import Backing
from heitu.backings.detection import Machine, Presence, detect, torch_build
from heitu.backings.distributions import distribution, owners, writer
from heitu.findings import Line, Status

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
TOOL_SECONDS = 20
SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")


def check_chips(machine: Machine) -> Iterator[Line]:
    """Chips."""
    built = torch_build(machine)
    found = [presence for presence in detect(machine) if not presence.backing.is_inert]
    here = [presence for presence in found if presence.is_present]
    if built is not None and built.is_present:
        here.append(built)
    for presence in here:
        yield from _check_presence(presence, machine)
    usable = [presence for presence in here if presence.installed]
    named = machine.environment.get("HEITU_BACKING")
    if len(usable) > 1 and named is None:
        makers = " and ".join(presence.backing.maker for presence in usable)
        choice = f"export HEITU_BACKING={usable[0].backing.name} (or another of them)"
        yield Status.WARN, f"chips of {makers} are present, so `heitu run` does not choose by itself", choice
    for presence in found:
        if presence.installed and not presence.is_present:
            backing = presence.backing
            plugin = f"{backing.plugin} is installed, but there is {presence.evidence} here"
            emulated = next(iter(backing.emulated), None)
            advice = f"heitu run --chip {emulated} --plugin ..." if emulated else ""
            means = (
                "HEITU_BACKING names it" if backing.name == named else "programs run on the emulated device"
            )
            yield Status.WARN, f"{plugin}; {means}", advice
    if not here and not any(presence.installed for presence in found):
        yield Status.PASS, "none present; the cuda device is emulated on the CPU", ""


def _check_presence(presence: Presence, machine: Machine) -> Iterator[Line]:
    backing, shown = presence.backing, f"{presence.backing.maker}: {presence.evidence}"
    if presence.unreachable:
        node = presence.unreachable[0]
        yield Status.FAIL, f"{shown}; {node} cannot be opened: permission denied", f"ls -l {node}"
    elif not presence.installed:
        torch = machine.torch()
        release = torch.version.partition("+")[0] if torch is not None else "2.13.0"
        advice = backing.install.format(torch=release)
        yield Status.FAIL, f"{shown}; {backing.plugin} is not installed", advice
    elif presence.tool is not None and not _answers(presence.tool):
        yield Status.FAIL, f"{shown}; {Path(presence.tool).name} does not answer", presence.tool
    else:
        means = f"{backing.plugin} serves it" if backing.plugin else "torch is built for it"
        yield Status.PASS, f"{shown}; {means} ({backing.state.value})", ""


def _answers(tool: str) -> bool:
    """Whether the maker's tool ends well; what it prints differs, and does not matter here."""
    command = [tool, "info"] if Path(tool).name == "npu-smi" else [tool]
    try:
        return not subprocess.run(command, capture_output=True, timeout=TOOL_SECONDS).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def check_pairings(machine: Machine) -> Iterator[Line]:
    """Plugins."""
    for presence in detect(machine):
        backing = presence.backing
        plugin = distribution(machine, backing.distribution) if backing.plugin else None
        if plugin is not None:
            yield _pairing(backing, plugin, machine)
            yield from _autoload(backing, plugin, machine)


def _pairing(backing: Backing, plugin: Distribution, machine: Machine) -> Line:
    torch = machine.torch()
    version, has = plugin.version, f"{backing.plugin} {plugin.version}"
    if torch is None:
        return Status.FAIL, f"{has} is here, and no torch", "pip install torch"
    release = torch.version.partition("+")[0]
    same = [pairing for pairing in backing.pairings if _same(pairing.plugin, version)]
    if not same:
        known = ", ".join(f"{pairing.plugin} with torch {pairing.torch}" for pairing in backing.pairings)
        return Status.WARN, f"nothing is known of {has} with torch {release}; known: {known}", ""
    wanted = next((pairing for pairing in same if _same(pairing.torch, release)), None)
    if wanted is None:
        fitting = next((pairing for pairing in backing.pairings if _same(pairing.torch, release)), None)
        found = f"{has} is for torch {same[0].torch}, and this is torch {release}: neither may be importable"
        package = f"{backing.distribution}=={fitting.plugin}" if fitting else f"torch=={same[0].torch}"
        return Status.FAIL, found, f"pip install --no-deps '{package}'"
    toolkit, found = _toolkit_version(backing, machine), f"{has} with torch {release}"
    if wanted.toolkit and toolkit and not _same(wanted.toolkit.rpartition(" ")[2], toolkit):
        return Status.WARN, f"{found} goes with {wanted.toolkit}, and {backing.toolkit} {toolkit} is here", ""
    with_toolkit = f" and {backing.toolkit} {toolkit}" if toolkit else ""
    return Status.PASS, f"{found}{with_toolkit}", ""


def _same(known: str, found: str) -> bool:
    """Whether a version is the known one; what stands behind the plus sign counts where it is known."""
    return found == known or ("+" not in known and found.partition("+")[0] == known)


def _toolkit_version(backing: Backing, machine: Machine) -> str | None:
    for home in _toolkit_homes(backing, machine):
        for pattern in backing.version_files:
            for file in machine.files(f"{home}/{pattern}"):
                found = re.search(r"(?im)^version\s*=\s*\[?([\w.]+)", file.read_text("utf-8", "replace"))
                if found:
                    return found[1]
    return None


def _toolkit_homes(backing: Backing, machine: Machine) -> Iterator[str]:
    for variable in backing.toolkit_variables:
        if machine.environment.get(variable):
            yield machine.environment[variable].rstrip("/")
    yield from backing.toolkit_paths


def _autoload(backing: Backing, plugin: Distribution, machine: Machine) -> Iterator[Line]:
    """Plugins that `import torch` loads make it fail where what they are linked with cannot be loaded."""
    loads = any(point.group == "torch.backends" for point in plugin.entry_points)
    missing = [library for library in backing.libraries if not _loadable(library, machine)]
    if not missing:
        return
    homes = [home for home in _toolkit_homes(backing, machine) if machine.files(home)]
    advice = f"source {homes[0]}/set_env.sh" if homes else f"install {backing.toolkit}"
    found = f"{backing.plugin} needs {missing[0]} of {backing.toolkit}, which the loader does not find"
    if not loads or machine.environment.get(AUTOLOAD) == "0":
        yield Status.WARN, f"{found}: it cannot be imported", advice
    else:
        broken = f"{found}, and `import torch` loads it: without Heitu `import torch` itself fails"
        yield Status.FAIL, broken, f"{advice}, or: export {AUTOLOAD}=0"


def _loadable(library: str, machine: Machine) -> bool:
    places = [place for place in machine.environment.get("LD_LIBRARY_PATH", "").split(":") if place]
    for conf in machine.files("/etc/ld.so.conf.d/*.conf"):
        lines = conf.read_text("utf-8", "replace").splitlines()
        places += [line.strip() for line in lines if line.strip().startswith("/")]
    return any(
        machine.files(f"{place}/{library}*") or machine.files(f"{place}/*-linux-gnu/{library}*")
        for place in (*places, *SYSTEM_LIBRARIES)
    )


def check_triton(machine: Machine) -> Iterator[Line]:
    """Triton."""
    here = owners(machine, "triton")
    makers = [
        presence.backing for presence in detect(machine) if presence.installed and presence.backing.triton
    ]
    for backing in makers:
        vendors = [found for found in here if _is_of(backing, found)]
        mainline = [found for found in here if found not in vendors]
        if vendors and mainline:
            yield _two_tritons(vendors[0], mainline[0], machine)
        elif mainline and not any(
            distribution(machine, build.distribution)
            for build in backing.triton
            if build.distribution != "triton"
        ):
            build = backing.triton[0]
            wanted = build.distribution + (f" {build.mark}" if build.mark else "")
            found = (
                f"triton {mainline[0].version} is not the one that serves {backing.maker}'s chips ({wanted})"
            )
            yield Status.WARN, found, f"get {wanted} {backing.install or 'from its maker'}"
        elif vendors:
            name = vendors[0].metadata["Name"]
            yield Status.PASS, f"{name} {vendors[0].version}, {backing.maker}'s", ""


def _is_of(backing: Backing, found: Distribution) -> bool:
    name = found.metadata["Name"].lower().replace("_", "-")
    return any(name == build.distribution and build.mark in found.version for build in backing.triton)


def _two_tritons(vendor: Distribution, mainline: Distribution, machine: Machine) -> Line:
    """Both write into one folder; whichever was installed last is what is imported."""
    last = writer(machine, "triton/__init__.py", [vendor, mainline])
    theirs = f"{vendor.metadata['Name']}=={vendor.version}"
    both = f"{theirs.replace('==', ' ')} and triton {mainline.version} write into the same folder"
    again = f"pip install --no-deps --force-reinstall '{theirs}'"
    if last is mainline:
        return Status.FAIL, f"{both}, and triton was the last: the maker's kernels are gone", again
    return Status.WARN, f"{both}; an update of triton would overwrite the maker's", again
