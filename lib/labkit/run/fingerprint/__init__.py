"""Fingerprints of stages: what their code means, and the files, variables and packages that they depend on."""
