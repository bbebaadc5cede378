"""Evaluation: scores, checks, result cards, pictures and the report."""

from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.card import DEFENSES, defenses_of, machine, peak_rss_mb, result_value, results, versions
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
from saat_tf.evaluation.report.report_input import DefenseResult, Examples, ReportInput, Transfer
from saat_tf.evaluation.report.write import write_report
from saat_tf.evaluation.robustness import RobustnessReport, evaluate_robustness
from saat_tf.evaluation.sanity_checks.checks import Finding
from saat_tf.evaluation.sanity_checks.model_checks import check_scores, run_model_checks
from saat_tf.evaluation.scores import AttackScore, DefenseScores, Score, score_defense

__all__ = [
    "DEFENSES",
    "AttackScore",
    "AttackedQueries",
    "DefenseResult",
    "DefenseScores",
    "EncodedData",
    "Examples",
    "Finding",
    "ReportInput",
    "RetrievalReport",
    "RobustnessReport",
    "Score",
    "Transfer",
    "attack_split",
    "attacked_queries",
    "check_scores",
    "defenses_of",
    "encode_data",
    "encode_split",
    "evaluate",
    "evaluate_robustness",
    "filled_bank",
    "knowledge",
    "machine",
    "peak_rss_mb",
    "plot_maps",
    "plot_queries",
    "result_value",
    "results",
    "run_model_checks",
    "score_defense",
    "versions",
    "write_report",
]
