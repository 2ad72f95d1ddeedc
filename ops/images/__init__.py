"""Build the container images, push them to registries or load them onto nodes, and sign them."""
