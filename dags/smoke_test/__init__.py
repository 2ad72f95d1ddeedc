"""Check that tasks run and reach the services they depend on."""
