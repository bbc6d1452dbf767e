"""Networks with trained weights that candidates start from."""
