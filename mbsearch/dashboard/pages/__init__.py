"""The pages: each has a `layout` from a snapshot and a view, and callbacks that stay thin."""
