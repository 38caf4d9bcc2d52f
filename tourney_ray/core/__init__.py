"""The rules, pure: no clock, dice, files, processes or network. Facts in, decisions out."""
