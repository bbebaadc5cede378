"""The run of a worker that is not the chief."""

from saat_tf.data import RetrievalData
from saat_tf.models import HashingModel
from saat_tf.training.workers import Workers
from trainers.callbacks.model_selection import hold_out
from trainers.console.output import say
from trainers.recipes.recipe import Recipe
from trainers.runs.training import build_hashing_loss, phases


def run_worker(recipe: Recipe, data: RetrievalData, encoder: HashingModel) -> None:
    """Train with the chief and wait where it evaluates and writes: all that `run` does and that takes all workers."""
    workers = Workers(encoder.distribute_strategy)
    say(f"One of {workers.count} workers: the chief alone evaluates, and writes the run.")
    with encoder.distribute_strategy.scope():
        hashing_loss = build_hashing_loss(recipe, data.train.labels.shape[1])
    data, held_out = hold_out(data, recipe.held_out_queries)
    for *_, train, _ in phases(recipe, held_out):
        (is_over,) = workers.any(False)
        if not is_over:
            train(recipe, data, encoder, hashing_loss, None)
        workers.wait()
    workers.part()
