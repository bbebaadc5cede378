"""What the header of an image file says, read in Python without a decoder: which files are refused, and in which words.

An exported graph refuses the same files by `tolerant_decode`; it cannot say why, which is what this module is for.
docs/images.md states the rules.
"""

import dataclasses
import struct

# An image that decodes to more than this (600 MB as float32) is refused by its header.
MAX_PIXELS = 50_000_000
# Resizing the shorter side stretches the longer one with it; a strip a pixel wide would fill the memory.
MAX_ASPECT = 20
# Each scan of a JPEG costs a pass over the whole image and as little as ten bytes of the file.
MAX_SCANS = 500
# Each compressed text of a PNG costs a decoder up to 8 MB and as little as 8 kB of the file.
MAX_PACKED_TEXTS = 32
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP")

JPEG, PNG, GIF, BMP, RIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF"
PACKED_TEXTS = (b"zTXt", b"iTXt", b"iCCP")
# The start of a scan of n components has 6 + 2 n bytes, which tells it from the same two bytes among others.
SCAN_STARTS = tuple(bytes([0xFF, 0xDA, 0, 6 + 2 * n, n]) for n in range(1, 5))
BMP_HEADER, BMP_BITS = 40, 24
WEBP_ANIMATION = 0x02

_NOT_READ = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_HIERARCHICAL = (0xC5, 0xC6, 0xCD, 0xCE)
_COMPRESSIONS = {1: "RLE-8", 2: "RLE-4", 3: "bit fields", 4: "JPEG", 5: "PNG", 6: "bit fields"}


@dataclasses.dataclass(frozen=True)
class Header:
    """What a header says.

    Args:
        width: in pixels; None where the header is cut short or damaged.
        height: in pixels; None likewise.
        refusal: why a file of this kind is not read, if it is one that is not.
    """

    width: int | None = None
    height: int | None = None
    refusal: str | None = None


def refusal(contents: bytes) -> str | None:
    """Say why a file is refused by its header alone; None where its pixels may be decoded.

    Example:
        >>> refusal(b"II*" + bytes(9))
        'it is a TIFF file, none of JPEG, PNG, WebP, GIF, BMP'
    """
    if not contents:
        return "it is empty"
    header = _header(contents)
    if header.refusal or header.width is None or header.height is None:
        return header.refusal
    shorter, longer = sorted((header.width, header.height))
    size = f"{header.width} x {header.height} pixels"
    if shorter * longer > MAX_PIXELS or shorter < 1:
        return f"its header declares {size}, at most {MAX_PIXELS:,} are read"
    if longer > MAX_ASPECT * shorter:
        return f"it has {size}, sides of at most {MAX_ASPECT} : 1 are read"
    return None


def fault_of(contents: bytes) -> str:
    """Say why a file was not decoded.

    Args:
        contents: the bytes of a file that a decoder has refused.
    """
    unknown = "its pixels cannot be decoded"
    if contents and _header(contents).width is None:
        unknown = "its header is cut short or damaged"
    return refusal(contents) or unknown


def _header(contents: bytes) -> Header:
    readers = {JPEG: _jpeg, PNG: _png, GIF: _gif, BMP: _bmp, RIFF: _webp}
    for magic, reader in readers.items():
        if contents.startswith(magic):
            try:
                return reader(contents)
            except (struct.error, IndexError):
                return Header()
    formats = ", ".join(FORMATS)
    for magic, name in _NOT_READ.items():
        if contents.startswith(magic):
            return Header(refusal=f"it is a {name} file, none of {formats}")
    if contents[4:8] == b"ftyp":
        return Header(refusal=f"it is a HEIC, AVIF or video file, none of {formats}")
    return Header(refusal=f"it is none of {formats}")


def _jpeg(contents: bytes) -> Header:
    scans = sum(map(contents.count, SCAN_STARTS))
    kind, precision, height, width, components = _jpeg_frame(contents)
    fault = None
    if kind in _LOSSLESS:
        fault = "it is a lossless JPEG, which is not read; convert it to PNG"
    elif kind in _HIERARCHICAL:
        fault = "it is a hierarchical JPEG, which is not read; convert it to PNG"
    elif precision != 8:
        fault = f"it is a JPEG of {precision} bits, 8 are read; convert it to PNG"
    elif components not in (1, 3, 4):
        fault = f"it is a JPEG of {components} components; 1, 3 or 4 are read"
    elif scans > MAX_SCANS:
        fault = f"it has {scans:,} scans, at most {MAX_SCANS} are read"
    return Header(width, height, fault)


def _jpeg_frame(contents: bytes) -> tuple[int, int, int, int, int]:
    """Return marker, bits, height, width and components of the frame."""
    place = 2
    while True:
        place = contents.find(b"\xff", place)
        marker = contents[place + 1] if place >= 0 else contents[len(contents)]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker, *struct.unpack_from(">BHHB", contents, place + 4)
        if marker in (0xD9, 0xDA):
            raise IndexError
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            place += 1 if marker == 0xFF else 2
        else:
            place += 2 + struct.unpack_from(">H", contents, place + 2)[0]


def _png(contents: bytes) -> Header:
    width, height = struct.unpack_from(">II", contents, 16)
    texts = sum(map(contents.count, PACKED_TEXTS))
    if texts > MAX_PACKED_TEXTS:
        return Header(
            width, height, f"it has {texts:,} compressed texts and profiles, at most {MAX_PACKED_TEXTS} are read"
        )
    return Header(width, height)


def _gif(contents: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", contents, 6)
    place = 13 + _color_bytes(flags)
    while contents[place] == 0x21:
        place += 2
        while contents[place]:
            place += 1 + contents[place]
        place += 1
    left, top, picture_width, picture_height = struct.unpack_from("<4H", contents, place + 1)
    fault = None
    if left + picture_width > width or top + picture_height > height or not picture_width * picture_height:
        fault = (
            f"its first picture, {picture_width} x {picture_height} pixels at {left}, {top}, does not lie within its "
            f"{width} x {height} pixels"
        )
    elif not (flags | contents[place + 9]) & 0x80:
        fault = "its first picture has no colors"
    return Header(width, height, fault)


def _color_bytes(flags: int) -> int:
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def _bmp(contents: bytes) -> Header:
    (header_bytes,) = struct.unpack_from("<I", contents, 14)
    remedy = f"of BMP, {BMP_BITS} bits without compression are read; convert it to PNG"
    if header_bytes < BMP_HEADER:
        return Header(refusal=f"it is a BMP of OS/2 with a header of {header_bytes} bytes; {remedy}")
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", contents, 18)
    fault = None
    if compression:
        fault = f"it is a BMP with {_COMPRESSIONS.get(compression, f'compression {compression}')}; {remedy}"
    elif bits != BMP_BITS:
        fault = f"it is a BMP of {bits} bits{' with a palette' if bits <= 8 else ''}; {remedy}"
    return Header(width, abs(height), fault)


def _webp(contents: bytes) -> Header:
    kind = contents[12:16]
    if kind == b"VP8X":
        fault = "it is an animated WebP, still ones are read" if contents[20] & WEBP_ANIMATION else None
        size = struct.unpack_from("<HBHB", contents, 24)
        return Header(1 + size[0] + 65536 * size[1], 1 + size[2] + 65536 * size[3], fault)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", contents, 26)
        return Header(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", contents, 21)
        return Header(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    return Header(refusal=f"it is none of {', '.join(FORMATS)}")
