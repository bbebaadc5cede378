"""Metrics: pure functions on codes and labels."""

from saat_tf.metrics.retrieval import TIE_RULE, average_precisions, chance_map, mean_average_precision, relevance

__all__ = ["TIE_RULE", "average_precisions", "chance_map", "mean_average_precision", "relevance"]
