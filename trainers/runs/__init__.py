"""One run from recipe to card: training, evaluation, the run folder, and resuming it."""
