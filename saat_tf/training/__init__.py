"""Training beyond `keras.Model.fit`: exact resume, and retrieval scores after an epoch."""

from saat_tf.training.checkpointing import NotFiniteError
from saat_tf.training.fit import fit
from saat_tf.training.retrieval_map import RetrievalMAP

__all__ = ["NotFiniteError", "RetrievalMAP", "fit"]
