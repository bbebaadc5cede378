"""Inner attacks: how adversarial training crafts the images that it learns from."""

from saat_tf.models.inner.base import Crafting, InnerAttack
from saat_tf.models.inner.n_fgsm import NFGSM
from saat_tf.models.inner.steps import Steps, half_radius, stronger

__all__ = ["NFGSM", "Crafting", "InnerAttack", "Steps", "half_radius", "stronger"]
