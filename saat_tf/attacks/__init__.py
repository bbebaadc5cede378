"""Attacks: one gradient loop, and the named attacks as compositions of it."""

from saat_tf.attacks.attack import Attack, GradientAttack, code_goal
from saat_tf.attacks.diverse_input import DiverseInput
from saat_tf.attacks.early_stop import EarlyStop, can_stop_early
from saat_tf.attacks.hag import hag_attack
from saat_tf.attacks.halving import HalvingStep
from saat_tf.attacks.mainstay import (
    anchor_attack,
    auto_attack,
    center_attack,
    code_attack,
    mainstay_attack,
    prototype_attack,
)
from saat_tf.attacks.named import ATTACKS, SUITES, Knowledge, attack_names, build_attack, published_steps, suite
from saat_tf.attacks.objectives import adaptive_alignment, alignment
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.pros_gan import ProSGAN
from saat_tf.attacks.prototype_net import PrototypeNet, fit_prototype_net
from saat_tf.attacks.pta import pta_attack
from saat_tf.attacks.rules import AdamStep, GradientStep, MomentumStep, SignStep, StepRule
from saat_tf.attacks.sdha import sdha_attack
from saat_tf.attacks.semantic_prototype_net import SemanticPrototypeNet, fit_semantic_prototype_net
from saat_tf.attacks.square import SquareAttack, square_attack
from saat_tf.attacks.targets import check_target_labels, draw_target_labels

__all__ = [
    "ATTACKS",
    "PGD",
    "SUITES",
    "AdamStep",
    "Attack",
    "DiverseInput",
    "EarlyStop",
    "GradientAttack",
    "GradientStep",
    "HalvingStep",
    "Knowledge",
    "MomentumStep",
    "ProSGAN",
    "PrototypeNet",
    "SemanticPrototypeNet",
    "SignStep",
    "SquareAttack",
    "StepRule",
    "adaptive_alignment",
    "alignment",
    "anchor_attack",
    "attack_names",
    "auto_attack",
    "build_attack",
    "can_stop_early",
    "center_attack",
    "check_target_labels",
    "code_attack",
    "code_goal",
    "draw_target_labels",
    "fit_prototype_net",
    "fit_semantic_prototype_net",
    "hag_attack",
    "mainstay_attack",
    "prototype_attack",
    "pta_attack",
    "published_steps",
    "sdha_attack",
    "square_attack",
    "suite",
]
