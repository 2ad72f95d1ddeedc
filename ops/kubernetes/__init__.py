"""A stack's cluster: its objects, the problems of its pods, Jobs, port-forwards and the kubeconfig file."""
