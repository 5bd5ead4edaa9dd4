"""Queries made from documents, for collections with few or none."""
