"""LiteRT (TensorFlow Lite): conversion and its cost."""
