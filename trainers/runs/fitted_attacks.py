"""Attacks that are trained before they attack: THA's prototype network and ProS-GAN, kept in the run folder."""

import dataclasses
from pathlib import Path
from typing import Any

import keras

from saat_tf.attacks import Knowledge
from saat_tf.attacks.pros_gan import ProSGAN
from saat_tf.attacks.prototype_net import PrototypeNet, fit_prototype_net
from saat_tf.codes import unpack_codes
from saat_tf.data import RetrievalData, training_batches
from saat_tf.files import write_whole
from trainers.console.output import FitProgress, track
from trainers.run_folder.models import load_model_file
from trainers.runs.models import Evaluated

STEPS_PER_EPOCH = 300
GAN_BATCH = 24
GAN_LEARNING_RATE, GAN_BETA = 1e-4, 0.5


def with_prototypes(model: Evaluated, data: RetrievalData, folder: Path, *, epochs: int, seed: int) -> Evaluated:
    """Give the model's attacker a prototype network, fitted to its training codes or read from `folder`."""
    net = _prototype_net(model, data, folder, epochs=epochs, seed=seed)
    return _knowing(model, prototype_codes=net.prototype_codes)


def with_gan(
    model: Evaluated, data: RetrievalData, folder: Path, *, epsilon_255: float, epochs: int, seed: int
) -> Evaluated:
    """Give the model's attacker a ProS-GAN for one radius, trained on the training images or read from `folder`."""
    file = folder / f"pros-gan-eps{epsilon_255:g}-epochs{epochs}-seed{seed}.keras"
    if file.is_file():
        return _knowing(model, pros_gan=load_model_file(file, ProSGAN))
    net = _prototype_net(model, data, folder, epochs=epochs, seed=seed)
    gan = ProSGAN.from_labels(model.encoder, net, data.train.labels, epsilon=epsilon_255 / 255, seed=seed)
    gan.compile(optimizer=keras.optimizers.Adam(GAN_LEARNING_RATE, beta_1=GAN_BETA))
    batches = training_batches(data.train, GAN_BATCH, seed=seed)
    with FitProgress("Training ProS-GAN", int(batches.cardinality()) * epochs) as progress:
        gan.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[progress])
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, gan.save)
    return _knowing(model, pros_gan=gan)


def _prototype_net(model: Evaluated, data: RetrievalData, folder: Path, *, epochs: int, seed: int) -> PrototypeNet:
    file = folder / f"prototype-net-epochs{epochs}-seed{seed}.keras"
    if file.is_file():
        return load_model_file(file, PrototypeNet)
    codes = unpack_codes(model.encoded.train).numpy()
    net = fit_prototype_net(
        codes, data.train.labels, epochs=epochs, steps_per_epoch=STEPS_PER_EPOCH, seed=seed, track=track
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, net.save)
    return net


def _knowing(model: Evaluated, **more: Any) -> Evaluated:
    known: Knowledge = dataclasses.replace(model.known, **more)
    return dataclasses.replace(model, known=known)
