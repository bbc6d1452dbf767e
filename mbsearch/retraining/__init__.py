"""Long trainings with fresh seeds, evaluated on the test split."""
