"""The platform in an AWS account: network, EKS cluster, nodes, buckets, database, identities and image registry."""
