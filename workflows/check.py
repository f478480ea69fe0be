"""What DVC runs before all else, the stage `check`: the parameters, and what is in its cache.

python -m workflows.check
"""

import sys

from workflows import cache, parameters


def main() -> int:
    """Says what is wrong with the parameters, and mends the cache."""
    try:
        parameters.load()
        cache.mend()
    except (parameters.ParameterError, cache.CacheError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
