"""The two parts that SAAT adds to a hashing loss, and one that draws codes of clean and adversarial images together."""

import tensorflow as tf

from saat_tf.codes import sign


def adversarial_loss(adversarial_codes: tf.Tensor, mainstay_codes: tf.Tensor) -> tf.Tensor:
    """Compute -mean_ik h'_ik b_m,ik: how far the codes of adversarial images are from their mainstay codes.

    Args:
        adversarial_codes: h', relaxed, float (B, K) in [-1, 1].
        mainstay_codes: b_m, float (B, K) of -1/+1.

    Returns:
        Scalar in [-1, 1]; -1 where every bit is right and saturated.

    References:
        arXiv 2310.14637, the adversarial term of the training objective.
    """
    return -tf.reduce_mean(adversarial_codes * mainstay_codes)


def quantization_loss(relaxed_codes: tf.Tensor) -> tf.Tensor:
    """Compute mean_ik (h_ik - sign h_ik)^2, with the sign held constant.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].

    Returns:
        Scalar in [0, 1].

    References:
        arXiv 2310.14637, the quantization term of the training objective.
    """
    return tf.reduce_mean(tf.square(relaxed_codes - tf.stop_gradient(sign(relaxed_codes))))


def consistency_loss(relaxed_codes: tf.Tensor, adversarial_codes: tf.Tensor) -> tf.Tensor:
    """Compute mean_ik (h'_ik - h_ik)^2: how far the codes of adversarial images are from those of the images.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        adversarial_codes: h', float (B, K) in [-1, 1].

    Returns:
        Scalar in [0, 4]. Slopes flow into both.

    References:
        Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019 (TRADES), which
        compares class probabilities by their divergence. Codes have none; the square is our choice.
    """
    return tf.reduce_mean(tf.square(adversarial_codes - relaxed_codes))
