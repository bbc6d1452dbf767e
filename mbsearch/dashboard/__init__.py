"""Dashboard pages for choosing a network; they need only the study's storage, not torch."""
