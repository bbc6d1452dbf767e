"""Kernels of a training on a CPU, compiled on first use and then kept."""
