"""Encoders on their way to production."""

from saat_tf.environment import set_switches

set_switches()
