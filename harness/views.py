"""Views of files, in which libsndfile finds samples that it would leave out.

It reads no further than a header says, or than its guess at a length where none is said:

    MP3   without a Xing header that counts frames it is the file's bytes over those of its first frames; with
          one it is what the header says, however much follows. A view claims to be endless, and reading ends
          behind the last whole frame: one that is cut is an error to libsndfile
    OGG   it is where the last page ends, and a page that is cut off is none. A view has a page of the packets
          that are whole
    WAV   of a recorder that was killed, or of a pipe, it may be 0 bytes. A view claims more than a file can
          have, as other writers to a pipe do, and reading ends with the file

A view is what soundfile takes for a file. Whatever else is wrong with a file is left to libsndfile.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple
from zlib import crc32

ENDLESS_BYTES = 2**48
ENDLESS_FRAMES = 2**31 - 1
XING_BYTES = (4 + 2 + 32) + 16  # with the header, checksum and side information before it
XING_FIELDS = ((1, 4), (2, 4), (4, 100), (8, 4))  # flags and bytes of frames, size, places, quality
LAME_BYTES = 24  # of an encoder's own tag behind them, the last three of which count what is not music
XING_SLACK = 0.01  # of the bytes: tags behind the music
RIFF_BYTES = 12
MOST_CHUNKS = 1_000  # before the samples of a file, or behind them
ID3V1_BYTES = 128
OGG_HEADER_BYTES = 27
OGG_PAGE_BYTES = OGG_HEADER_BYTES + 255 + 255 * 255  # of the longest there can be
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
ENDLESS_WAV = b"\xff" * 4  # the length of what is not known
FILL_BYTES = 2**16  # of what is behind the last frame, in memory at once


class View:
    """The first `end` bytes of `file`, with `patch` over those from `start` on; readers are told of `size`.

    `claimed`: samples the header says there are, where it does and cannot be believed. `cut`: the file ends
    before its last sample.
    """

    def __init__(
        self,
        file: io.FileIO,
        end: int,
        start: int = 0,
        patch: bytes = b"",
        size: int | None = None,
        claimed: int | None = None,
        cut: bool = False,
    ):
        self.claimed, self.cut = claimed, cut
        self._file, self._end, self._start, self._patch = file, end, start, patch
        self._size = end if size is None else size
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = max(offset + (0, self._place, self._size)[whence], 0)
        return self._place

    def tell(self) -> int:
        return self._place

    @property
    def ended(self) -> bool:
        """Whether it has been read to the end of the file, which must be open, but for zeros that fill it."""
        self._file.seek(self._place)
        rest = iter(lambda: self._file.read(FILL_BYTES), b"")
        return not any(piece.strip(b"\0") for piece in rest)

    def read(self, count: int) -> bytes:
        place, start = self._place, self._start
        if self._end < self._size - ID3V1_BYTES <= place:  # mpg123 gives up where it cannot look for a tag
            data = bytearray(count)
        else:
            self._file.seek(place)
            data = bytearray(self._file.read(max(min(count, self._end - place), 0)))
        low, high = max(place, start), min(place + len(data), start + len(self._patch))
        if low < high:
            data[low - place : high - place] = self._patch[low - start : high - start]
        self._place += len(data)
        return bytes(data)


def view(file: io.FileIO) -> View | None:
    """The view of a file that needs one. Raises OSError."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(RIFF_BYTES)
    if head.startswith(b"OggS"):
        return _ogg(file, end)
    return _wav(file, end) if head.startswith(b"RIFF") and head.endswith(b"WAVE") else _mpeg(file, end)


def _mpeg(file: io.FileIO, end: int) -> View | None:
    place = _after_tags(file)
    file.seek(place)
    head = file.read(XING_BYTES + sum(size for _, size in XING_FIELDS) + LAME_BYTES)
    if not _syncs(head):  # where libsndfile looks for a frame, and finds other formats, too
        return None
    tag = max(head.find(name, 0, XING_BYTES) for name in (b"Xing", b"Info"))
    flags, frames, size = (int.from_bytes(head[tag + i : tag + i + 4], "big") for i in (4, 8, 12))
    if tag < 0 or not flags & 1 or not frames:
        return View(file, end, size=ENDLESS_BYTES)
    if not flags & 2 or abs(end - place - size) <= XING_SLACK * size:
        return None
    samples = 1152 if head[1] & 0x08 else 576  # of a frame: MPEG-1, or a later one of lower rates
    patch = ENDLESS_FRAMES.to_bytes(4, "big") + (end - place).to_bytes(4, "big")
    claimed = frames * samples - _no_music(head, tag, flags)
    return View(file, end, place + tag + 8, patch, claimed=max(claimed, 0))


