"""What asks a program to end waits until what must be whole is."""

import signal
import threading
from collections.abc import Iterator

import pytest

from deq_core.experiment.ending import Terminated, terminable
from deq_core.experiment.outputs.uninterrupted import uninterrupted


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where a shell has it ignored, as in what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_until_the_block_is_left(number: signal.Signals, raised: type[BaseException]) -> None:
    done: list[str] = []

    def work() -> None:
        with uninterrupted():
            done.append("begun")
            signal.raise_signal(number)
            done.append("ended")
        done.append("went on")

    with terminable():
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with uninterrupted():
            pass
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        with pytest.raises(raised):
            work()
    assert done == ["begun", "ended"]


def test_other_threads_have_no_signals_to_wait_for() -> None:
    done: list[bool] = []

    def work() -> None:
        with uninterrupted():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
