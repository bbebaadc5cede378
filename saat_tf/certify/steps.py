"""A network as a chain of steps with rules: affine maps, and monotone functions between them.

    affine     y = W x + b, with |W| known; float32 adds a rounding error of at most gamma_n (|W| |x| + |b|)
    monotone   y = f(x), which never falls where x rises: ReLU, ReLU6, max pooling, tanh, sorting

gamma_n = n u / (1 - n u), u = 2^-24, bounds the rounding of n products and sums in any order (Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, section 3.1). Each step has some more operations than it adds terms, so that
it covers batch norm folded or not.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

UNIT_ROUNDOFF = 2.0**-24
TINY = 2.0**-126  # float32 may flush smaller numbers to zero
# Operations beside the products of an affine map: bias, scale and shift of a folded batch norm.
MORE_OPERATIONS = 8


@dataclasses.dataclass(frozen=True)
class Affine:
    """y = W x + b.

    Args:
        name: of the layer.
        apply: (x, absolute) -> W x, or |W| x, in the type of x.
        bias: type -> b, and what |b| its computation in float32 depends on; broadcast against y.
        terms: products in one entry of y.
        norm: () -> an upper bound of |W|_2.
        is_exact: whether it only moves entries, which rounds nothing.
    """

    name: str
    apply: Callable[[tf.Tensor, bool], tf.Tensor]
    bias: Callable[[tf.DType], tuple[tf.Tensor | float, tf.Tensor | float]]
    terms: int
    norm: Callable[[], float]
    is_exact: bool = False

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Return W x + b."""
        return self.apply(x, False) + self.bias(x.dtype)[0]

    def rounding(self, magnitude: tf.Tensor) -> tf.Tensor:
        """Bound the rounding error of float32 in each entry of y, for |x| <= `magnitude` (B, ...)."""
        if self.is_exact:
            return tf.zeros_like(self.apply(magnitude, True))
        operations = self.terms + MORE_OPERATIONS
        gamma = operations * UNIT_ROUNDOFF / (1 - operations * UNIT_ROUNDOFF)
        return gamma * (self.apply(magnitude, True) + self.bias(magnitude.dtype)[1]) + operations * TINY

    def transposed(self, y: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """Return W^T y for x of a `shape` without the batch: (B, ...) -> (B, *shape)."""
        x = tf.zeros([tf.shape(y)[0], *shape], y.dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            product = self.apply(x, False)
        return tape.gradient(product, x, output_gradients=y)


@dataclasses.dataclass(frozen=True)
class Monotone:
    """y = f(x), each entry of which never falls where an entry of x rises, nor moves further than the entries of x.

    Args:
        name: of the layer.
        apply: f.
        norm: Lipschitz constant in L2.
        error: bound of the error of float32 in f itself; 0 where f only chooses among values.
        is_relu: whether f is max(x, 0).
    """

    name: str
    apply: Callable[[tf.Tensor], tf.Tensor]
    norm: float = 1.0
    error: float = 0.0
    is_relu: bool = False

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Return f(x)."""
        return self.apply(x)


Step = Affine | Monotone
