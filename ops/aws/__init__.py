"""A stack's AWS account."""
