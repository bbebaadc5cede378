"""Compare the pixels of drawn image files with PIL's: `python -m benchmarks.image_kinds --count 10000`.

Each file is decoded as an exported encoder does, or refused; the refused ones must be those that the header's words
name. Fails where a pixel differs by more than a level, or a file of a kind that docs/images.md promises is refused.
`--damaged` draws whole and damaged files and counts which are read by both, by one and by none: decoders differ in what
they make of damage, so it fails only where both read a file that is not a JPEG and see other pixels.
"""

import collections
import dataclasses
import struct
import sys

import numpy as np
import tensorflow as tf
import tyro
from PIL import Image

from benchmarks.drawn_images import drawn_files, expected_pixels
from benchmarks.mutated_images import mutated_images
from saat_tf.data.decoding.header import fault_of, refusal
from saat_tf.data.decoding.pixels import decode_pixels
from saat_tf.data.decoding.tolerant_decode import checked

# Where alpha is blended, PIL and this project round to whole levels in their own ways.
MOST_LEVELS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw."""

    count: int = 10_000
    """Files."""
    seed: int = 0
    """Decides which."""
    damaged: bool = False
    """Draw damaged files too."""


def difference(contents: bytes, decoded: np.ndarray | None) -> str | None:
    """Say how a result differs from what is right; None where it does not."""
    fault = refusal(contents)
    if decoded is None or fault:
        return None if decoded is None and fault else f"read: {decoded is not None}, but {fault or fault_of(contents)}"
    return pixel_difference(decoded, expected_pixels(contents))


def pixel_difference(decoded: np.ndarray, expected: np.ndarray) -> str | None:
    """Say how pixels differ; None where they do not."""
    if decoded.shape != expected.shape:
        return f"its size is {decoded.shape} in place of {expected.shape}"
    levels = np.abs(decoded.astype(int) - expected).max()
    return f"pixels differ by {levels} levels" if levels > MOST_LEVELS else None


def damaged_difference(contents: bytes, decoded: np.ndarray | None) -> tuple[str, str | None]:
    """Say who reads a file that may be damaged, and how the pixels differ where both do."""
    try:
        expected = expected_pixels(contents)
    except (OSError, ValueError, SyntaxError, struct.error, IndexError, Image.DecompressionBombError):  # by damage
        return ("neither" if decoded is None else "this project alone"), None
    if decoded is None:
        return "PIL alone", None
    found = pixel_difference(decoded, expected)
    return ("both" if found is None else "both, with other pixels"), found


def main(options: Options) -> int:
    """Print what was read, refused and wrong; return 1 where something was wrong."""
    decode = tf.function(
        lambda contents: decode_pixels(checked(contents)), [tf.TensorSpec((), tf.string)], autograph=False
    )
    counts: collections.Counter[str] = collections.Counter()
    wrong = []
    draw = mutated_images if options.damaged else drawn_files
    for name, contents in draw(options.count, options.seed):
        try:
            decoded = decode(tf.constant(contents)).numpy()
        except tf.errors.OpError:
            decoded = None
        if options.damaged:
            kind, found = damaged_difference(contents, decoded)
            if contents.startswith(b"\xff\xd8"):
                found = None
        else:
            found = difference(contents, decoded)
            kind = f"{' '.join(name.split()[:2])}: {'read' if decoded is not None else refusal(contents)}"
        if found:
            wrong.append(f"{name}: {found}")
        counts[kind] += 1
    for kind, count in sorted(counts.items()):
        print(f"{count:6} {kind}")
    print(f"{options.count} files, {len(wrong)} differ", *wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
