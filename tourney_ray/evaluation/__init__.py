"""The numbers that decide matches: a stranger's checkpoint, read as numbers only, measured on the task's rows.

The only package that knows torch and transformers; importing it, or its `worker`, imports neither.
"""