def _no_music(head: bytes, tag: int, flags: int) -> int:
    """Samples that an encoder puts before and behind the music, as far as the Xing header at `tag` tells."""
    end = tag + 8 + sum(size for flag, size in XING_FIELDS if flags & flag) + LAME_BYTES
    counts = int.from_bytes(head[end - 3 : end], "big")  # twelve bits each
    return (counts >> 12) + (counts & 0xFFF) if head[end - LAME_BYTES : end - 20].isalnum() else 0


def _after_tags(file: io.FileIO) -> int:
    """Where a file begins behind its ID3v2 tags."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(10)
        if len(head) < 10 or not head.startswith(b"ID3"):
            return place
        size = sum((byte & 127) << 7 * i for i, byte in enumerate(reversed(head[6:])))
        place += 10 + size + (10 if head[5] & 0x10 else 0)


def _syncs(head: bytes) -> bool:
    """Whether a frame of MPEG audio can begin so: eleven bits of sync, a layer and a rate that exist."""
    return len(head) >= 3 and head[0] == 255 and head[1] >= 0xE0 and head[1] & 6 != 0 and head[2] & 12 != 12


def _wav(file: io.FileIO, end: int) -> View | None:
    chunks = islice(_chunks(file, RIFF_BYTES), MOST_CHUNKS)
    data = next((chunk for chunk in chunks if chunk.name == b"data"), None)
    if data is None or data.end > data.place + 8:
        return None
    *_, last = data, *islice(_chunks(file, data.end), MOST_CHUNKS)
    if last.end in (end, end + 1):  # nothing but other chunks: it is empty
        return None
    return View(file, end, data.place + 4, ENDLESS_WAV, claimed=0)


class _Chunk(NamedTuple):
    """A chunk of a RIFF file, from its header's `place` to where the next begins."""

    name: bytes
    place: int
    end: int


def _chunks(file: io.FileIO, place: int) -> Iterator[_Chunk]:
    """The chunks from `place` on, as far as what is there has the name of one."""
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or not (head[:4].isascii() and head[:4].decode().isprintable()):
            return
        size = int.from_bytes(head[4:], "little")
        chunk = _Chunk(head[:4], place, place + 8 + size + size % 2)
        yield chunk
        place = chunk.end


def _ogg(file: io.FileIO, end: int) -> View | None:
    begin = max(end - 2 * OGG_PAGE_BYTES, 0)
    file.seek(begin)
    tail = file.read(end - begin)
    at = tail.rfind(b"OggS")
    if at < 0:
        return None
    page = tail[at:]
    laces = page[OGG_HEADER_BYTES : OGG_HEADER_BYTES + page[26]] if len(page) > 26 else b""
    body = OGG_HEADER_BYTES + len(laces)
    if len(laces) and len(laces) == page[26] and len(page) >= body + sum(laces):
        return None if page[5] & 4 else View(file, end, cut=True)
    whole = max(_packet_ends(laces, len(page) - body), default=(0, 0))
    patch = _page(page, *whole, body) if whole[0] else b""
    return View(file, begin + at + len(patch), begin + at, patch, cut=True)


def _packet_ends(laces: bytes, held_bytes: int) -> Iterator[tuple[int, int]]:
    """How many lacing values and bytes it is to the end of each packet that lies within `held_bytes`."""
    size = 0
    for number, lace in enumerate(laces, 1):
        size += lace
        if lace < 255 and size <= held_bytes:
            yield number, size


def _page(page: bytes, laces: int, size: int, body: int) -> bytes:
    """The page with only its first `laces` lacing values and the `size` bytes they stand for."""
    head = page[:22] + bytes(4) + bytes([laces]) + page[OGG_HEADER_BYTES : OGG_HEADER_BYTES + laces]
    data = head + page[body : body + size]
    return data[:22] + _checksum(data).to_bytes(4, "little") + data[26:]


def _checksum(data: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial with the bits the other way round, and nothing inverted."""
    mirrored = crc32(data.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
