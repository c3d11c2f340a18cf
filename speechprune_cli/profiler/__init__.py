"""What a model costs: counted in closed form, and measured on this machine.

`setting.py` is what is profiled, `architecture.py` the model's shape, `costs.py` the formulas,
`counted.py` their figures for a setting; `measured.py` times the real thing, with weights that
`random_weights.py` may make up.
"""
