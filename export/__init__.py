"""Encoders on their way to production."""

import os

# As in the trainers: a program may choose TensorFlow's fast CPU kernels and quiet logs; what the user has set stays.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
