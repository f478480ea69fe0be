"""`python -m deq_sequence` is `deq-sequence`."""

from deq_sequence.cli import main

main()
