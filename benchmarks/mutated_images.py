"""Image files as a server may be sent them: of every kind, whole and damaged in every way."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

WHOLE, ANIMATED_WEBP = "untouched", "animated WebP"
HEADERS = {  # where a format says how large it is: offset, struct format
    b"\x89PNG": (16, ">II"),
    b"GIF8": (6, "<HH"),
    b"BM": (18, "<ii"),
}
MAGICS = (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\xff\xff\xff\x7fWEBPVP8X", b"RIFF", b"")


def whole_files(seed: int = 0) -> dict[str, bytes]:
    """Return image files of every kind, by name; the encoder reads all but `ANIMATED_WEBP`."""
    rng = np.random.default_rng(seed)

    def picture(width: int = 47, height: int = 36, mode: str = "RGB") -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)

    def written(image: Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    frames = {"save_all": True, "append_images": [picture(), picture()]}
    deep = Image.fromarray(rng.integers(0, 2**16, (36, 47), np.uint16))
    return {
        "JPEG": written(picture(), "JPEG"),
        "progressive JPEG": written(picture(), "JPEG", progressive=True),
        "gray JPEG": written(picture(mode="L"), "JPEG"),
        "CMYK JPEG": written(picture(mode="CMYK"), "JPEG"),
        "PNG": written(picture(), "PNG"),
        "16-bit PNG": written(deep, "PNG"),
        "1-bit PNG": written(picture(mode="1"), "PNG"),
        "palette PNG": written(picture(mode="P"), "PNG"),
        "PNG with alpha": written(picture(mode="RGBA"), "PNG"),
        "1x1 PNG": written(picture(1, 1), "PNG"),
        "1x1 JPEG": written(picture(1, 1), "JPEG"),
        "1x1 GIF": written(picture(1, 1), "GIF"),
        "GIF": written(picture(), "GIF"),
        "animated GIF": written(picture(), "GIF", **frames),
        "BMP": written(picture(), "BMP"),
        "WebP": written(picture(), "WEBP"),
        "lossless WebP": written(picture(), "WEBP", lossless=True),
        "WebP with alpha": written(picture(mode="RGBA"), "WEBP"),
        ANIMATED_WEBP: written(picture(), "WEBP", **frames),
    }


def mutated_images(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Draw image files: a kind at random, changed in a way at random. The same seed gives the same files.

    Yields:
        how the file was changed, and its bytes.
    """
    files = whole_files(seed)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        name = str(rng.choice(list(MUTATIONS)))
        kinds = [kind for kind in files if name != WHOLE or kind != ANIMATED_WEBP]
        yield name, MUTATIONS[name](files[rng.choice(kinds)], rng)


def bomb(side: int = 8000) -> bytes:
    """Return a whole PNG of black, side x side pixels of one bit: some kilobytes that decode to 3 side^2 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + -(-side // 8)) * side), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _truncated(file: bytes, rng: np.random.Generator) -> bytes:
    return file[: rng.integers(len(file))]


def _wrong_magic(file: bytes, rng: np.random.Generator) -> bytes:
    magic = MAGICS[rng.integers(len(MAGICS))]
    return magic + file[len(magic) or 4 :]


def _huge(file: bytes, rng: np.random.Generator) -> bytes:
    """Declare a size of up to what the format can say; for JPEG in its frame header."""
    changed = bytearray(file)
    for magic, (place, kind) in HEADERS.items():
        if file.startswith(magic):
            most = 2 ** (8 * struct.calcsize(kind) // 2 - kind.count("i") // 2)
            struct.pack_into(kind, changed, place, *(int(most ** rng.uniform(0.5, 1)) - 1 for _ in range(2)))
    frame = max(file.find(b"\xff\xc0\x00"), file.find(b"\xff\xc2\x00"))
    if file.startswith(b"\xff\xd8") and frame > 0:
        struct.pack_into(">HH", changed, frame + 5, *(int(rng.integers(10_000, 2**16)) for _ in range(2)))
    if file.startswith(b"RIFF"):
        changed[24:30] = rng.bytes(6)
    if file.startswith(b"\x89PNG"):  # else the checksum alone would tell
        struct.pack_into(">I", changed, 29, zlib.crc32(changed[12:29]))
    return bytes(changed)


def _flipped(file: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(file)
    for place in rng.integers(len(file), size=rng.integers(1, 20)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _header_noise(file: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(file)
    for place in rng.integers(min(len(file), 64), size=rng.integers(1, 8)):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def _with_hole(file: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(file), size=2))
    return file[:start] + file[stop:]


def _doubled(file: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(file), size=2))
    return file[:stop] + file[start:]


MUTATIONS = {
    WHOLE: lambda file, rng: file,
    "truncated": _truncated,
    "wrong magic": _wrong_magic,
    "huge size": _huge,
    "flipped bits": _flipped,
    "noise in the header": _header_noise,
    "a part missing": _with_hole,
    "a part twice": _doubled,
    "nothing": lambda file, rng: b"",
    "noise": lambda file, rng: rng.bytes(rng.integers(1, 3000)),
}
