"""Scenes: a multi-label data set that the code draws itself, so that everything runs without a download.

A picture shows one to four objects of ten shapes. A shape is the only thing that a label tells: color, texture, size,
rotation and place vary, objects overlap, and the background has a gradient, clutter and noise. With more than ten
classes, an object of the others is one shape with a smaller one painted on it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from saat_tf.data.pipeline import RetrievalData, array_split

SUPERSAMPLING = 2
OBJECTS_PER_SCENE = ((1, 0.35), (2, 0.40), (3, 0.18), (4, 0.07))


def _polar(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.hypot(u, v), np.arctan2(v, u)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (v > -0.6) & (v < 1.0 - 1.75 * np.abs(u))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius, angle = _polar(u, v)
    return radius < 0.62 + 0.42 * np.cos(5 * angle)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ((np.abs(u) < 0.26) | (np.abs(v) < 0.26)) & (np.abs(u) < 0.95) & (np.abs(v) < 0.95)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius, _ = _polar(u, v)
    return (radius < 0.95) & (radius > 0.55)


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.hypot(u, v) < 0.95) & (np.hypot(u - 0.5, v) > 0.75)


def _bars(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(u) < 0.9) & (np.abs(v) < 0.9) & (np.abs(np.mod(u + 0.9, 0.72) - 0.18) < 0.19)


def _dumbbell(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    ends = np.hypot(np.abs(u) - 0.62, v) < 0.38
    return ends | ((np.abs(v) < 0.13) & (np.abs(u) < 0.62))


# In units of the object's radius: which points (u, v) belong to it.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda u, v: np.hypot(u, v) < 0.85,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.75,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "bars": _bars,
    "dumbbell": _dumbbell,
    "stick": lambda u, v: (np.abs(u) < 1.0) & (np.abs(v) < 0.2),
}
CLASS_NAMES = tuple(SHAPES)
MIN_CLASSES, MAX_CLASSES = OBJECTS_PER_SCENE[-1][0], len(SHAPES) ** 2
MARK_SIZE = 0.5


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Pictures and labels of one split.

    Args:
        images: float32 (N, S, S, 3) in [0, 1].
        labels: float32 (N, C) of 0/1, columns in the order of `scene_class_names`; one to four per row.
    """

    images: np.ndarray
    labels: np.ndarray


def scene_class_names(num_classes: int = len(SHAPES)) -> tuple[str, ...]:
    """Return what the labels of scenes mean: the ten shapes, then shapes with another one on them.

    Args:
        num_classes: C, 4 to 100.

    Raises:
        ValueError: another number.

    Example:
        >>> scene_class_names(12)[-2:]
        ('disc with square', 'square with triangle')
    """
    if not MIN_CLASSES <= num_classes <= MAX_CLASSES:
        raise ValueError(
            f"Scenes have {MIN_CLASSES} to {MAX_CLASSES} classes. Received: num_classes={num_classes}. For more, "
            "`draw_scene_labels` draws labels alone."
        )
    parts = [_shape_and_mark(c) for c in range(num_classes)]
    return tuple(CLASS_NAMES[shape] + (f" with {CLASS_NAMES[mark]}" if mark != shape else "") for shape, mark in parts)


def _shape_and_mark(class_index: int) -> tuple[int, int]:
    """Return which shape a class has, and which one on it; the same for the first ten, which have none."""
    number, shape = divmod(class_index, len(SHAPES))
    return shape, (shape + number) % len(SHAPES)


def draw_scenes(num_images: int, *, image_size: int = 32, seed: int = 0, num_classes: int = len(SHAPES)) -> Scenes:
    """Draw seeded multi-label pictures.

    Picture i depends on `seed`, `image_size`, `num_classes` and i alone: a longer set begins with a shorter one.

    Args:
        num_images: how many, at least 1.
        image_size: side in pixels, at least 16; marks need 48 or more to be told apart.
        seed: any non-negative integer; different seeds give different pictures.
        num_classes: C, 4 to 100; `scene_class_names` names them.

    Returns:
        `Scenes` with `num_images` pictures.

    Raises:
        ValueError: `num_images` or `image_size` is too small, or there are no so many classes.

    Example:
        >>> scenes = draw_scenes(4, image_size=32, seed=1)
        >>> scenes.images.shape, scenes.labels.shape
        ((4, 32, 32, 3), (4, 10))
    """
    if num_images < 1 or image_size < 16:
        raise ValueError(
            f"Scenes need at least 1 picture of at least 16 pixels. Received: num_images={num_images}, "
            f"image_size={image_size}."
        )
    scene_class_names(num_classes)
    images = np.empty((num_images, image_size, image_size, 3), np.float32)
    labels = np.zeros((num_images, num_classes), np.float32)
    for i in range(num_images):
        rng = np.random.default_rng((seed, i))
        classes = _draw_classes(rng, num_classes)
        labels[i, classes] = 1
        images[i] = _draw(rng, classes, image_size)
    return Scenes(images, labels)


