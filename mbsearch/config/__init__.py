"""Search specifications: how a space is searched and its networks are trained."""
