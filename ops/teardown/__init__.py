"""Destroy a stack and prove that nothing is left."""
