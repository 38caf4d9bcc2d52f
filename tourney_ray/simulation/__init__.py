"""Whole tournaments in virtual time, on a virtual cluster with faults."""
