"""Architectures, search spaces, and the layer programs that architectures are lowered to.

Nothing in this package imports torch or optuna.
"""
