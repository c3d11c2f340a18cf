"""What the bytes of a recording say of its length, where FFmpeg only guesses or says nothing."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET
from typing import BinaryIO, Literal

PLAIN_SAMPLES, EXTENSIBLE = (1, 3), 0xFFFE  # kinds of wav: integers, floats; told further on
NMS_ADPCM = b"\x38\0"
MOST_CHUNKS = 100  # of a wav: more than it has
STREAMING_BYTES = 0x7FFF0000  # lengths from here on stand in for that of wav from a pipe
LONGEST_PAGE = 2**16  # of Ogg, about
EBML = b"\x1a\x45\xdf\xa3"
ASF = b"\x30\x26\xb2\x75"
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
SOUND_CHUNKS = (b"data", b"SSND")
FOLLOWERS = (b"RIFF", b"RF64", b"RIFX", b"FORM", b"riff", b"caff", b"FLV\1", b"TTA1", b"Crea", ASF)
"""Begin files behind whose end FFmpeg looks for nothing more."""
PIECE = 2**16  # bytes that are searched at a time
LONGEST_TAIL = 2**26  # bytes behind the last sound in which another file is looked for


class Part:
    """The bytes of a file from `start` to `end`, with a place of its own.

    A bad place is refused, but nothing raised.
    """

    def __init__(self, file: BinaryIO, start: int = 0, end: int | None = None) -> None:
        self._file, self._start, self._place = file, start, 0
        self._end = file.seek(0, SEEK_END) if end is None else end

    @property
    def name(self) -> str:
        """Of the file; its extension tells FFmpeg of formats without a header."""
        return str(self._file.name)

    @property
    def size(self) -> int:
        """In bytes."""
        return self._end - self._start

    def until(self, end: int | None) -> Part:
        """The same up to there, to be read from its beginning."""
        return Part(self._file, self._start, self._end if end is None else self._start + end)

    def behind(self, offset: int) -> Part:
        """What follows from there on."""
        return Part(self._file, self._start + offset, self._end)

    def read(self, count: int = -1) -> bytes:
        """As of a file."""
        left = max(self.size - self._place, 0)
        self._file.seek(self._start + min(self._place, self.size))
        data = self._file.read(left if count < 0 else min(count, left))
        self._place += len(data)
        return data

    def tell(self) -> int:
        """As of a file."""
        return self._place

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """As of a file; -1 for a place before its beginning."""
        place = offset + {SEEK_SET: 0, SEEK_CUR: self._place, SEEK_END: self.size}[whence]
        if place < 0:
            return -1
        self._place = place
        return place


@dataclass(frozen=True)
class Chunks:
    """How a family of formats lays out chunks: in bytes, what stands before each."""

    first: int  # where the first one begins
    name: int
    length: int
    order: Literal["little", "big"]
    align: int = 2

    @property
    def header(self) -> int:
        """Bytes of a chunk's name and length."""
        return self.name + self.length


FAMILIES = {
    b"RIFF": Chunks(12, 4, 4, "little"),
    b"RF64": Chunks(12, 4, 4, "little"),
    b"BW64": Chunks(12, 4, 4, "little"),
    b"RIFX": Chunks(12, 4, 4, "big"),
    b"FORM": Chunks(12, 4, 4, "big"),
    b"caff": Chunks(8, 4, 8, "big", align=1),
    b"riff": Chunks(40, 16, 8, "little", align=8),  # Sony's wave64, whose lengths count the header
}


