"""Hyperparameter search with KerasTuner: search space, algorithms, trials, study, report."""
