"""Reportlets, report assembly and the group table."""
