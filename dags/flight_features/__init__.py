"""Turn a year of flights into features, day by day."""
