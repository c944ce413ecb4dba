"""Records and batches, and what happens to them: pure functions, and thin Beam transforms."""
