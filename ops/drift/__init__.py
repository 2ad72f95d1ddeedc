"""Compare what is deployed with Pulumi's state."""
