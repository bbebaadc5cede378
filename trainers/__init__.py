"""Recipes: `python -m trainers.scenes`, `trainers.corel5k`, `trainers.coco`."""

import os

# These are programs, so they may choose for TensorFlow what it chooses when it is imported: its fast CPU kernels, which
# it leaves off on CPUs without AVX-512, and quiet logs. The library sets neither. What the user has set stays.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
