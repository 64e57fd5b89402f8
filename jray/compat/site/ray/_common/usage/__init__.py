"""Stands for Ray's reports of how it is used: jray sends none."""
