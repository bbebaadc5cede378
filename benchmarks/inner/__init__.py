"""Seconds to robustness, by the inner attack of training."""
