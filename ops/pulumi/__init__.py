"""Run Pulumi for a stack: its state, its settings, previews and deployments."""
