"""Where compiled graphs are kept, and what is missing to compile."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

import pytest
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from harness import compiling
from harness.compiling import CACHE_VARIABLE, cache_directory, unavailable


def test_the_cache_is_the_one_named_or_the_users(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CACHE_VARIABLE, "/named")
    assert cache_directory() == Path("/named")
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_directory() == Path("/caches/acestep/inductor")
    monkeypatch.setenv(CACHE_VARIABLE, default_cache_dir())  # torch does this when it is imported
    assert cache_directory() == Path("/caches/acestep/inductor")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache/acestep/inductor"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that compiling needs, but for a place to keep graphs in."""
    tool = tmp_path / "tool"
    tool.touch(mode=0o755)
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("CXX", str(tool))
    monkeypatch.setenv("CC", str(tool))
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda name: str(tmp_path))


def test_what_is_missing_is_said_before_torch_is_needed(built: None, tmp_path: Path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "new" / "cache"))
    assert unavailable("cpu") is None and unavailable("cuda:1") is None
    assert not (tmp_path / "new").exists()
    assert "mps" in str(unavailable("mps"))
    (tmp_path / "Python.h").unlink()
    assert "Python.h" in str(unavailable("cpu"))
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "tool" / "cache"))
    assert str(tmp_path / "tool") in str(unavailable("cpu")) and CACHE_VARIABLE in str(unavailable("cuda"))
    monkeypatch.setenv("CXX", str(tmp_path / "gone"))
    assert "CXX" in str(unavailable("cpu"))
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert "triton" in str(unavailable("cuda"))


def test_a_user_without_a_home_is_told_to_name_a_directory(built: None, tmp_path: Path, monkeypatch):
    """As in a container that runs as some number: its environment names no home, nor do the passwords."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", CACHE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert (
        unavailable("cpu")
        == f"finds no home directory to keep graphs in; name a directory in {CACHE_VARIABLE}"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert unavailable("cpu") is None


def test_a_home_that_may_not_be_looked_into_is_no_error(built: None, tmp_path: Path, monkeypatch):
    """As root's, where HOME stayed that of whoever asked sudo."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv(CACHE_VARIABLE, str(home / "cache"))

    def stat(path: Path, real=Path.stat, **how: bool) -> os.stat_result:
        if home in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", stat)

    def access(path: str | Path, mode: int, real=os.access) -> bool:
        return mode == os.F_OK if path == home else home not in Path(path).parents and real(path, mode)

    monkeypatch.setattr(os, "access", access)
    assert unavailable("cpu") == f"cannot write to {home / 'cache'}; name a directory in {CACHE_VARIABLE}"
