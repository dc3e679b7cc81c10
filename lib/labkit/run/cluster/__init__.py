"""Clusters of Dask: one of this machine, or one that is there already."""
