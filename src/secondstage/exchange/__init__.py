"""Training lists in the formats of other toolkits, written and read."""
