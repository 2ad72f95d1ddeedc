"""Sees that tasks run and reach what they depend on."""
