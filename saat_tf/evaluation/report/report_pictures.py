"""Pictures of a report: figures with captions, from scores and codes."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from saat_tf.codes import pack_codes
from saat_tf.data import RetrievalData
from saat_tf.evaluation.evaluate import EncodedData
from saat_tf.evaluation.report.figures import Line, Picture, curves, dots, histograms, matrix, query_pictures
from saat_tf.evaluation.scores import AttackScore, DefenseScores, Score, mainstay_of, series
from saat_tf.hamming import hamming_distances, rank
from saat_tf.metrics import precision_recall_by_rank, relevance

NUM_CUTOFFS = 40
SHOWN_RESULTS = 5
# Distances to mainstay codes are counted for so many queries, spread evenly; their shares settle long before that.
MAINSTAY_QUERIES = 256
# Named in a caption: of so many first images.
FIRST = 100


def attack_names(attacks: Sequence[AttackScore]) -> list[str]:
    """Name attacks as briefly as stays unique: by name, else with radius and steps."""
    names = [attack.attacked.attack for attack in attacks]
    return [
        name if names.count(name) == 1 else f"{name}, {x.attacked.epsilon_255:g}/255, {x.attacked.num_steps} steps"
        for name, x in zip(names, attacks, strict=True)
    ]


def strongest_settings(attacks: Sequence[AttackScore], epsilon_255: float) -> list[AttackScore]:
    """Keep one run of each attack: the largest radius within `epsilon_255` (the smallest where none is), most steps."""

    def rank_of(attack: AttackScore) -> tuple[bool, float, int]:
        radius = attack.attacked.epsilon_255
        within = radius <= epsilon_255
        return within, radius if within else -radius, attack.attacked.num_steps

    chosen: dict[str, AttackScore] = {}
    for attack in attacks:
        name = attack.attacked.attack
        if name not in chosen or rank_of(attack) > rank_of(chosen[name]):
            chosen[name] = attack
    return list(chosen.values())


def map_picture(scores: Mapping[str, DefenseScores], chance: float, metric: str) -> Picture:
    """Show every MAP of every defense with its interval."""
    rows: dict[str, dict[str, Score]] = {"no attack": {title: x.clean for title, x in scores.items()}}
    for title, x in scores.items():
        attacks = strongest_settings(x.non_targeted, x.epsilon_255)
        for name, attack in zip(attack_names(attacks), attacks, strict=True):
            rows.setdefault(name, {})[title] = attack.score
    attacked = {title: x for title, x in scores.items() if x.non_targeted}
    rows["worst case"] = {title: x.worst for title, x in attacked.items()}
    rows["ideal attack"] = {title: x.ideal for title, x in scores.items()}
    groups = []
    for title in scores:
        found = [(i, row[title]) for i, row in enumerate(rows.values()) if title in row]
        low, high = zip(*(score.interval for _, score in found), strict=True)
        groups.append(Line(title, [i for i, _ in found], [score.map for _, score in found], low, high))
    falls = "; ".join(_fall(title, x, chance) for title, x in attacked.items()) or "no model was attacked"
    return Picture(
        "maps",
        dots(list(rows), groups, chance, metric),
        f"The further right a dot, the better the search. From no attack to the worst case: {falls}. A random order "
        f"scores {chance:.2f} (dashed line).",
        f"Dots with 95% intervals: {metric} of each defense (by color and marker) under {', '.join(rows)}.",
    )


def _fall(title: str, scores: DefenseScores, chance: float) -> str:
    low, high = scores.clean.interval
    blind = ", no better than chance even without an attack" if low <= chance <= high else ""
    return f"{title} from {scores.clean.map:.2f} to {scores.worst.map:.2f}{blind}"


def curve_pictures(
    slug: str, title: str, encoded: EncodedData, scores: DefenseScores, data: RetrievalData, chance: float
) -> Iterator[Picture]:
    """Show precision against recall and precision at N, without and under each non-targeted attack."""
    attacks = strongest_settings(scores.non_targeted, scores.epsilon_255)
    if not attacks:
        return
    cutoffs = _cutoffs(len(encoded.database))
    names = ["no attack", *attack_names(attacks)]
    found = [
        precision_recall_by_rank(score.codes, encoded.database, data.test.labels, data.database.labels, cutoffs)
        for score in (scores.clean, *(attack.score for attack in attacks))
    ]
    precisions = [x.precision.mean(axis=0) for x in found]
    recalls = [x.recall.mean(axis=0) for x in found]
    yield Picture(
        f"{slug}-precision-recall",
        curves(
            [Line(*line) for line in zip(names, recalls, precisions, strict=True)],
            chance=chance, xlabel="recall", ylabel="precision", first_is_clean=True,
        ),
        f"{title}: the further a line runs below the black one, the more wrong images that attack mixes in on the way "
        "to finding all right ones.",
        f"Precision against recall of {title}: {', '.join(names)}, and chance at {chance:.2f}.",
    )  # fmt: skip
    first = int(np.searchsorted(cutoffs, min(FIRST, cutoffs[-1])))
    worst = int(np.argmin([p[first] for p in precisions]))
    yield Picture(
        f"{slug}-precision-at-n",
        curves(
            [Line(name, cutoffs, p) for name, p in zip(names, precisions, strict=True)],
            chance=chance, xlabel="N, images looked at", ylabel="precision at N", log=True, first_is_clean=True,
        ),
        f"{title}: of the first {cutoffs[first]} images found, {precisions[0][first]:.0%} are right without an attack "
        f"and {precisions[worst][first]:.0%} under {names[worst]}.",
        f"Precision among the first N of {title}: {', '.join(names)}, and chance at {chance:.2f}.",
    )  # fmt: skip


def targeted_pictures(
    slug: str, title: str, encoded: EncodedData, scores: DefenseScores, data: RetrievalData
) -> Iterator[Picture]:
    """Show precision at N against the targets' labels, before and under each targeted attack."""
    attacks = strongest_settings(scores.targeted, scores.epsilon_255)
    if not attacks:
        return
    cutoffs = _cutoffs(len(encoded.database))

    def precision(score: Score, attack: AttackScore) -> np.ndarray:
        labels = attack.attacked.labels
        found = precision_recall_by_rank(score.codes, encoded.database, labels, data.database.labels, cutoffs)
        return found.precision.mean(axis=0)

    names = attack_names(attacks)
    before = precision(attacks[0].before, attacks[0])
    under = [precision(attack.score, attack) for attack in attacks]
    prior = float(np.mean(relevance(attacks[0].attacked.labels, data.database.labels)))
    first = int(np.searchsorted(cutoffs, min(FIRST, cutoffs[-1])))
    best = int(np.argmax([p[first] for p in under]))
    lines = [Line("no attack", cutoffs, before), *(Line(n, cutoffs, p) for n, p in zip(names, under, strict=True))]
    yield Picture(
        f"{slug}-target-precision-at-n",
        curves(
            lines, chance=prior, xlabel="N, images looked at", ylabel="share that the attacker wants",
            log=True, first_is_clean=True,
        ),
        f"{title}: of the first {cutoffs[first]} images found, {before[first]:.0%} are of the kind that the attacker "
        f"wants without an attack and {under[best][first]:.0%} under {names[best]}.",
        f"Share of the target's images among the first N of {title}: no attack, {', '.join(names)}; chance at "
        f"{prior:.2f}.",
    )  # fmt: skip


