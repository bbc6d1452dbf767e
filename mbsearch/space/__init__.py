"""What can be built: architectures, spaces of them, and the layer programs they lower to.

Pure data. Nothing in this package imports torch or optuna.
"""
