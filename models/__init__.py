"""SavedModels: what they promise, loading and running them, the networks, and the shipped zoo."""
