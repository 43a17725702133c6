"""The latent of silence, which comes as a pickle: it is read without running any, or refused in one line."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from acestep.weights.checkpoint import Folder
from acestep.weights.layout import DEFAULT_DIT
from acestep.weights.silence import SILENCE_FRAMES
from harness.errors import CheckpointError


class Exploit:
    """A pickle that runs a command when it is loaded without care."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.victim),)


SILENCE = (1, 64, SILENCE_FRAMES)


def silence_folder(root: Path, content: object) -> Path:
    path = root / DEFAULT_DIT / "silence_latent.pt"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


def test_the_silence_latent_is_read_frames_first(tmp_path: Path) -> None:
    stored = torch.arange(64 * SILENCE_FRAMES, dtype=torch.float32).view(SILENCE)
    silence_folder(tmp_path, stored)
    latent = Folder(tmp_path).silence_latent(DEFAULT_DIT)
    assert latent.shape == (1, SILENCE_FRAMES, 64)
    assert torch.equal(latent[0, 3], stored[0, :, 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unreadable"),
        (b"version https://git-lfs.github.com/spec/v1\n", "unreadable"),
        (b"PK\x05\x06" + bytes(18), r"unreadable \(torch finds no tensor in it\); download"),
        (torch.zeros(1, SILENCE_FRAMES, 64), r"holds \(1, 15000, 64\), expected a tensor \(1, 64, 15000\)"),
        ({"latent": torch.zeros(1)}, "holds dict"),
        (torch.full(SILENCE, float("nan")), "holds values that are no numbers"),
        (torch.zeros(SILENCE, dtype=torch.int32), r"unreadable \(it calls torch IntStorage\)"),
        (torch.zeros(SILENCE).to_sparse(), r"unreadable \(it calls torch._utils _rebuild_sparse_tensor\)"),
        (torch.zeros(SILENCE, device="meta"), r"unreadable \(it calls torch._utils _rebuild_meta_tensor"),
        (torch.zeros(2**22), r"unreadable \(it unpacks to|has more than the 16,777,216 bytes"),
    ],
)
def test_a_wrong_silence_latent(tmp_path: Path, content: object, message: str) -> None:
    silence_folder(tmp_path, content)
    with pytest.raises(CheckpointError, match=rf"silence_latent\.pt: {message}"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)


class Memory:
    """A pickle of a few bytes that takes any memory, and that torch's reader of weights lets pass."""

    def __reduce__(self) -> tuple:
        return bytearray, (10**6,)


def test_a_silence_latent_calls_nothing_that_takes_memory(tmp_path: Path) -> None:
    path = silence_folder(tmp_path, Memory())
    with pytest.raises(CheckpointError, match=r"unreadable \(it calls .*bytearray\); download it again"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)
    assert len(torch.load(path, weights_only=True)) == 10**6  # the control


def test_a_silence_latent_is_not_unpacked_beyond_its_size(tmp_path: Path) -> None:
    """A kilobyte for a megabyte, as far as anybody likes."""
    path = silence_folder(tmp_path, torch.zeros(SILENCE))
    packed = path.with_name("packed")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in archive.infolist():
            bomb.writestr(entry.filename, archive.read(entry) * (5 if entry.filename.endswith("/0") else 1))
    packed.replace(path)
    assert path.stat().st_size < 10**5
    with pytest.raises(CheckpointError, match=r"unreadable \(it unpacks to 19,200,.* bytes\)"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)


def test_a_silence_latent_of_another_protocol_is_told_without_a_warning(tmp_path: Path) -> None:
    path = silence_folder(tmp_path, b"")
    torch.save([], path, pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"unreadable \(its protocol is 4, not 2\)"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)


def test_a_truncated_silence_latent(tmp_path: Path) -> None:
    path = silence_folder(tmp_path, torch.zeros(SILENCE))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"unreadable .*download it again"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)


def test_a_missing_silence_latent(tmp_path: Path) -> None:
    (tmp_path / DEFAULT_DIT).mkdir()
    with pytest.raises(CheckpointError, match=r"silence_latent\.pt: no such file"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)


def test_a_malicious_silence_latent_does_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "pwned"
    path = silence_folder(tmp_path, Exploit(victim))
    with pytest.raises(CheckpointError, match="unreadable"):
        Folder(tmp_path).silence_latent(DEFAULT_DIT)
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.exists()  # the control: this pickle would have run
