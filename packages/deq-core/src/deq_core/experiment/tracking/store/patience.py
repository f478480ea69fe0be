"""Timeouts for the tracking store, and whether an error means that it is unavailable or that it refuses."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from deq_core.experiment.files import OutputError

Result = TypeVar("Result")

LIMIT = 8.0
"""Maximum seconds of one wait for the store. A silent store costs one wait during a run and one at its end."""
_UNREACHABLE = (429, 502, 503, 504)


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """The result (or error) of `work` if it ends in time; otherwise it continues in a daemon thread.

    The limit applies to the whole call. Timeouts of libraries apply to each packet of each attempt, and not to name
    resolution.

    Raises:
        TimeoutError: `work` takes longer.
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
    """Whether a store is temporarily unavailable, rather than refusing.

    Args:
        error: error raised by using the store.
        remote: whether the store is reached over a network; then system errors mean that it is unavailable.
    """
    return any(_tells_so(one, remote) for one in _chain(error))


def _tells_so(error: BaseException, remote: bool) -> bool:
    if isinstance(error, TimeoutError) or "database is locked" in str(error):
        return True
    if not remote or isinstance(error, OutputError | ValueError):
        return False
    status = 0
    with contextlib.suppress(AttributeError):  # only MLflow's errors have it; its default is 500
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
