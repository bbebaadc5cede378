"""Evaluation of a run's models: clean queries, and queries under the mainstay attack."""

from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData
from saat_tf.evaluation import RetrievalReport, evaluate
from saat_tf.models import HashingModel
from saat_tf.threat_model import from_255
from trainers.console.output import track
from trainers.recipes.recipe import Recipe
from trainers.runs.fitting import EVALUATION_BATCH

ATTACK = "mainstay"


def evaluate_model(
    recipe: Recipe, encoder: HashingModel, data: RetrievalData, *, keep_images: int = 0, jit_compile: bool = False
) -> RetrievalReport:
    """Evaluate an encoder by the attack of the recipe: its radius, steps, seed and k.

    Args:
        recipe: options of the run.
        encoder: the model.
        data: its data.
        keep_images: how many adversarial images the report has.
        jit_compile: whether XLA compiles the attack.
    """
    return evaluate(
        encoder,
        data,
        lambda known: mainstay_attack(from_255(recipe.epsilon_255), known.train, num_steps=recipe.attack_steps),
        top_k=recipe.top_k,
        batch_size=EVALUATION_BATCH,
        seed=recipe.seed,
        keep_images=keep_images,
        jit_compile=jit_compile,
        track=track,
    )
