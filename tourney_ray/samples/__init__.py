"""What the demo plays with: the repositories of sample miners, a tiny model and tasks made for it.

The folders `miners/` and `base/` are package data: the trainers in them run inside the sandbox and are never imported.
"""
