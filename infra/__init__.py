"""The Pulumi program of a stack."""
