"""TensorFlow Serving: the folder that a server reads, warm-up requests, and the client's protocols."""
