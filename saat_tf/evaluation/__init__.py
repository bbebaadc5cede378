"""Evaluation: scores, result cards and pictures."""

from saat_tf.evaluation.card import machine, peak_rss_mb, result_value, results, versions
from saat_tf.evaluation.evaluate import (
    EncodedData,
    RetrievalReport,
    attack_split,
    encode_data,
    encode_split,
    evaluate,
    filled_bank,
    knowledge,
)
from saat_tf.evaluation.pictures import attacked_queries, plot_maps, plot_queries

__all__ = [
    "EncodedData",
    "RetrievalReport",
    "attack_split",
    "attacked_queries",
    "encode_data",
    "encode_split",
    "evaluate",
    "filled_bank",
    "knowledge",
    "machine",
    "peak_rss_mb",
    "plot_maps",
    "plot_queries",
    "result_value",
    "results",
    "versions",
]
