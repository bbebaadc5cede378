"""Export, serving and search: encoders in production."""

from saat_tf.environment import set_switches

set_switches()
