"""Labelled texts, and how they are put into words."""
