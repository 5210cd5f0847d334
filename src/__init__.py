"""Enginery."""
