"""The page of the results, docs/results.md, written from the cards alone."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.tables.cells import SCALES, Scale, all_cells
from benchmarks.tables.curve import draw_trade_off
from benchmarks.tables.figures import table
from benchmarks.tables.sections import (
    Cards,
    bits_table,
    largest_change,
    many_classes_table,
    suite_table,
    table_one,
    table_two,
    trade_off_cells,
    trade_off_table,
)
from benchmarks.tables.verdicts import attack_losses, below_chance, defense_losses, most_robust, strong_verdict
from saat_tf.files import write_whole

PICTURE, CLASSES_PICTURE = "pictures/trade_off.png", "pictures/many_classes.png"
NOT_MADE = "Its cells have not been made."
GOAL_HEADER = ["seed", "goal", "came out", ""]


def write_page(cards: Cards, out: Path) -> Path:
    """Write OUT/results.md and its picture; OUT/results/many_classes.json is shown too where it is.

    Args:
        cards: name of the cell -> its card, of the cells that there are; all of one scale.
        out: the folder.

    Returns:
        The page.

    Raises:
        ValueError: there is no card.
    """
    if not cards:
        raise ValueError("The page needs at least one card. Received none: make a cell first.")
    if any(cell.name in cards for cell in trade_off_cells()):
        draw_trade_off(cards, out / PICTURE)
    file, costs = out / "results.md", out / "results/many_classes.json"
    classes = json.loads(costs.read_text(encoding="utf-8")) if costs.is_file() else None
    write_whole(file, lambda temporary: temporary.write_text(page(cards, classes), encoding="utf-8"))
    return file


def page(cards: Cards, classes: Mapping | None = None) -> str:
    """Return the page's text from the cells' cards and, where there is one, the card of many classes."""
    verdict = strong_verdict(cards)
    blocks = [
        "# Results",
        introduction(cards),
        "## Table I: attacks on the undefended model",
        "Non-targeted attacks lower the MAP, targeted ones raise the t-MAP, which is scored by the target's labels. "
        "The ideal attack is no image: it searches with the code that the mainstay attack aims for.",
        table_one(cards),
        "## Table II: defences",
        "Kept share is (MAP under attack - ideal) / (MAP of the undefended model without an attack - ideal), with the "
        "model's own ideal attack: 0 is a model that falls as far as the attack can wish, whatever chance is.",
        table_two(cards),
        "## The standard suite",
        "Four attacks, the strongest that are here; in the last columns each query counts at its worst over all "
        "non-targeted attacks of this page and over none.",
        suite_table(cards),
        "## Code lengths",
        "The first seed, under the mainstay attack alone.",
        bits_table(cards),
        "## The trade-off between clean and robust MAP",
        *trade_off(cards),
        "## Where SAAT does not win",
        bullets([*attack_losses(cards), *defense_losses(cards), *chance_sentence(cards)]),
        "## How far the strong recipe comes",
        table(GOAL_HEADER, verdict) if verdict else NOT_MADE,
        "## What differs from the paper, and why",
        bullets(differences(cards)),
        *many_classes(classes),
        "## Again, and larger",
        AGAIN,
    ]
    return "\n\n".join(blocks) + "\n"


def introduction(cards: Cards) -> str:
    """Return what the figures are and what they cost."""
    card = next(iter(cards.values()))
    sizes, setting = card["sizes"], card["setting"]
    seconds = sum(sum(each["seconds"].values()) for each in cards.values())
    longest = max(cards.values(), key=lambda each: sum(each["seconds"].values()))
    return (
        f"Corel-5K, {card['backbone']} from ImageNet weights, {setting['image_size']} pixels, {sizes['train']} "
        f"training images, {sizes['database']} in the database, {sizes['queries']} queries; "
        f"{setting['pretrain_epochs']} epochs of plain hashing by {card['config']['hashing_loss'].upper()}, from there "
        f"{setting['epochs']} epochs of each defence. Attacks change a pixel by at most {card['epsilon_255']:g}/255 "
        f"(the most that was seen: {largest_change(cards):g}/255). MAP over the whole database, ties in its order; in "
        f"brackets the 95% bootstrap interval over the queries. Chance is the share of relevant images; a MAP "
        f"below it is worse than guessing.\n\n"
        f"This is a small experiment with wide intervals: it does not tell apart figures that lie in each other's.\n\n"
        f"{len(cards)} of {len(all_cells())} cells have been made; a dash stands for one that has not, and for an "
        f"attack that does not belong to a model. Each is a card in `results/tables/`: {seconds / 60:.0f} minutes of "
        f"training and attacks on {card['machine']['cores']} shared cores, the longest "
        f"{sum(longest['seconds'].values()) / 60:.0f} minutes ({longest['cell']}), at most "
        f"{max(each['peak_rss_mb'] for each in cards.values())} MB of memory. "
        f"What a cell had done before it was cut off and gone on with is not in its minutes."
    )


def trade_off(cards: Cards) -> list[str]:
    """Return picture and table of the trade-off, or that there is none yet."""
    if not any(cell.name in cards for cell in trade_off_cells()):
        return [NOT_MADE]
    return [
        "SAAT with its adversarial images crafted in inference mode and Adam as optimizer, trained with several radii "
        "and weights of the adversarial term, and attacked by one radius of 8/255. Grey bars are the intervals.",
        f"![Clean against robust MAP of SAAT]({PICTURE})",
        trade_off_table(cards),
        most_robust(cards),
    ]


def many_classes(classes: Mapping | None) -> list[str]:
    """Return the section on what many classes cost, or nothing where it has not been measured."""
    if classes is None:
        return []
    return [
        "## Many classes",
        f"What the mainstay codes cost with more classes C and items N: the codes of a batch of "
        f"{classes['batch_size']}, the bookkeeping of an epoch (for each batch an update of the bank and codes), and "
        f"the bank itself, at {classes['code_length']} bits on {classes['machine']['cores']} cores. Labels are those "
        f"of drawn scenes, one to four for an item, all classes alike, so that nearly every item of many classes has a "
        f"label set of its own; sums by subsets of labels keep that out of a batch's cost. "
        f"`python -m benchmarks.many_classes` measures this.",
        f"![Time and memory against the number of items, for several numbers of classes]({CLASSES_PICTURE})",
        many_classes_table(classes["results"]),
    ]


def chance_sentence(cards: Cards) -> list[str]:
    """Return which models an attacker brings below chance."""
    names = list(below_chance(cards))
    if not names:
        return []
    return [f"With each query at its worst, the MAP of these models falls below chance: {', '.join(names)}."]


def differences(cards: Cards) -> list[str]:
    """Return what is not as in the paper."""
    setting = next(iter(cards.values()))["setting"]
    scale = Scale(**{field.name: setting[field.name] for field in dataclasses.fields(Scale)})
    return [
        "Data: Corel-5K, since it fits; the paper has FLICKR-25K, NUS-WIDE and MS-COCO, so its figures stand beside "
        "ours for their order alone.",
        f"Network: EfficientNet-Lite0 at {scale.image_size} pixels, whose weights come with a package; the paper has "
        "AlexNet at 224. The loss is CSQ, which needs few epochs; the paper's tables have DPH.",
        f"Budget: {scale.epochs} epochs for each defence, from one undefended model of the same seed, itself "
        f"of {scale.pretrain_epochs} epochs; the authors give the undefended model 100, SAAT 20 and ATRDH 100. "
        "Each defence has its authors' optimizer, learning rate and weights, SAAT strong those of `--recipe strong`.",
        f"Attacks have {scale.attack_steps} steps as in the paper. Square has {10 * scale.square_steps} queries, where "
        "its authors spend thousands.",
        f"THA fits its network for {scale.fit_epochs} epochs of 300 steps, ProS-GAN its generator for as many "
        "epochs of the training images, not 100.",
        f"{scale.num_queries} queries, spread over the list; the paper attacks all of thousands.",
    ]


def bullets(sentences: list[str]) -> str:
    """Return a list in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


FULL = SCALES["full"]
AGAIN = f"""\
    python -m benchmarks.tables --data-dir ../shared/data/corel5k

makes what has no card yet and writes this page; delete a card to make it again, and its folder in `runs/tables` to
train it again. `--only 'strong-*'` makes some cells. `--scale full --out runs/full` has {FULL.num_train} training
images, {FULL.num_queries} queries, {FULL.image_size} pixels, {FULL.pretrain_epochs} and {FULL.epochs} epochs, and
takes more than a day on 2 cores."""
