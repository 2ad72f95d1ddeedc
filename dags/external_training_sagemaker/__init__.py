"""Trains the model of late flights on Amazon SageMaker."""
