"""Choose a small image network by evidence."""
