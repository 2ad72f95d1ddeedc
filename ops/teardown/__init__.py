"""Destroy a stack, and prove that nothing of it is left."""
