"""The commands of `deq-flow`: each loads its parameters, opens a tracked run, and calls one function.

A command takes places (paths) and names (section, method, seed); every number is in params.yaml.
"""
