"""What a pre-training leaves: the backbone's weights, the classifier, its predictions, and a card."""

import hashlib
from typing import Any

from saat_tf.attacks import PGD, HalvingStep, SignStep, alignment
from saat_tf.backbones import load_weights_file, save_weights_file
from saat_tf.data import spread_indices, subset
from saat_tf.evaluation import machine, peak_rss_mb, versions
from saat_tf.evaluation.classification import attacked_predictions
from saat_tf.files import write_json, write_whole
from saat_tf.models import Classifier
from saat_tf.threat_model import ThreatModel
from trainers.callbacks.robustness_probe import STEP_SHARE
from trainers.console.output import say, track
from trainers.recipes.class_data import ClassData
from trainers.recipes.identity import options
from trainers.recipes.inner_options import passes_over_data, replays_of
from trainers.recipes.pretrain_recipe import PretrainRecipe
from trainers.run_folder.state import RunFolder
from trainers.runs.fitting import EVALUATION_BATCH, steps_of

FOLDER = "export"
WEIGHTS_FILE, CLASSIFIER_FILE, PREDICTIONS_FILE = "backbone.safetensors", "classifier.keras", "predictions.npz"


def export_backbone(
    recipe: PretrainRecipe, data: ClassData, classifier: Classifier, run_folder: RunFolder, *, steps: int | None
) -> dict:
    """Write the run's export/, and return its card, whose figures are those of the weights in the file.

    Args:
        recipe: of the run.
        data: held-out images, for the accuracies.
        classifier: the trained model; its backbone ends with the weights as the file has them.
        run_folder: of the run.
        steps: training steps done; None for all.
    """
    folder = run_folder.run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    weights = folder / WEIGHTS_FILE
    save_weights_file(classifier.backbone, recipe.backbone, weights, dtype=recipe.export_precision)
    load_weights_file(classifier.backbone, recipe.backbone, weights)
    write_whole(folder / CLASSIFIER_FILE, classifier.save)
    held_out = data.held_out
    if recipe.test_images is not None and recipe.test_images < len(held_out):
        held_out = subset(held_out, spread_indices(len(held_out), recipe.test_images))
    with run_folder.timed("evaluate"):
        predictions = attacked_predictions(
            classifier,
            held_out,
            evaluation_attack(recipe),
            restarts=recipe.restarts,
            batch_size=EVALUATION_BATCH,
            seed=recipe.seed,
            jit_compile=recipe.jit,
            track=track,
        )
    predictions.save(folder / PREDICTIONS_FILE)
    epoch_steps = steps_of(recipe, data.train, replays_of(recipe))
    card: dict[str, Any] = {
        "dataset": data.name,
        "backbone": recipe.backbone,
        "image_size": recipe.image_size,
        "weights": {"dtype": recipe.export_precision, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()},
        "classes": len(data.class_names),
        "training_images": len(data.train),
        "passes_over_data": passes_over_data(recipe) if steps is None else round(steps / epoch_steps, 3),
        "epsilon_255": recipe.epsilon_255,
        "held_out": {
            "images": len(predictions.classes),
            **predictions.accuracies(),
            "chance": 1 / len(data.class_names),
            "attack": recipe.attack,
            "num_steps": recipe.attack_steps,
            "restarts": recipe.restarts,
        },
        "config": options(recipe),
        "versions": versions(),
        "machine": machine(),
        "seconds": {phase: round(spent, 1) for phase, spent in run_folder.seconds.items()},
        "peak_rss_mb": round(peak_rss_mb()),
    }
    write_json(folder / "card.json", card)
    held = card["held_out"]
    say(
        f"Accuracy on {held['images']} held-out images: {held['clean']['value']:.3f} clean, "
        f"{held['robust']['value']:.3f} under {recipe.attack} of {recipe.epsilon_255:g}/255, chance "
        f"{held['chance']:.3f}. Backbone and card: {folder}"
    )
    return card


def evaluation_attack(recipe: PretrainRecipe) -> PGD:
    """Return the attack by which a backbone is judged, up the cross-entropy."""
    ball = ThreatModel.from_255(recipe.epsilon_255)
    rule = HalvingStep() if recipe.attack == "auto" else SignStep(max(STEP_SHARE * ball.epsilon, 1e-6))
    return PGD(threat_model=ball, objective=alignment, rule=rule, num_steps=recipe.attack_steps)
