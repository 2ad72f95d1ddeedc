"""The platform on an existing Kubernetes cluster, with the database, object store and Git server in the cluster."""
