"""Stands for what changes a cluster's size by itself: jray's never does, as a cluster of Ray without it."""
