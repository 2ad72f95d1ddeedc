"""Trains the model of late flights on systems outside the stack; each DAG `external_training_*` uses one of them."""
