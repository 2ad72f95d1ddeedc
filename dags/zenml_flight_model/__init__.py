"""Trains a model of late flights as a ZenML pipeline."""
