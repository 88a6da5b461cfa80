"""Files to arrays and back: each format is known in one module only, and none knows what the arrays are used for.

The package owns the formats of image files (`formats`), images and label images in memory (`images`, `label_images`),
images of which parts are read (`source`, `tiff`, `omezarr` with `ngff`, `zarr_metadata` and `zarr_chunks`), volumes and
their labels (`volumes`, `label_volumes`, `volume_tiff`), maps on the disc (`scratch`), labels as
OME-Zarr (`zarr_labels`), the size of their pixels (`pixel_size`), embeddings (`npz`), tables and outlines of instances
(`tables`, `outlines`), folders of data (`folders`), and how files are
replaced (`atomic`). Its functions take paths of any kind, and its errors name the file.
"""