def sound_bytes(file: Part) -> tuple[int, int] | None:
    """How many bytes of sound the file claims, and how many there are; None where it does not say.

    Of chunked formats (wav, RF64, wave64, aiff, caf, avi), au and asf, where all bytes are counted.
    """
    total = file.seek(0, SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic == b".snd":
        begin, stated = (int.from_bytes(file.read(4), "big") for _ in range(2))
        return _known(stated, total - begin)
    if magic == ASF:
        properties = file.read(2**16).partition(ASF_PROPERTIES)[2]
        return _known(int.from_bytes(properties[24:32], "little"), total, is_long=True)
    layout = FAMILIES.get(magic)
    return _walk(file, layout, total) if layout else None


def _walk(file: Part, layout: Chunks, total: int) -> tuple[int, int] | None:
    place, long_length = layout.first, 0
    while place + layout.header <= total:
        file.seek(place)
        name = file.read(layout.name)[:4]
        length = int.from_bytes(file.read(layout.length), layout.order)
        if layout.name == 16:
            length -= layout.header
        inside = file.read(16)
        if name == b"ds64":
            long_length = int.from_bytes(inside[8:16], "little")
        if name in SOUND_CHUNKS or (name == b"LIST" and inside.startswith(b"movi")):
            stated = long_length if length == 0xFFFFFFFF and long_length else length
            return _known(stated, total - place - layout.header, long_length or layout.length == 8)
        place += layout.header + -(-max(length, 0) // layout.align) * layout.align
    return None


def wav_seconds(file: Part) -> float | None:
    """Length of a wav of plain samples whose chunks end where the file does; None of any other.

    Such a header can be trusted: nothing is cut off, and no second sound follows.
    """
    chunks = _riff_chunks(file)
    names = [name for name, _, _ in chunks]
    is_one = names.count(b"data") == 1 and b"fmt " in names and b"RIFF" not in names
    if not is_one or not _ends_there(file, chunks):
        return None
    file.seek(chunks[names.index(b"fmt ")][1])
    head = file.read(26)
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", head.ljust(26, b"\0"))
    kind = int.from_bytes(head[24:], "little") if kind == EXTENSIBLE else kind
    if kind not in PLAIN_SAMPLES or not rate or block != channels * bits // 8 or not block:
        return None
    length = chunks[names.index(b"data")][2]
    return length // block / rate if length else None


def is_nms_adpcm(file: Part) -> bool:
    """Whether it is a wav of that codec, whose number some write for another."""
    formats = (begin for name, begin, _ in _riff_chunks(file) if name == b"fmt ")
    file.seek(next(formats, file.size))
    return file.read(2) == NMS_ADPCM


def skips_sound(file: Part) -> bool:
    """Whether a wav has several chunks of sound, of which FFmpeg reads the last one."""
    return sum(name == b"data" for name, _, _ in _riff_chunks(file)) > 1


def is_broken_avi(file: Part) -> bool:
    """Whether chunks of sound and pictures in an avi do not follow one upon the other."""
    file.seek(0)
    head = file.read(2**16)
    begin = head.find(b"movi") if head.startswith(b"RIFF") and head[8:12] == b"AVI " else -1
    if begin < 0:
        return False
    place, length = begin + 4, int.from_bytes(head[begin - 4 : begin], "little")
    end = min(begin + length, file.size)
    while place + 8 <= end:
        file.seek(place)
        name, length = struct.unpack("<4sI", file.read(8))
        if not re.fullmatch(rb"[\w ]{4}", name):
            return True
        place += 12 if name == b"LIST" else 8 + length + length % 2
    return False


def _riff_chunks(file: Part) -> list[tuple[bytes, int, int]]:
    """Name, first byte and length of each chunk of a wav; of all else, none."""
    file.seek(0)
    head = file.read(12)
    if not (head.startswith(b"RIFF") and head.endswith(b"WAVE")):
        return []
    chunks, place = list[tuple[bytes, int, int]](), 12
    while place + 8 <= file.size and len(chunks) < MOST_CHUNKS:
        file.seek(place)
        name, length = struct.unpack("<4sI", file.read(8))
        chunks.append((name, place + 8, length))
        place += 8 + length + length % 2
    return chunks


def _ends_there(file: Part, chunks: list[tuple[bytes, int, int]]) -> bool:
    _, begin, length = chunks[-1]
    return begin + length <= file.size <= begin + length + length % 2


def _known(stated: int, found: int, is_long: int = False) -> tuple[int, int] | None:
    """None where a length only stands in for one that was not known when it was written."""
    if not 0 < stated < (2**62 if is_long else STREAMING_BYTES) or found <= 0:
        return None
    return stated, found


def ends_early(file: Part) -> bool:
    """Whether an Ogg stream lacks its last page, or a box of an mp4 reaches beyond the file."""
    total = file.seek(0, SEEK_END)
    file.seek(0)
    head = file.read(8)
    if head.startswith(b"OggS"):
        return not _last_page_ends_stream(file, total)
    return head[4:] == b"ftyp" and any(end > total for _, _, end in _boxes(file))


def _last_page_ends_stream(file: Part, total: int) -> bool:
    file.seek(max(total - 2**17, 0))
    tail = file.read(2**17)
    page = tail[tail.rfind(b"OggS") :]
    ends = len(page) >= 27 and bool(page[5] & 4)
    return ends and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def is_plain_vorbis(file: Part) -> bool:
    """Whether it is one Ogg stream of Vorbis, whole, and nothing else."""
    if b"\1vorbis" not in file.read(64):
        return False
    flags = []
    file.seek(0)
    while (page := file.read(27)).startswith(b"OggS") and len(page) == 27:
        flags.append(page[5] & 6)
        file.seek(sum(file.read(page[26])), SEEK_CUR)
    whole = not page and file.tell() == file.seek(0, SEEK_END)
    return whole and flags[0] == 2 and flags[-1] == 4 and not any(flags[1:-1])


def _boxes(file: Part) -> Iterator[tuple[int, bytes, int]]:
    """The outermost boxes of an mp4: where each begins, its type, and where it says it ends."""
    place, total = 0, file.seek(0, SEEK_END)
    while place + 8 <= total:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not re.fullmatch(rb"[\w \xa9-]{4}", head[4:8]):
            return  # something else follows, or the last box goes on to the end
        yield place, head[4:8], place + length
        place += length


def flac_frames(file: Part) -> int:
    """Samples a channel that a FLAC file states, 0 where it states none."""
    head = _behind_id3(file, 42)
    return int.from_bytes(head[21:26], "big") & (2**36 - 1) if head.startswith(b"fLaC") else 0


def mp3_frames(file: Part) -> int:
    """Frames that an mp3 states in a Xing, Info or VBRI header, 0 where it states none."""
    head = _behind_id3(file, 4096)
    found = re.search(rb"(Xing|Info)...[\1\3\5\7\x09\x0b\x0d\x0f](.{4})", head, re.DOTALL)
    found = found or re.search(rb"(VBRI).{10}(.{4})", head, re.DOTALL)
    return int.from_bytes(found[2], "big") if found else 0


def _behind_id3(file: Part, count: int) -> bytes:
    """The first `count` bytes behind an ID3 tag."""
    file.seek(0)
    head = file.read(10)
    size = 0
    if head.startswith(b"ID3"):
        lengths = zip(head[6:], (21, 14, 7, 0), strict=False)
        size = 10 + sum(byte << shift for byte, shift in lengths)
    file.seek(size)
    return file.read(count)


def joint(file: Part) -> int | None:
    """Where another file was joined to it, as far as its structure tells; None where none was.

    Of Ogg, where FFmpeg keeps the first one's decoder, of mp4, where it stops, and of Matroska.
    """
    file.seek(0)
    head = file.read(8)
    if head.startswith(b"OggS"):
        return _second_beginning(file)
    if head[4:] == b"ftyp":
        return next((place for place, kind, _ in _boxes(file) if place and kind == b"ftyp"), None)
    return _segment_end(file) if head.startswith(EBML) else None


def _second_beginning(file: Part) -> int | None:
    """The first page of Ogg that begins a stream behind pages of data."""
    place, data_seen = 0, False
    while place < file.size:
        file.seek(place)
        page = file.read(27)
        if not page.startswith(b"OggS") or len(page) < 27:
            file.seek(place + 1)
            found = file.read(LONGEST_PAGE).find(b"OggS")  # behind damage
            place += 1 + found if found >= 0 else LONGEST_PAGE
            continue
        begins_stream = bool(page[5] & 2)
        if begins_stream and data_seen:
            return place
        data_seen |= not begins_stream
        place += 27 + page[26] + sum(file.read(page[26]))
    return None


def _segment_end(file: Part) -> int | None:
    """Where another EBML header follows on the segment of the first."""
    place = 0
    for _ in range(2):  # the header, the segment
        file.seek(place)
        head = file.read(12)
        if len(head) < 12:
            return None
        width = 9 - head[4].bit_length()
        length = int.from_bytes(head[4 : 4 + width], "big") & (1 << 7 * width) - 1
        if not 1 <= width <= 8 or length == (1 << 7 * width) - 1:
            return None  # it goes on to the end
        place += 4 + width + length
    file.seek(place)
    return place if file.read(4) == EBML else None


def next_file(file: Part, end: int) -> int | None:
    """Where another file of its kind begins behind the packets' `end`; None where none does."""
    file.seek(0)
    magic = file.read(4)
    if magic not in FOLLOWERS or not end:
        return None
    file.seek(end)
    rest = b""  # of the piece before, in which it may begin
    for begin in range(end, end + LONGEST_TAIL, PIECE):
        piece = file.read(PIECE)
        if (place := (rest + piece).find(magic)) >= 0:
            return begin - len(rest) + place
        if len(piece) < PIECE:
            return None
        rest = piece[1 - len(magic) :]
    return None
