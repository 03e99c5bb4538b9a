"""Places in a program as a report shows them."""

from __future__ import annotations

from heitu.rehearsal.record import Place


def below(place: Place | None, directory: str) -> Place | None:
    """Relative to the run's directory where it lies below it, and to site-packages."""
    if place is None:
        return None
    file = place.file
    start = directory.rstrip("/") + "/"
    if directory and file.startswith(start):
        file = file[len(start) :]
    for packages in ("/site-packages/", "/dist-packages/"):
        file = file.rpartition(packages)[2]
    return Place(file, place.line, place.function)
