"""What follows from records: statistics without torch."""
