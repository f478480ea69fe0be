"""What DVC runs before all else, the stage `check`: parameters, DVC's cache, and outputs of stages that are gone.

python -m workflows.check
"""

import sys

from workflows import cache, leftovers, parameters


def main() -> int:
    """Says what is wrong with the parameters, mends the cache, and takes leftovers out."""
    try:
        parameters.load()
        cache.mend()
        leftovers.take_out()
    except (parameters.ParameterError, cache.CacheError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
