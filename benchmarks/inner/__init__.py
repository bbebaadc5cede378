"""Seconds to robustness, by how training crafts its adversarial images."""
