"""The workers of a training: mapped tasks of one run, each in its own pod, with one process for each of its GPUs."""

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread

import torch
from torch import distributed, multiprocessing
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket
from ml_common.team import Team

log = logging.getLogger(__name__)

# As `task_queued_timeout` in helm-values/airflow.yaml: enough to start nodes for the pods.
JOIN_SECONDS = 900.0
# No step of a training takes so long: a process that waits longer for another has lost it.
STEP_TIMEOUT = timedelta(minutes=5)
# From joining to training: enough for the processes of several GPUs, which import their libraries first.
FORM_SECONDS = 120.0
CONNECT_SECONDS = 10.0
POLL_SECONDS = 1.0
ADDRESS = "workers.json"
# A key of the store: all workers have joined.
COMPLETE = "complete"


@dataclass(frozen=True)
class Worker:
    """One of the workers of a training.

    Attributes:
        number: From 0, which has the process of rank 0.
        count: Number of workers.
        processes: Number of processes of each worker.
    """

    number: int
    count: int
    processes: int

    @property
    def size(self) -> int:
        """The number of processes of all workers."""
        return self.count * self.processes

    def team(self, local_rank: int) -> Team:
        """Return what one of its processes sees."""
        local_size = self.processes if _in_pod() else self.size
        return Team(self.number * self.processes + local_rank, self.size, local_rank, local_size)


@dataclass(frozen=True)
class Meeting:
    """Where the workers of a training find each other: an object in the folder of its output."""

    bucket: Bucket
    folder: str

    def announce(self, host: str, port: int) -> None:
        """Publish the address of the first worker."""
        self.bucket.put_json(self.folder + ADDRESS, [host, port])

    def address(self) -> tuple[str, int] | None:
        """Return the address of the first worker, which may have failed since; None if there was none yet."""
        if not self.bucket.exists(self.folder + ADDRESS):
            return None
        host, port = self.bucket.get_json(self.folder + ADDRESS)
        return host, port

    def is_over(self) -> bool:
        """Return whether the output is complete."""
        return self.bucket.published(self.folder) is not None

    def discard(self) -> None:
        """Delete the address."""
        self.bucket.delete(self.folder + ADDRESS)


def processes() -> int:
    """Return the number of processes of a worker on this machine: one for each GPU, or one on a CPU."""
    return max(1, torch.cuda.device_count())


def run(train: Callable[[Team], None], worker: Worker, meeting: Meeting) -> None:
    """Call `train` in every process of a worker as soon as all workers have joined; return when the output is stored.

    Processes fail together: if one is lost, the others fail too, and all workers meet again in the next try.

    Args:
        train: Trains, and stores the output in the process of rank 0. It can be pickled.
        worker: This worker.
        meeting: Where to find the others.

    Raises:
        PermanentError: A worker is missing after JOIN_SECONDS, or several share the GPUs of a laptop.
        ServiceUnavailableError: Another process has failed.
    """
    if worker.size == 1:
        train(Team())
        return
    if worker.count > 1 and torch.cuda.is_available() and not _in_pod():
        raise PermanentError(
            f"{worker.count} workers would use the same GPUs of this machine: set the Param `workers` to 1: one worker "
            "uses all of them."
        )
    deadline = time.monotonic() + JOIN_SECONDS
    if worker.number > 0:
        if store := _follow(worker, meeting, deadline):
            _train(train, worker, store, deadline)
        return
    try:
        _train(train, worker, _lead(meeting), deadline)
    finally:
        meeting.discard()


def _train(train: Callable[[Team], None], worker: Worker, store: TCPStore, deadline: float) -> None:
    _join(store, worker, deadline)
    if worker.processes == 1:
        _train_in(0, train, worker, store.host, store.port)
    else:
        _spawn(train, worker, store)


def _lead(meeting: Meeting) -> TCPStore:
    """Start the store through which the workers find each other, on the address of this pod."""
    listener = socket.create_server((_own_address(), 0))
    host, port = listener.getsockname()[:2]
    store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    meeting.announce(host, port)
    return store


def _follow(worker: Worker, meeting: Meeting, deadline: float) -> TCPStore | None:
    """Connect to the first worker; return None if the training is over.

    Raises:
        PermanentError: The first worker does not answer until the deadline.
    """
    while not meeting.is_over():
        address = meeting.address()
        if address and _answers(*address):
            store = _connect(*address)
            # A complete team is that of an earlier try, which has lost this worker and is about to fail.
            if not store.check([COMPLETE]):
                return store
        _wait(deadline, 0, worker)
    return None


