"""Architectures, search spaces, and the layer programs that architectures lower to.

Pure data: nothing in this package imports torch or optuna.
"""
