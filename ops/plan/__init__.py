"""Compute a stack's resources, monthly cost and permissions offline, from the Pulumi program."""
