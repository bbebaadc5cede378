"""LiteRT (TensorFlow Lite): conversion, and what a conversion costs."""
