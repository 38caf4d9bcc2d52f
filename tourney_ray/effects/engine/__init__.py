"""Strangers' containers through a Docker engine: built, started, watched, stopped, collected.

The only place that knows Docker.
"""
