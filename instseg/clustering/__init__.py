"""Embeddings to labels, and measurements of the instances. NumPy and SciPy only: nothing here imports TensorFlow."""
