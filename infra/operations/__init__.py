"""What changes an account or a cluster, and looks at it: the place of Pulumi's state, deployment, status, DAGs."""
