"""What image values the network sees: which channels (`channels`), and mapped to about 0..1 (`normalisation`).

The package takes and returns arrays. It reads no files, and training and prediction use the same functions.
"""
