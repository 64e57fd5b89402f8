"""The heads of this user as others see them: files that they leave, processes, and their end.

It knows nothing of the runtime, so that a program that only looks, like the Jupyter server, loads none of it.
"""