def series_pictures(scores: Mapping[str, DefenseScores], chance: float, metric: str) -> Iterator[Picture]:
    """Show robust MAP against the radius and against the steps, for each attack that was run with several."""
    for of, xlabel in (("epsilon", "allowed change of a pixel, in 1/255"), ("steps", "steps of the attack")):
        found = {title: series(x.non_targeted, of) for title, x in scores.items()}
        for i, name in enumerate(dict.fromkeys(name for groups in found.values() for name in groups)):
            lines, ends = [], []
            for title, groups in found.items():
                points = [(place, attack.score) for place, attack in groups.get(name, [])]
                if not points:
                    continue
                if of == "epsilon" and points[0][0] > 0:
                    points.insert(0, (0.0, scores[title].clean))
                low, high = zip(*(score.interval for _, score in points), strict=True)
                values = [score.map for _, score in points]
                lines.append(Line(title, [place for place, _ in points], values, low, high))
                ends.append(f"{title} {values[-1]:.2f}")
            farthest = max(line.x[-1] for line in lines)
            reach = f"{farthest:g}/255" if of == "epsilon" else f"{farthest:g} steps"
            yield Picture(
                f"map-by-{of}-{i + 1}",
                curves(lines, chance=chance, xlabel=xlabel, ylabel=metric),
                f"{name}: each line should only fall, and the higher it stays the better; at {reach} it is "
                f"{', '.join(ends)}, and chance is {chance:.2f}.",
                f"{metric} against {xlabel}, {name}: {', '.join(line.label for line in lines)}, with 95% bands.",
            )


