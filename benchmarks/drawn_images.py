"""Image files of every kind that PIL and ImageMagick write, drawn at random, and their pixels by docs/images.md."""

import io
import shutil
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps

SIDE = (1, 48)
ORIENTATION = 0x0112
MODES = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
}
# Formats of ImageMagick, and options of which one is drawn each.
MAGICK = {
    "jpg": (
        ("-quality 30", "-quality 95"),
        ("-interlace none", "-interlace plane"),
        ("-sampling-factor 4:2:0", "-sampling-factor 4:4:4", "-sampling-factor 4:1:1"),
        ("", "-colorspace Gray", "-colorspace CMYK"),
    ),
    "png": (("-depth 8", "-depth 16", "-depth 1", "-depth 4"), ("", "-interlace plane"), ("", "-colorspace Gray")),
    "png8": (("", "-interlace plane"), ("-colors 2", "-colors 5", "-colors 200")),
    "png00": (("", "-type Palette", "-type GrayscaleMatte"),),
    "png48": (("",),),
    "png64": (("",),),
    "gif": (("", "-interlace plane"), ("-colors 2", "-colors 30", ""), ("", "-repage 60x60+3+4")),
    "gif87": (("",), ("-colors 16", "")),
    "bmp": (("", "-type Palette", "-monochrome", "-compress RLE -type Palette"),),
    "bmp3": (("", "-type Palette", "-alpha off"),),
    "bmp2": (("", "-alpha off"),),
    "webp": (("-quality 50", "-define webp:lossless=true"),),
}  # fmt: skip


