"""The command line: one command for each target of the Makefile that works on this machine or on a stack."""
