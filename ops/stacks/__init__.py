"""A stack and what its commands need: account, state, cluster and registry."""
