"""Inner attacks: adversarial images of a training step."""

from saat_tf.models.inner.base import InnerAttack, InnerStep
from saat_tf.models.inner.fgsm_prior import FGSMPrior
from saat_tf.models.inner.free import Free
from saat_tf.models.inner.n_fgsm import NFGSM
from saat_tf.models.inner.steps import Steps, half_radius, stronger
from saat_tf.models.inner.yopo import YOPO

__all__ = ["NFGSM", "YOPO", "FGSMPrior", "Free", "InnerAttack", "InnerStep", "Steps", "half_radius", "stronger"]
