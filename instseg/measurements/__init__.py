"""What can be measured of the objects in a label image: size, shape, intensity, and figures of a whole image."""

from instseg.measurements.objects import column_names, measure, measure_strips

__all__ = ["column_names", "measure", "measure_strips"]
