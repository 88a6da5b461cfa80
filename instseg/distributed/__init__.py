"""The same files to files by the workers of a Dask cluster, on one machine or on many."""