def mainstay_picture(slug: str, title: str, encoded: EncodedData, data: RetrievalData) -> Picture:
    """Show how far database codes lie from the mainstay codes of the queries' labels."""
    chosen = np.unique(np.linspace(0, len(data.test) - 1, MAINSTAY_QUERIES).astype(int))
    labels = data.test.labels[chosen]
    codes = pack_codes(mainstay_of(encoded, data, labels)).numpy()
    counts = np.zeros((2, 8 * encoded.database.shape[1] + 1))
    for code, label in zip(codes, labels, strict=True):
        distances = hamming_distances(code[None], encoded.database)[0]
        related = relevance(label[None], data.database.labels)[0]
        counts += [np.bincount(distances[part], minlength=counts.shape[1]) for part in (related, ~related)]
    near, far = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    places = np.arange(counts.shape[1])
    return Picture(
        f"{slug}-mainstay-distances",
        histograms(near, far),
        f"{title}: the code that stands for a query's labels differs in {near @ places:.1f} bits on average from "
        f"images that share a label and in {far @ places:.1f} from the others; the less both overlap, the better.",
        f"Two histograms of Hamming distances to mainstay codes of {title}, over {len(chosen)} queries.",
    )


def query_picture(
    slug: str, title: str, number: int, adversarial_image: np.ndarray, attack: AttackScore, parts: tuple
) -> Picture:
    """Show one query, its adversarial image, and what is found for each.

    Args:
        slug: of the defense, for the name of the file.
        title: of the defense.
        number: index of the query.
        adversarial_image: float32 (S, S, 3) in [0, 1], of the first restart.
        attack: by which it was made.
        parts: codes and data of the defense, `EncodedData` and `RetrievalData`.
    """
    encoded, data = parts
    attacked = attack.attacked
    labels = data.test.labels[number]
    found = []
    for code in (encoded.test[number], attacked.codes[0, number]):
        nearest = rank(hamming_distances(code[None], encoded.database), SHOWN_RESULTS)[0]
        found.append([(data.database.load(j).numpy(), bool(labels @ data.database.labels[j] > 0)) for j in nearest])
    before, after = found
    gain = max(1, round(127.5 / max(attacked.epsilon_255, 1)))  # the largest change becomes black or white
    image = data.test.load(number).numpy()
    right = [sum(relevant for _, relevant in results) for results in found]
    goal = f", meant to look like {_names(attacked.labels[number], data)}" if attacked.targeted else ""
    counts = f"{right[0]} of the {len(before)} nearest images are right before and {right[1]} after"
    return Picture(
        f"{slug}-query-{number + 1}",
        query_pictures(image, adversarial_image, gain, before, after),
        f"{title}, a query of {_names(labels, data)}{goal}: {counts} an attack ({attacked.attack}) that changes "
        f"no pixel by more than {attacked.epsilon_255:g}/255.",
        f"A query, its adversarial image, their difference times {gain}, and the nearest images of both: {counts}.",
    )


def transfer_picture(values: np.ndarray, surrogates: Sequence[str], victims: Sequence[str], metric: str) -> Picture:
    """Show how attacks made against one model work on another."""
    i, j = divmod(int(np.argmin(values)), values.shape[1])
    return Picture(
        "transfer",
        matrix(values, surrogates, victims),
        f"Each cell is the search quality that is left when images made against the model at the left are "
        f"searched with the model below; the lowest, {values[i, j]:.2f}, is {victims[j]} under images made "
        f"against {surrogates[i]}.",
        f"Matrix of {metric}: {', '.join(surrogates)} as surrogates, {', '.join(victims)} as victims.",
    )


def _names(labels: np.ndarray, data: RetrievalData) -> str:
    return ", ".join(str(data.class_names[c]) for c in np.flatnonzero(labels).tolist()) or "no label"


def _cutoffs(num_items: int) -> np.ndarray:
    return np.union1d(np.round(np.geomspace(1, num_items, NUM_CUTOFFS)).astype(int), min(FIRST, num_items))
