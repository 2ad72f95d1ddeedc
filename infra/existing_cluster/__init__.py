"""The platform on a Kubernetes cluster that is there already: database, object store and Git server within it."""
