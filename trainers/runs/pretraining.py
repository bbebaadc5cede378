"""The run of a pre-training: adversarial classification, and a backbone with a card in the end."""

from saat_tf.data import DataError, spread_indices
from saat_tf.files import write_json, write_text
from saat_tf.models import AdversarialClassifier, Classifier
from saat_tf.threat_model import ThreatModel
from saat_tf.training.workers import Workers
from trainers.callbacks.accuracy_probe import AccuracyProbe
from trainers.callbacks.catastrophic_overfitting import ACCURACY
from trainers.console.output import say
from trainers.recipes.class_data import ClassData
from trainers.recipes.identity import options
from trainers.recipes.inner_options import build_inner, passes_over_data, replays_of
from trainers.recipes.pretrain_recipe import PretrainRecipe
from trainers.run_folder.state import RunFolder
from trainers.runs.backbone_export import export_backbone
from trainers.runs.fitting import Phase, fit, load_initial_weights
from trainers.runs.optimizers import build_optimizer, steps_of
from trainers.runs.run import Program

CLASSIFICATION = Phase("classification", "Adversarial training", "adversarial", ACCURACY)
# Where sgd cuts the learning rate to a tenth.
CUTS = (1 / 2, 3 / 4)


def build(recipe: PretrainRecipe, data: ClassData) -> Classifier:
    """Build the classifier, its backbone with the weights that the recipe asks for.

    Raises:
        ValueError: the weights are not to be had, or a checkpoint is to be exported and there is none.
    """
    if recipe.export_only and not (
        recipe.resume and recipe.run_dir and any((recipe.run_dir / "checkpoints").glob("[0-9]*"))
    ):
        raise ValueError(
            f"--export-only exports a checkpoint of the run that --resume --run-dir names. Received: {recipe.run_dir}, "
            "which has none."
        )
    classifier = Classifier(recipe.backbone, len(data.class_names), recipe.image_size, precision=recipe.precision)
    load_initial_weights(recipe, classifier)
    return classifier


def train(recipe: PretrainRecipe, data: ClassData, classifier: Classifier, run_folder: RunFolder | None) -> None:
    """Train the classifier from where the run folder says on."""
    replays, passes = replays_of(recipe), passes_over_data(recipe)
    with classifier.distribute_strategy.scope():
        training = AdversarialClassifier(
            classifier,
            inner=build_inner(recipe, num_items=len(data.train)),
            epsilon=ThreatModel.from_255(recipe.epsilon_255).epsilon,
            inner_training=recipe.inner_training,
            ramp_steps=round(recipe.ramp_epochs * steps_of(recipe, data.train, 1)),
            seed=recipe.seed,
        )
        optimizer = build_optimizer(
            recipe, data.train, recipe.learning_rate, passes * replays, name=recipe.optimizer, cuts=CUTS,
            weight_decay=recipe.weight_decay, momentum=recipe.momentum, ema=recipe.ema_momentum,
        )  # fmt: skip
    probe = None
    if recipe.probe_images and run_folder is not None:
        chosen = spread_indices(len(data.held_out), recipe.probe_images)
        probe = AccuracyProbe(data.held_out, chosen, ThreatModel.from_255(recipe.epsilon_255), seed=recipe.seed)
    epochs = 0 if recipe.export_only else passes
    fit(recipe, data.train, training, optimizer, epochs, run_folder, CLASSIFICATION, probe=probe, replays=replays)


def run(recipe: PretrainRecipe, data: ClassData, classifier: Classifier, run_folder: RunFolder) -> None:
    """Train, then write backbone, card and predictions into the run's export/."""
    run_dir = run_folder.run_dir
    write_json(run_dir / "config.json", options(recipe))
    run_folder.checkpoints.mkdir(exist_ok=True)
    if data.skipped:
        text = "".join(f"{fault}\n" for fault in data.skipped)
        write_text(run_dir / "skipped.txt", text)
        say(f"{len(data.skipped)} images were left out, since they cannot be read: {run_dir / 'skipped.txt'}")
    say(
        f"{data.name}: {len(data.train)} training images, {len(data.held_out)} held out, {len(data.class_names)} "
        f"classes. Run folder: {run_dir}"
    )
    run_folder.announce()
    position = run_folder.position
    if recipe.export_only and position is None:
        raise DataError(f"{run_folder.checkpoints}: --export-only needs a whole checkpoint, and there is none.")
    steps = position.steps if recipe.export_only and position else None
    train(recipe, data, classifier, run_folder)
    card = export_backbone(recipe, data, classifier, run_folder, steps=steps)
    if not recipe.export_only:
        write_json(run_dir / "card.json", card)  # last: it tells that the run is finished
    Workers(classifier.distribute_strategy).part()


def run_worker(recipe: PretrainRecipe, data: ClassData, classifier: Classifier) -> None:
    """Train with the chief, which alone evaluates and writes."""
    train(recipe, data, classifier, None)
    Workers(classifier.distribute_strategy).part()


PRETRAINING = Program(build, lambda data: data.identity(), lambda recipe: (CLASSIFICATION.name,), run, run_worker)
