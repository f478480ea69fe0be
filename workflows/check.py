"""The stage `check`, which runs before all others: parameters, DVC's cache, and outputs of removed stages.

python -m workflows.check
"""

import sys

from workflows.engines import cache, leftovers, parameters


def main() -> int:
    """Checks the parameters, repairs the cache, and removes leftovers."""
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
