"""Model directories: their format, the models of the package, weights to begin with, and exports."""
