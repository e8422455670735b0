"""Faster ways to compute what the core computes: caches, kernels, losses; each optional."""
