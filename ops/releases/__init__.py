"""Releases: what runs in a stack, how it gets from one stack to the next, and back."""
