"""Run Pulumi for a stack: state, settings, previews and deployments."""
