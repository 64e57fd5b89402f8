"""Stands for Ray's reports of how it is used, under the name of earlier versions: jray sends none."""
