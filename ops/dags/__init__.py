"""Scaffold DAGs."""
