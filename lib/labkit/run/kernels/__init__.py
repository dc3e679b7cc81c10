"""Warm kernels: forks of a process that has already imported the large packages."""
