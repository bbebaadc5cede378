"""Refinements of adversarial training beyond the published step."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refinements:
    """Refinements of a step of adversarial training; each is off at 0, its default, as in the papers.

    Args:
        adversarial_hashing_weight: weight of the hashing loss on the codes of adversarial images, at least 0.
        consistency_weight: weight of mean_ik (h'_ik - h_ik)^2, which draws the codes of an image and of its adversarial
            image together, at least 0. TRADES does the same with class probabilities.
        weight_perturbation: gamma of adversarial weight perturbation, in [0, 1). The loss is computed at
            w + gamma |w| g / |g| instead of w, for each kernel w and the gradient g of its adversarial loss; 0.005
            in the authors' code of AWP.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> Refinements(consistency_weight=2.0).weights()
        {'consistency_loss': 2.0}

    References:
        Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019 (TRADES).
        Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020 (AWP).
    """

    adversarial_hashing_weight: float = 0.0
    consistency_weight: float = 0.0
    weight_perturbation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("adversarial_hashing_weight", "consistency_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be at least 0 and finite. Received: {getattr(self, name)}.")
        if not 0 <= self.weight_perturbation < 1:
            raise ValueError(
                f"`weight_perturbation` must be in [0, 1). Received: {self.weight_perturbation}. Usual is 0.005."
            )

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss that is on, by the loss's name."""
        weights = {
            "adversarial_hashing_loss": self.adversarial_hashing_weight,
            "consistency_loss": self.consistency_weight,
        }
        return {name: weight for name, weight in weights.items() if weight}