def scenes_data(
    num_train: int, num_queries: int, *, image_size: int = 32, seed: int = 0, limit_train: int | None = None
) -> RetrievalData:
    """Draw a whole data set, the database from seed 2 `seed` and the queries from the next one.

    Args:
        num_train: pictures of the database, which is the training set too.
        num_queries: pictures to search with.
        image_size: side in pixels.
        seed: any non-negative integer.
        limit_train: train on the first so many pictures only.

    Example:
        >>> data = scenes_data(6, 2, limit_train=4)
        >>> len(data.train), len(data.database), len(data.test)
        (4, 6, 2)
    """
    database = draw_scenes(num_train, image_size=image_size, seed=2 * seed)
    queries = draw_scenes(num_queries, image_size=image_size, seed=2 * seed + 1)
    train = slice(limit_train)
    return RetrievalData(
        "scenes",
        CLASS_NAMES,
        array_split(database.images[train], database.labels[train]),
        array_split(database.images, database.labels),
        array_split(queries.images, queries.labels),
    )


def draw_scene_labels(num_images: int, *, seed: int = 0, num_classes: int = len(SHAPES)) -> np.ndarray:
    """Draw the labels of `draw_scenes` without the pictures, and so of any number of classes from 4 on.

    Args:
        num_images: N, how many rows.
        seed: that of the scenes.
        num_classes: C.

    Returns:
        uint8 (N, C) of 0/1.

    Example:
        >>> bool((draw_scene_labels(3, seed=1) == draw_scenes(3, seed=1).labels).all())
        True
    """
    labels = np.zeros((num_images, num_classes), np.uint8)
    for i in range(num_images):
        labels[i, _draw_classes(np.random.default_rng((seed, i)), num_classes)] = 1
    return labels


def _draw_classes(rng: np.random.Generator, num_classes: int) -> np.ndarray:
    counts, shares = zip(*OBJECTS_PER_SCENE, strict=True)
    return rng.choice(num_classes, rng.choice(counts, p=shares), replace=False)


def _draw(rng: np.random.Generator, classes: np.ndarray, image_size: int) -> np.ndarray:
    side = image_size * SUPERSAMPLING
    grid = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(grid, grid)
    background = rng.uniform(0.25, 0.75, 3)
    canvas = _gradient(rng, x, y, background)
    for _ in range(rng.integers(2, 6)):
        _add_clutter(rng, canvas, x, y, background)
    centers = _spread_centers(rng, len(classes))
    shapes = list(SHAPES.values())
    for kind, (center_x, center_y) in zip(classes, centers, strict=True):
        radius = rng.uniform(0.17, 0.27) if len(classes) > 1 else rng.uniform(0.2, 0.38)
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = (x - center_x) / radius, (y - center_y) / radius
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        shape, mark = _shape_and_mark(kind)
        color = _contrasting_color(rng, background)
        mask = shapes[shape](u, v)
        canvas[mask] = _textured(rng, u, v, color)[mask]
        if mark != shape:
            canvas[shapes[mark](u / MARK_SIZE, v / MARK_SIZE)] = _contrasting_color(rng, color)
    image = canvas.reshape(image_size, SUPERSAMPLING, image_size, SUPERSAMPLING, 3).mean((1, 3))
    image += rng.normal(0, rng.uniform(0.005, 0.03), image.shape)
    return np.clip(image, 0, 1).astype(np.float32)


def _gradient(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, color: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))[..., None]
    return np.broadcast_to(color, (*x.shape, 3)) + slope * rng.uniform(-0.2, 0.2, 3)


def _add_clutter(
    rng: np.random.Generator, canvas: np.ndarray, x: np.ndarray, y: np.ndarray, background: np.ndarray
) -> None:
    """Add a faint line or blot: structure without a label."""
    center_x, center_y, angle = *rng.uniform(0, 1, 2), rng.uniform(0, np.pi)
    along = np.cos(angle) * (x - center_x) + np.sin(angle) * (y - center_y)
    across = np.cos(angle) * (y - center_y) - np.sin(angle) * (x - center_x)
    length, width = (0.6, 0.015) if rng.random() < 0.5 else rng.uniform(0.04, 0.09, 2)
    mask = (along / length) ** 2 + (across / width) ** 2 < 1
    canvas[mask] = np.clip(background + rng.uniform(-0.2, 0.2, 3), 0, 1)


def _spread_centers(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw places that may overlap but seldom hide each other: the best spread of a few draws."""
    draws = rng.uniform(0.22, 0.78, (6, count, 2))
    if count == 1:
        return draws[0]
    gaps = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=-1) + np.eye(count) * 9
    return draws[gaps.min((1, 2)).argmax()]


def _contrasting_color(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """Draw a color that stands off from the background by at least 0.45 in one channel."""
    colors = rng.uniform(0, 1, (20, 3))
    distance = np.abs(colors - background).max(axis=1)
    return colors[np.argmax(distance > 0.45)] if (distance > 0.45).any() else 1.0 - np.round(background)


def _textured(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Fill with the color: plain, shaded, or faintly striped."""
    kind = rng.integers(3)
    if kind == 0:
        shade = np.zeros_like(u)
    elif kind == 1:
        shade = 0.12 * u
    else:
        shade = 0.10 * np.sign(np.sin(rng.uniform(4, 9) * v))
    return np.clip(color + shade[..., None], 0, 1)
