"""heitu.settings: types, limits, unknown names."""

from __future__ import annotations

from pathlib import Path

import pytest

from heitu.errors import ExitCode, HeituError
from heitu.settings import Settings, settings


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEITU_CACHE_DIR")
    assert (settings.enable, settings.devices, settings.quiet) == (False, 1, False)
    assert [settings.memory, settings.chip, settings.cache_dir, settings.build_jobs] == [None] * 4


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GiB", 80 << 30),
        ("512 MiB", 512 << 20),
        ("1.5gib", 3 << 29),
        ("2GB", 2 * 10**9),
        ("1048576", 1 << 20),
    ],
)
def test_memory_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("HEITU_MEMORY", text)
    assert settings.memory == size


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HEITU_MEMORY", "0"),
        ("HEITU_MEMORY", "-1GiB"),
        ("HEITU_MEMORY", "plenty"),
        ("HEITU_MEMORY", "99999999TiB"),
        ("HEITU_DEVICES", "0"),
        ("HEITU_DEVICES", "65"),
        ("HEITU_DEVICES", "two"),
        ("HEITU_BUILD_JOBS", "0"),
        ("HEITU_CACHE_DIR", "relative/path"),
        ("HEITU_CACHE_DIR", ""),
        ("HEITU_QUIET", "perhaps"),
    ],
)
def test_a_value_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(HeituError, match=variable) as caught:
        settings.check()
    assert repr(text) in caught.value.message
    assert caught.value.exit_code is ExitCode.SETTING


def test_an_unknown_variable_is_told_the_closest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEITU_DEVICE", "2")
    with pytest.raises(
        HeituError, match=r"HEITU_DEVICE is not a setting(.|\n)*closest is HEITU_DEVICES"
    ) as caught:
        settings.check()
    assert caught.value.exit_code is ExitCode.SETTING


def test_setting_a_value_reaches_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEITU_DEVICES", "1")
    settings.devices = 4
    assert settings.devices == 4
    with pytest.raises(HeituError):
        settings.devices = 1000
    with pytest.raises(AttributeError):
        settings.device = 3


def test_every_setting_is_printed_with_its_meaning(clean_environment: Path) -> None:
    rows = {row.variable: row for row in settings.rows()}
    assert list(rows) == [setting.variable for setting in settings]
    assert all(row.doc for row in rows.values())
    assert rows["HEITU_CACHE_DIR"].is_set
    assert rows["HEITU_CACHE_DIR"].value == str(clean_environment)
    assert not rows["HEITU_DEVICES"].is_set


def test_a_setting_asked_of_the_class_is_its_descriptor() -> None:
    assert Settings.devices.variable == "HEITU_DEVICES"
