"""The paper's data sets as builders of TensorFlow Datasets."""
