"""What can be said of label images alone, with NumPy and SciPy: no file, no image and no model is needed.

The package owns connected components and numbering (`regions`), which true and predicted instances share pixels and
which of them belong together (`matching`), and outlines as polygons (`polygons`).
"""
