"""`bench card`: what the CUDA path does on a real card, checked and measured in steps.

A step has parts. Each part is a process of its own with a time limit, its result is in the results file as soon as it
ends, and a later call does what is lacking. `steps` lists them; a module here has the parts of one step or of a few.
"""
