"""Programs that measure what README and docs state."""

from saat_tf.environment import set_switches

set_switches()
