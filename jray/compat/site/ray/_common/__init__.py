"""Stands for Ray's own helpers: those that programs use."""
