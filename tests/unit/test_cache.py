"""heitu.cache: only a private directory of one's own is used."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from heitu.cache import cache_path, private_cache, write_whole
from heitu.errors import ExitCode, HeituError


def test_it_is_made_private(clean_environment: Path) -> None:
    old = os.umask(0)
    try:
        assert private_cache() == clean_environment
    finally:
        os.umask(old)
    assert stat.S_IMODE(clean_environment.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_one_that_others_can_write_to_is_refused(clean_environment: Path, mode: int) -> None:
    clean_environment.mkdir()
    clean_environment.chmod(mode)
    with pytest.raises(HeituError, match=f"written by others .mode {mode:04o}") as caught:
        private_cache()
    assert caught.value.exit_code is ExitCode.CACHE_REFUSED


def test_one_that_belongs_to_another_is_refused(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(HeituError, match=r"belongs to user id .* this process has 4242") as caught:
        private_cache()
    assert caught.value.exit_code is ExitCode.CACHE_REFUSED


def test_a_file_in_its_place_is_refused(clean_environment: Path) -> None:
    clean_environment.write_text("")
    with pytest.raises(HeituError, match="is not a directory"):
        private_cache()


def test_where_it_is_without_a_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEITU_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_path() == tmp_path / "heitu"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_path() == Path("/home/somebody/.cache/heitu")


def test_threads_that_write_the_same_file(tmp_path: Path) -> None:
    target, content = tmp_path / "library.so", os.urandom(1 << 20)
    begin, failures = threading.Barrier(8), []

    def write() -> None:
        begin.wait()
        try:
            for _ in range(10):
                write_whole(target, content)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert target.read_bytes() == content
    assert list(tmp_path.iterdir()) == [target]
