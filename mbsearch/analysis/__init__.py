"""What follows from the records of a study."""
