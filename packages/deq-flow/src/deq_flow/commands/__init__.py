"""The commands of `deq-flow`: each loads its parameters, opens a tracked run, and calls one function.

A stage's command takes places (paths) and names (section, method, seed); its numbers are in params.yaml.
"""
