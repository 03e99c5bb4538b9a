"""Whether Heitu compiles against the headers of other releases of torch: `… -m tests.full.headers 2.7.1`.

That is the core, the library over vendors' plugins, and the CANN emulator. A release is given by its version,
whose wheel is downloaded and of which only the headers are unpacked, or by a folder that holds torch/include.
Nothing of it is installed or run, so a wheel for another platform serves as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from heitu.backings import forwarding
from heitu.cache import private_cache
from heitu.device.build import core
from heitu.device.compilation import Recipe
from heitu.device.installed_torch import InstalledTorch
from heitu.device.library import Batch, Library
from heitu.device.toolchain import find_compiler
from heitu.emulators.cann import activation as cann

# The last patch release of each minor one that is supported and not the one the other tests run on.
VERSIONS = ("2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.14.1", "2.15.0")
# Of the wheels on the ordinary index these are the smallest, as no library of a GPU is in them.
PLATFORM = "macosx_14_0_arm64"
UNPACKED = ("torch/include/", "torch/version.py")


def main() -> int:
    """Prints a line for each library of each release; 1 where one does not compile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("releases", nargs="*", default=VERSIONS, help="version, or folder with torch/include")
    failed = 0
    for release in parser.parse_args().releases:
        with tempfile.TemporaryDirectory(prefix="heitu-headers-") as scratch:
            folder = Path(release)
            if not (folder / "torch" / "include").is_dir():
                folder = download(release, Path(scratch))
            for library in (core(), forwarding.library(), cann.library()):
                errors = first_errors(library, folder / "torch")
                verdict = "compiles" if not errors else "does not compile"
                print(f"{release}: {library.name} {verdict}", flush=True)
                print(*errors, sep="\n", end="", file=sys.stderr)
                failed += bool(errors)
    return int(failed > 0)


def download(version: str, folder: Path) -> Path:
    """`folder`, with the headers of that version in it. Raises CalledProcessError where there is no wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--platform", PLATFORM, "--dest", str(folder), f"torch=={version}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    [wheel] = folder.glob("torch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(UNPACKED)])
    wheel.unlink()
    return folder


def first_errors(library: Library, torch: Path) -> list[str]:
    """What the compiler says against `library` with the headers of this torch package, unit by unit."""
    recipe = Recipe(library, library.sources(private_cache()), InstalledTorch(torch), find_compiler())
    return [error for batch in recipe.sources.batches() if (error := check(recipe, batch))]


def check(recipe: Recipe, batch: Batch) -> str:
    """The compiler's errors in one unit, or nothing."""
    words = [
        word for path in (*recipe.sources.preludes(), *batch.sources) for word in ("-include", str(path))
    ]
    command = [*recipe.compiler.command, *recipe.flags(batch), *words]
    command += ["-w", "-fsyntax-only", "-fmax-errors=20"]
    done = subprocess.run([*command, "-xc++", "/dev/null"], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


if __name__ == "__main__":
    raise SystemExit(main())
