"""Owns jray on a Ray cluster: the adapter between jray's engine protocol and Ray's own API.

Nothing outside this package imports Ray, and nothing loads this package but a session with that engine.
"""
