"""The supernet: weights that the networks of a space share."""
