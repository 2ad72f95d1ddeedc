"""Trains, compares, registers and serves a classifier of images."""
