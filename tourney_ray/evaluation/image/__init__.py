"""Image tasks: a stranger's LoRA on an SDXL or Flux pipeline, measured on pictures with captions.

Importing the package imports no torch; `scoring` and what it needs do.
"""
