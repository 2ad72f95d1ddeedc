"""`make doctor`: check before a deployment everything that would stop it later."""
