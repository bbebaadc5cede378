"""Attacks: one gradient loop, and the named attacks as compositions of it."""

from saat_tf.attacks.mainstay import mainstay_attack
from saat_tf.attacks.objectives import adaptive_alignment, alignment
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.targets import draw_target_labels

__all__ = ["PGD", "adaptive_alignment", "alignment", "draw_target_labels", "mainstay_attack"]
