"""Measurements; each command ends in one JSON line."""
