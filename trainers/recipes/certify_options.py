"""Options of certificates."""

import dataclasses
from pathlib import Path
from typing import Literal

from trainers.recipes.defense_options import DefenseName


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Prove how low MAP of a finished run's models can fall under any attack on the queries, and add it to the card.

    Command: python -m trainers.certify --run-dir R --method smoothing --epsilon-255 1 2 4 8
    Votes and bits are kept in R/certificates, so that a second call resumes where the first one stopped. The database
    is not perturbed. docs/certificates.md says what is proved.
    """

    run_dir: Path
    """Folder of a finished run."""
    method: Literal["smoothing", "ibp", "crown", "margin"] = "smoothing"
    """smoothing: majority bits of noisy copies, of any model; ibp: interval bounds; crown: linear bounds, tighter and
    slower; margin: Lipschitz constant, for --backbone lipschitz_cnn --orthogonal-head."""
    epsilon_255: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Radii of the ball in units of 1/255."""
    defenses: tuple[Literal["none", "comdefend"] | DefenseName, ...] | None = None
    """Which models, by the names in the card. Default: all that the run has."""
    num_queries: int | None = None
    """Certify the first so many queries only."""
    sigma: float | None = None
    """Standard deviation of smoothing's noise, in pixel units of [0, 1]. Default: --noise of the run."""
    draws: int = 10_000
    """Noisy copies of each query that certify."""
    selection_draws: int = 100
    """Noisy copies of each query, of their own, that choose its bits."""
    alpha: float = 1e-3
    """Probability that smoothing's certificate of all queries is wrong, over the draws."""
    seconds: float = 0.1
    """Seconds of processor time for a query with over 20 uncertain bits; then the bound so far, which is sound."""
    attack_steps: int = 20
    """Steps of an attack whose MAP is shown above the certificate; smoothing's models are attacked without their noise.
    0: attack nothing."""
    data_dir: Path | None = None
    """Where the images are now, if not where the run found them."""
    report: bool = True
    """Write report.html, with checks of the models."""
    seed: int = 0
    """Seed of the noise and of the attack."""
