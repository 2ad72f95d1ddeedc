"""The container images of the folders in `images/`: names, tags by content, and which of them a stack runs."""
