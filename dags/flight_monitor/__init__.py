"""Compare each month's predictions with the outcomes, and request a new model when they are no better than a guess."""
