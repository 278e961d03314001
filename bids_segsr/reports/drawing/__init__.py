"""Figures of a report: volumes as they are shown, panels of slices, SVG."""