def drawn_files(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Draw image files: most by PIL and, where it is installed, one of four by ImageMagick.

    Yields:
        what was drawn, in words, and the bytes of the file.
    """
    rng = np.random.default_rng(seed)
    convert = shutil.which("convert")
    for _ in range(count):
        draw = _by_magick if convert and rng.integers(4) == 0 else _by_pil
        name, contents = draw(rng)
        yield name, contents


def expected_pixels(contents: bytes) -> np.ndarray:
    """Return the pixels by PIL, upright and on white: uint8 (H, W, 3)."""
    image: Image.Image
    with Image.open(io.BytesIO(contents)) as image:
        if image.format == "GIF":
            return _gif_pixels(image)
        turn = image.getexif().get(ORIENTATION, 1)
        if image.mode.startswith("I"):  # 16 bits of gray, of which the upper 8 are read
            deep = np.asarray(image).astype(np.int64)
            key = image.info.get("transparency")
            levels = (deep >> 8).astype(np.uint8)
            alpha = np.full_like(levels, 255) if key is None else np.where(deep == key, 0, 255).astype(np.uint8)
            image = Image.merge("LA", [Image.fromarray(levels), Image.fromarray(alpha)])
        upright = _turned(_on_white(image), turn)
    return np.asarray(upright)


def _turned(image: Image.Image, value: int) -> Image.Image:
    image.getexif()[ORIENTATION] = value if isinstance(value, int) else 1
    return ImageOps.exif_transpose(image)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    colors = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colors.size, "white"), colors).convert("RGB")


def _gif_pixels(image: Image.Image) -> np.ndarray:
    """Lay the first picture, which PIL fills up with a color of its own, at its place on white."""
    box = getattr(image, "dispose_extent")  # noqa: B009, of GIF alone
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(_on_white(image).crop(box), box[:2])
    return np.asarray(canvas)


def _picture(rng: np.random.Generator, mode: str) -> Image.Image:
    width, height = np.clip((rng.integers(*SIDE), rng.integers(*SIDE)), 3, None)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 2**16, (height, width), np.uint16))
    small = rng.integers(0, 256, (2 + height // 4, 2 + width // 4, 4), np.uint8)
    picture = Image.fromarray(small).resize((width, height))
    if rng.integers(2):
        picture.putalpha(Image.fromarray(rng.choice(np.array([0, 255], np.uint8), (height, width))))
    if mode == "P":
        return picture.convert("RGB").quantize(int(rng.choice([2, 4, 16, 256])))
    return picture.convert(mode)


def _by_pil(rng: np.random.Generator) -> tuple[str, bytes]:
    kind = str(rng.choice(list(MODES)))
    mode = str(rng.choice(MODES[kind]))
    image, told = _picture(rng, mode), []
    options: dict[str, Any] = {}
    if kind in ("JPEG", "PNG", "WEBP") and rng.integers(2):
        exif = Image.Exif()
        exif.endian = str(rng.choice(["<", ">"]))
        exif[ORIENTATION] = int(rng.integers(0, 10))
        exif[0x010F] = "a camera"
        options["exif"] = exif
        told.append(f"orientation {exif[ORIENTATION]}")
    if kind == "JPEG":
        options |= {"quality": int(rng.integers(1, 100)), "progressive": bool(rng.integers(2))}
        if mode != "CMYK":
            options["subsampling"] = int(rng.integers(3))
    if kind == "WEBP":
        options |= {
            "lossless": bool(rng.integers(2)),
            "quality": int(rng.integers(100)),
            "exact": bool(rng.integers(2)),
        }
    if kind in ("PNG", "GIF") and mode == "P" and rng.integers(2):
        options["transparency"] = 1
    if kind == "PNG" and mode in ("L", "RGB") and rng.integers(3) == 0:
        options["transparency"] = image.getpixel((0, 0))
    if kind == "PNG" and mode == "P":
        options["bits"] = int(rng.choice([8, max(1, (len(image.getcolors() or ()) - 1).bit_length())]))
    if kind in ("JPEG", "PNG", "WEBP") and rng.integers(3) == 0:
        options["icc_profile"] = rng.bytes(int(rng.integers(1, 5000)))
    if kind in ("PNG", "JPEG", "GIF", "WEBP") and rng.integers(4) == 0:
        options["comment"] = rng.bytes(200)
    if kind == "GIF":
        options["interlace"] = int(rng.integers(2))
        if rng.integers(3) == 0:
            options |= {"save_all": True, "append_images": [_picture(rng, mode).resize(image.size) for _ in range(2)]}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    contents = buffer.getvalue()
    if kind == "JPEG" and mode == "CMYK" and rng.integers(2):
        place = contents.find(b"Adobe") - 4
        contents = contents[:place] + contents[place + 16 :]
        told.append("without Adobe's marker")
    if kind == "BMP" and mode == "RGB" and rng.integers(3) == 0:
        contents = _top_down(contents)
        told.append("from the top down")
    return " ".join(["PIL", kind, mode, *told, *sorted(options.keys() - {"exif"})]), contents


def _top_down(contents: bytes) -> bytes:
    """Write the rows of a BMP of 24 bits in the other order."""
    offset, width, height = (struct.unpack_from("<i", contents, place)[0] for place in (10, 18, 22))
    stride = (3 * width + 3) // 4 * 4
    rows = [contents[offset + i * stride : offset + (i + 1) * stride] for i in range(height)]
    return contents[:22] + struct.pack("<i", -height) + contents[26:offset] + b"".join(reversed(rows))


def _by_magick(rng: np.random.Generator) -> tuple[str, bytes]:
    kind = str(rng.choice(list(MAGICK)))
    options = " ".join(str(rng.choice(choices)) for choices in MAGICK[kind])
    mode = str(rng.choice(["RGB", "RGBA", "L"]))
    if kind.startswith("png") and rng.integers(2):
        options += f" -orient {rng.choice(['TopRight', 'RightTop', 'LeftBottom'])}"
    buffer = io.BytesIO()
    _picture(rng, mode).save(buffer, "PNG")
    command = ["convert", "png:-", *options.split(), f"{kind}:-"]
    done = subprocess.run(command, input=buffer.getvalue(), capture_output=True, timeout=60, check=True)
    return " ".join(["ImageMagick", kind, mode, options]), done.stdout
