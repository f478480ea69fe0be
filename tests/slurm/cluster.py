"""A Slurm of one machine, by Debian's packages slurm-wlm and munge: as the present user, in a folder."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
SBIN = os.pathsep.join(("/usr/sbin", "/sbin"))
"""Where daemons are, which is on the PATH of root alone."""

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller}
SlurmdPort={node}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=2
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE
"""


def missing() -> list[str]:
    """The programs that are not on this machine."""
    return [name for name in (*DAEMONS, *PROGRAMS) if found(name) is None]


def found(program: str) -> str | None:
    """Where a program is."""
    return shutil.which(program, path=os.pathsep.join((os.environ["PATH"], SBIN)))


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """Runs it with its files in `folder`, whose path must be short, for the length of the context.

    Yields:
        A folder for PATH with Slurm's programs, which find this Slurm. Its variable SLURM_CONF would not do: a job's
        are taken away by Snakemake's plugin.

    Raises:
        TimeoutError: no node is idle after two minutes.
    """
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    ports = free_ports(2)
    values = {"folder": folder, "host": socket.gethostname().partition(".")[0], "user": getpass.getuser()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values, controller=ports[0], node=ports[1]))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")  # Slurm counts them, and asks no more
    for name in ("gpu0", "gpu1"):
        (folder / name).touch()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    for name in PROGRAMS:
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {found(name)} "$@"\n')
        program.chmod(0o755)
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log"}
    commands = (
        ["munged", "--force", "--foreground", f"--seed-file={folder}/munge.seed"]
        + [f"--{option}={folder}/{name}" for option, name in files.items()],
        ["slurmctld", "-D", "-f", f"{folder}/slurm.conf"],
        ["slurmd", "-D", "-f", f"{folder}/slurm.conf", "-N", values["host"]],
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as out:
                program = found(command[0]) or command[0]
                started.append(subprocess.Popen([program, *command[1:]], stdout=out, stderr=out))
        wait_for_node(folder)
        yield folder / "bin"
    finally:
        subprocess.run([folder / "bin/scancel", "--user", values["user"]], capture_output=True)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def wait_for_node(folder: Path) -> None:
    """Returns once Slurm would begin a job."""
    deadline = time.monotonic() + 120
    state = ""
    while "idle" not in state:
        if time.monotonic() > deadline:
            logs = "".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
            raise TimeoutError(f"no node of this Slurm is idle after two minutes: {state}\n{logs}")
        time.sleep(0.3)
        command = [folder / "bin/sinfo", "--noheader", "--format=%T"]
        state = subprocess.run(command, capture_output=True, text=True).stdout


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports
