"""What must be true of any journal, whoever wrote it: checked from the facts alone, with books of its own.

Nothing here looks at the state that `evolve` makes or asks `settle`: a fault in those shows here.
"""
