"""Warm kernels: forks of a process that has imported the heavy packages."""
