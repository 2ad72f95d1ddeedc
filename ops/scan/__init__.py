"""Scan what a stack creates with checkov, and compare with the findings that were accepted."""
