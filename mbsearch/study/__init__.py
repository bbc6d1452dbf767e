"""What is known of a study, and how it is kept on disk."""
