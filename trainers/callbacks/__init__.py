"""Callbacks of a training: checkpointing, TensorBoard, robustness probe, catastrophic overfitting, model selection."""
