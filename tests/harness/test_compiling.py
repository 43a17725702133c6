"""Where compiled graphs are kept, and what is missing to compile."""

from __future__ import annotations

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


def test_what_is_missing_is_said_before_torch_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "tool"
    tool.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(tool))
    monkeypatch.setenv("CC", str(tool))
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "Python.h" in str(unavailable("cpu"))
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "new" / "cache"))
    assert unavailable("cpu") is None and unavailable("cuda:1") is None
    assert not (tmp_path / "new").exists()
    assert "mps" in str(unavailable("mps"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tool / "cache"))
    assert str(tool / "cache") in str(unavailable("cpu")) and CACHE_VARIABLE in str(unavailable("cuda"))
    monkeypatch.setenv("CXX", str(tmp_path / "gone"))
    assert "CXX" in str(unavailable("cpu"))
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    assert "triton" in str(unavailable("cuda"))
