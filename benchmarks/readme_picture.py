"""Draw searches with photographs, clean and perturbed: `python -m benchmarks.readme_picture --run-dir RUN`.

RUN is a run on photographs. It shows robustness only where the run has some: see the worst case in its card.

    python -m trainers.coco --data-dir DIR --run-dir RUN --backbone efficientnet_lite0 --pretrained --image-size 80 \
        --bits 64 --hashing-loss csq --optimizer adam --pretrain-learning-rate 0.002 --pretrain-epochs 20 --epochs 8 \
        --recipe strong --robust-weights packaged
    python -m benchmarks.readme_picture --run-dir RUN --queries 3 4
"""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.axes import Axes

from benchmarks.timing import ROOT
from export.encoder.source import EncoderSource, Model
from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData, subset
from saat_tf.evaluation import attack_split, encode_data, knowledge
from saat_tf.evaluation.pictures import RELEVANT, UNRELATED
from saat_tf.files import write_whole
from saat_tf.hamming import hamming_distances, rank
from saat_tf.models import HashingModel
from saat_tf.threat_model import from_255
from trainers.run_folder.finished_run import load_run_data, read_card

SHOWN_RESULTS = 4
MODELS: dict[Model, str] = {"hashing": "undefended", "robust": "robust"}
EPSILON_255, NUM_STEPS = 8, 100


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """Draw what two queries find, clean and perturbed, by the undefended and by the robust encoder of a run.

    Args:
        run_dir: folder of a finished run.
        out: the picture to write.
        queries: places of the queries in the run's test list.
    """

    run_dir: Path
    out: Path = ROOT / "docs/pictures/photographs.jpg"
    queries: tuple[int, ...] = (0, 1)


def main(options: PictureOptions) -> None:
    """Attack the queries on each encoder and draw what they find."""
    card = read_card(options.run_dir)
    data = load_run_data(options.run_dir, card)
    data = dataclasses.replace(data, test=subset(data.test, np.array(options.queries)))
    searches = {
        title: _searches(EncoderSource(run_dir=options.run_dir, model=name).load()[0], data)
        for name, title in MODELS.items()
    }
    _draw(data, searches, options.out)


def _searches(encoder: HashingModel, data: RetrievalData) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return of each query the adversarial image and the nearest database items, before and after the attack."""
    encoded = encode_data(encoder, data)
    attack = mainstay_attack(from_255(EPSILON_255), knowledge(encoded, data).train, num_steps=NUM_STEPS)
    attacked = attack_split(encoder, data.test, attack, data.test.labels, keep_images=len(data.test))
    nearest = (
        rank(hamming_distances(codes, encoded.database), SHOWN_RESULTS) for codes in (encoded.test, attacked.codes)
    )
    return list(zip(attacked.images, *nearest, strict=True))


def _draw(data: RetrievalData, searches: dict[str, list], path: Path) -> None:
    rows, gap = len(data.test) * len(searches), 0.15
    half = [1, gap, *[1] * SHOWN_RESULTS]
    widths = [0.35, *half, 2 * gap, *half]
    second = 2 + len(half)
    figure, grid = plt.subplots(
        rows, len(widths), figsize=(11, 1.05 * rows + 0.35), layout="constrained",
        gridspec_kw={"width_ratios": widths},
    )  # fmt: skip
    for axes in grid.flat:
        axes.axis("off")
    for i in range(len(data.test)):
        image, labels = data.test.load(i).numpy(), data.test.labels[i]
        for row, (title, found) in zip(grid[i * len(searches) :], searches.items(), strict=False):
            adversarial, before, after = found[i]
            row[0].text(0.9, 0.5, title, rotation=90, ha="right", va="center", fontsize=9)
            for start, query, results in ((1, image, before), (second, adversarial, after)):
                row[start].imshow(query)
                for axes, j in zip(row[start + 2 :], results, strict=False):
                    _show_framed(axes, data.database.load(j).numpy(), bool(labels @ data.database.labels[j] > 0))
    headers = ("query", "nearest images", "perturbed query", "nearest images")
    for column, header in zip((1, 3, second, second + 2), headers, strict=True):
        grid[0, column].set_title(header, fontsize=9, loc="left" if "nearest" in header else "center")
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=90, format="jpeg"))
    plt.close(figure)


def _show_framed(axes: Axes, image: np.ndarray, relevant: bool) -> None:
    axes.imshow(image)
    axes.axis("on")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=RELEVANT if relevant else UNRELATED, linewidth=3)


if __name__ == "__main__":
    main(tyro.cli(PictureOptions))
