"""What a model costs: counted in closed form, and measured on this machine.

`setting.py` is what is profiled, `architecture.py` finds the model's shape, which its family
describes, `counted.py` has the figures of `costs.py` for a setting; `measured.py` times the real
thing, with weights that the family may make up.
"""