def _join(store: TCPStore, worker: Worker, deadline: float) -> None:
    """Wait until every worker has joined.

    Raises:
        PermanentError: A worker is missing at the deadline, or has another number of processes.
    """
    store.set(f"worker {worker.number}", str(worker.processes))
    for number in range(worker.count):
        key = f"worker {number}"
        while not store.check([key]):
            _wait(deadline, number, worker)
        if (found := int(store.get(key))) != worker.processes:
            raise PermanentError(
                f"Worker {number} has {found} processes and worker {worker.number} has {worker.processes}, but each "
                "needs the same number of GPUs: choose a node pool whose nodes are alike."
            )
    store.set(COMPLETE, "")


def _wait(deadline: float, missing: int, worker: Worker) -> None:
    if time.monotonic() > deadline:
        raise PermanentError(
            f"Worker {missing} of {worker.count} (numbered from 0) did not start within {JOIN_SECONDS / 60:.0f} "
            "minutes: see why its task does not run, such as a limit of the node pool or of the namespace's quota, "
            "or set the Param `workers` to a smaller number."
        )
    time.sleep(POLL_SECONDS)


def _spawn(train: Callable[[Team], None], worker: Worker, store: TCPStore) -> None:
    """Train in one new process for each GPU.

    Raises:
        PermanentError: As a process raised it.
        ServiceUnavailableError: A process, or another worker, has failed.
    """
    permanent = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        spawn(  # type: ignore[no-untyped-call]
            _train_in_child, (permanent, train, worker, store.host, store.port), nprocs=worker.processes
        )
    except ProcessRaisedException as error:
        if not permanent.empty():
            raise PermanentError(permanent.get()) from error
        raise ServiceUnavailableError(f"A process of this worker has failed: {error}") from error
    except ProcessExitedException as error:
        raise ServiceUnavailableError(f"A process of this worker has ended: {error}.") from error


def _train_in_child(
    local_rank: int,
    permanent: "multiprocessing.SimpleQueue[str]",
    train: Callable[[Team], None],
    worker: Worker,
    host: str,
    port: int,
) -> None:
    rank = worker.team(local_rank).rank
    logging.basicConfig(level=logging.INFO, format=f"process {rank}: %(message)s")
    try:
        _train_in(local_rank, train, worker, host, port)
    except PermanentError as error:
        permanent.put(str(error))
        raise


def _train_in(local_rank: int, train: Callable[[Team], None], worker: Worker, host: str, port: int) -> None:
    team = worker.team(local_rank)
    if not _in_pod():
        os.environ["GLOO_SOCKET_IFNAME"] = _loopback_interface()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    try:
        _form(team, "cpu:gloo,cuda:nccl" if on_gpu else "gloo", _connect(host, port))
        log.info("All %d workers have joined; this is number %d.", worker.count, worker.number)
        train(team)
        # Otherwise the others could end before the output is stored, and not be there for another try.
        distributed.barrier()
    except RuntimeError as error:
        if isinstance(error, DistError) or "gloo" in str(error):
            raise _lost(str(error)) from error
        raise
    # Not after an error, when it could wait for processes that are lost.
    distributed.destroy_process_group()


def _form(team: Team, backend: str, store: TCPStore) -> None:
    """Connect this process to all others.

    In a thread, because gloo waits for five times its timeout if another process is lost while they connect.

    Raises:
        ServiceUnavailableError: The others cannot be reached within FORM_SECONDS.
        RuntimeError: As torch raised it.
    """
    errors: list[RuntimeError] = []

    def form() -> None:
        try:
            distributed.init_process_group(
                backend, store=store, rank=team.rank, world_size=team.size, timeout=STEP_TIMEOUT
            )
        except RuntimeError as error:
            errors.append(error)

    thread = Thread(target=form, daemon=True)
    thread.start()
    thread.join(FORM_SECONDS)
    if thread.is_alive():
        raise _lost(f"not connected after {FORM_SECONDS:.0f} s")
    if errors:
        raise errors[0]


def _lost(reason: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"Another worker has failed or was stopped ({reason}): this try ends, and the next one continues from the last "
        "saved epoch."
    )


def _connect(host: str, port: int) -> TCPStore:
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=STEP_TIMEOUT)


def _answers(host: str, port: int) -> bool:
    """Return whether a server accepts connections; TCPStore would log a page for each try."""
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _in_pod() -> bool:
    """Return whether each worker has its own address; otherwise all run on one laptop."""
    return "AIRFLOW_IS_K8S_EXECUTOR_POD" in os.environ


def _own_address() -> str:
    return socket.gethostbyname(socket.gethostname()) if _in_pod() else "127.0.0.1"


def _loopback_interface() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
