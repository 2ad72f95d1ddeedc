"""The container images of the folders in `images/`: what is in them, how they are built, and where they are brought."""
