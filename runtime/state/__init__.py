"""Snapshots of whole machines."""
