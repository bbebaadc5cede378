"""Evaluation: scores, result cards and pictures."""

from saat_tf.evaluation.card import machine, peak_rss_mb, result_value, results, versions
from saat_tf.evaluation.evaluate import RetrievalReport, attack_split, encode_split, evaluate, query_mainstay_codes
from saat_tf.evaluation.pictures import attacked_queries, plot_maps, plot_queries

__all__ = [
    "RetrievalReport",
    "attack_split",
    "attacked_queries",
    "encode_split",
    "evaluate",
    "machine",
    "peak_rss_mb",
    "plot_maps",
    "plot_queries",
    "query_mainstay_codes",
    "result_value",
    "results",
    "versions",
]
