"""Trains, compares, registers and serves a model of late flights."""
