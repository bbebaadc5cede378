"""Metrics: pure functions on packed codes, labels and images, with one value a query or an image."""

from saat_tf.hamming import paired_distances
from saat_tf.metrics.bit_flips import flip_distribution
from saat_tf.metrics.bootstrap import bootstrap_interval
from saat_tf.metrics.perceptibility import Perceptibility, perceptibility
from saat_tf.metrics.precision_recall import PrecisionRecall, precision_recall_by_radius, precision_recall_by_rank
from saat_tf.metrics.retrieval import (
    DENOMINATORS,
    TIE_RULE,
    average_precisions,
    chance_map,
    mean_average_precision,
    relevance,
)
from saat_tf.metrics.ties import TIE_RULES

__all__ = [
    "DENOMINATORS",
    "TIE_RULE",
    "TIE_RULES",
    "Perceptibility",
    "PrecisionRecall",
    "average_precisions",
    "bootstrap_interval",
    "chance_map",
    "flip_distribution",
    "mean_average_precision",
    "paired_distances",
    "perceptibility",
    "precision_recall_by_radius",
    "precision_recall_by_rank",
    "relevance",
]
