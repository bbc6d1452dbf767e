"""The supernet: one set of weights shared by all networks of a space."""
