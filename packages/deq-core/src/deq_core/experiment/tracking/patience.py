"""How long a tracking store is waited for, and whether it is away or refuses."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from deq_core.experiment.files import OutputError

Result = TypeVar("Result")

LIMIT = 8.0
"""Seconds that a store is waited for at a time: one that is silent once in a run's course and once at its end."""
_UNREACHABLE = (429, 502, 503, 504)


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What `work` returns, or raises, if it ends in time; else it goes on in a thread that ends with the process.

    The limit is on all of it: a library's own one is for each packet of each try, and none for finding an address.

    Raises:
        TimeoutError: it takes longer.
    """
    result: Future[Result] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="tracking", daemon=True).start()
    try:
        return result.result(seconds)
    except TimeoutError:
        if result.done():
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def is_away(error: BaseException, *, remote: bool) -> bool:
    """Whether a store cannot be reached now but may be later, rather than says no.

    Args:
        error: what using it has raised.
        remote: whether it is reached over a network, where faults of the system are those of the way.
    """
    return any(_tells_so(one, remote) for one in _chain(error))


def _tells_so(error: BaseException, remote: bool) -> bool:
    if isinstance(error, TimeoutError) or "database is locked" in str(error):
        return True
    if not remote or isinstance(error, OutputError | ValueError):
        return False
    status = 0
    with contextlib.suppress(AttributeError):  # of MLflow's errors, which are 500 where nothing else is said
        status = error.get_http_status_code()  # pyright: ignore[reportAttributeAccessIssue]
    of_server = type(error).__name__ == "RestException" and status >= 500
    return (
        of_server or status in _UNREACHABLE or isinstance(error, OSError) or "OperationalError" in type(error).__name__
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    while True:
        yield error
        before = error.__cause__ or error.__context__
        if before is None:
            return
        error = before
