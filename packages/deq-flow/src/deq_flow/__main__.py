"""`python -m deq_flow` is `deq-flow`."""

from deq_flow.cli import main

main()
