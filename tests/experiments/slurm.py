"""A Slurm of one controller and two nodes on this machine, all of it in one folder, for the tests of the studies."""

import contextlib
import getpass
import os
import platform
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
NODES = ("one", "two")
# The nodes share this machine's processor; each is said to have two. Without the plugins for control groups it runs in
# a container too. A node that does not answer is given up after seconds, and
# a requeued job (cred_expire) begins after seconds, in the place of minutes.
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,sched_min_interval=500000
ReturnToService=2
SlurmdTimeout=10
KillWait=2
MessageTimeout=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=debug Nodes={names} Default=YES PriorityTier=1
PartitionName=urgent Nodes={names} PriorityTier=10
"""


def programs() -> dict[str, str]:
    """Where Slurm's programs are, also those that only root's PATH has; fewer than `NEEDED` where one is missing."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    found = {name: shutil.which(name, path=path) for name in NEEDED}
    return {name: where for name, where in found.items() if where}


class Cluster:
    """Started by `start`; `stop` ends all that it started."""

    def __init__(self, folder: Path):
        self.folder, self.programs = folder, programs()
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        controller, *ports = _free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={name} NodeHostname={platform.node()} NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN"
            for name, port in zip(NODES, ports, strict=True)
        ]
        text = CONFIGURATION.format(
            folder=folder,
            host=platform.node(),
            user=getpass.getuser(),
            controller=controller,
            nodes="\n".join(nodes),
            names=",".join(NODES),
        )
        (folder / "slurm.conf").write_text(text, encoding="utf-8")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        (folder / "state").mkdir()

    def start(self) -> None:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder / 'munge'}.{end}" for option, end in files.items()]
        self._run("munged", "--foreground", "--force", *options)
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self.wait(lambda: self.states() == dict.fromkeys(NODES, "idle"), "both nodes are idle")

    def start_controller(self) -> None:
        self._run("slurmctld", "-D")

    def restart_controller(self) -> None:
        daemon = self.daemons.pop("slurmctld")
        daemon.kill()
        daemon.wait()
        self.start_controller()
        self.wait(lambda: self.ask("scontrol", "ping").count("UP"), "the controller is back")

    def start_node(self, name: str) -> None:
        self._run("slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """As a power cut would: the daemon and all that runs on the node."""
        daemon = self.daemons.pop(f"slurmd {name}")
        daemon.kill()
        daemon.wait()
        self._kill_steps(name)

    def states(self) -> dict[str, str]:
        """What Slurm says of each node, such as "idle", "mixed" or "down*"."""
        return dict(line.split() for line in self.ask("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %T").splitlines())

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, text=True, check=True, capture_output=True).stdout

    def wait(self, condition, meaning: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if condition():
                    return
            except subprocess.CalledProcessError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {meaning}")

    def stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()
        for name in NODES:
            self._kill_steps(name)

    def _kill_steps(self, node: str) -> None:
        """Kill what runs on the node: first Slurm's processes, which have its log open, then those that they watch."""
        log = str(self.folder / f"slurmd-{node}.log")
        for watching in (True, False):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if watching:
                        found = process.name() == "slurmstepd" and log in [file.path for file in process.open_files()]
                    else:
                        said = process.environ()
                        own = said.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                        found = own and said.get("SLURMD_NODENAME") == node
                    if found:
                        process.kill()

    def _run(self, program: str, *arguments: str) -> None:
        name = f"{program} {arguments[-1]}" if program == "slurmd" else program
        log = (self.folder / f"{name.replace(' ', '-')}.out").open("a")
        self.daemons[name] = subprocess.Popen(
            [self.programs[program], *arguments], env=self.environment, stdout=log, stderr=log
        )


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
