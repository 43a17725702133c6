"""What one generation costs: the modes of `profile_inference.py`, their tables and their records."""
