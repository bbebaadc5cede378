"""Recipes: `python -m trainers.scenes`, `trainers.corel5k`, `trainers.coco`."""

from saat_tf.environment import set_switches

set_switches()
