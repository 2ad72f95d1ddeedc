"""What changes an AWS account: the place of Pulumi's state, deployment, destruction, and access to the cluster."""
