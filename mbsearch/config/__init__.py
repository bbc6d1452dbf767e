"""How a space is searched and its networks are trained."""
