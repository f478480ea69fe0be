"""`python -m deq_vision` is `deq-vision`."""

from deq_vision.cli import main

main()
