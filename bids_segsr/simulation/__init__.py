"""Scans that never were: label maps to images, their contrast and acquisition."""
