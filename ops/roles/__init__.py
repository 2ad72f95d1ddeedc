"""The IAM roles of the GitHub workflows, with the permissions that the workflows need."""
