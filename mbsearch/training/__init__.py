"""Networks, images and training: torch lives here."""
