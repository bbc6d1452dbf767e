"""Retraining: long trainings with fresh seeds, evaluated on test images."""
