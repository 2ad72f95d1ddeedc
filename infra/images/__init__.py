"""The container images built from `images/`: their names, their content-based tags, and the ones a stack runs."""
