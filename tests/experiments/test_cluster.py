"""Studies on a cluster: what is asked for, what is found again, and a real Slurm that loses a node on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import slurm
from test_study import course, one_by_one  # noqa: F401 - a fixture, used by its name

from common import records
from common.experiments import cluster, study
from common.experiments.seed_run import KilledError
from common.recipe import ROOT
from common.records import store
from common.system import locks
from common.system.errors import UserError

ON_SLURM = ("S7/block3", "--on=slurm")


def test_options_as_they_are_written():
    assert cluster.options("local") is None
    assert cluster.options("slurm") == {"time": 60, "cpus_per_task": 1}
    found = cluster.options("slurm:partition=long,time=90,gres=gpu:a100:1,cpus_per_task=2")
    assert found == {"partition": "long", "time": 90, "gres": "gpu:a100:1", "cpus_per_task": 2}


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("pbs", "--on is local, or slurm"),
        ("slurm:nodes=3", "takes no 'nodes=3'; it takes NAME=VALUE with account, comment"),
        ("slurm:partition", "takes no 'partition'"),
        ("slurm:time=1:30:00", "time must be a whole number of minutes, not '1:30:00'"),
        ("slurm:cpus_per_task=0", "cpus_per_task must be a whole number, not '0'"),
    ],
)
def test_what_is_no_place_to_train_is_one_sentence(course, on, said):  # noqa: F811
    course()
    with pytest.raises(UserError, match=said):
        one_by_one("--on", on)


def test_every_option_is_one_of_submitits():
    submitit = pytest.importorskip("submitit")
    assert set(cluster.OPTIONS) <= submitit.SlurmExecutor._valid_parameters()


def test_what_is_missing_is_named_before_anything_is_forgotten(course, monkeypatch):  # noqa: F811
    root = course()
    one_by_one("--seeds=1")
    monkeypatch.setenv("PATH", str(root))
    with pytest.raises(UserError, match="there is no sbatch here"):
        study.main([*ON_SLURM, "--anew"])
    monkeypatch.setattr(cluster.shutil, "which", lambda name: name)
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"pip install '{cluster.SUBMITIT}'"):
        study.main([*ON_SLURM, "--anew"])
    assert len(records.load("S7/block3")["runs"]) == 2  # by both protocols


def test_a_search_takes_no_cluster(course):  # noqa: F811
    course()
    with pytest.raises(UserError, match="neither --network, --anew nor --on"):
        one_by_one("--search", "lr=0.1..0.4", "--on=slurm")


@pytest.fixture
def queue(course, monkeypatch):  # noqa: F811
    """A stand-in for Slurm, whose jobs the test starts: `asked` are lists of jobs, `states` what squeue says."""
    course()

    class Queue:
        asked: list = []
        states: dict | None = {}

        def begin(self, jobs, at_once):
            self.asked.append(list(jobs))
            self.took = at_once
            self.then(jobs)

    queue = Queue()
    queue.asked = []
    monkeypatch.setattr(cluster, "require", lambda: None)
    monkeypatch.setattr(cluster, "LOOK", 0.01)
    monkeypatch.setattr(cluster, "QUESTION", 0.01)
    monkeypatch.setattr(cluster, "queue", lambda folder: queue.states)
    monkeypatch.setattr(cluster.Slurm, "_submit", lambda slurm, name, jobs: queue.begin(jobs, slurm.at_once))
    return queue


def all_trained(jobs):
    for job in jobs.values():
        job()


def test_each_seed_is_one_job_and_finished_seeds_are_recorded(queue):
    queue.then = all_trained
    study.main([*ON_SLURM, "--seeds=2"])
    study.main([*ON_SLURM, "--seeds=3", "--jobs=2"])
    assert (queue.asked, queue.took) == ([[1, 2], [3]], 2)
    assert [run["seed"] for run in records.runs(records.load("S7/block3"))] == [1, 2, 3]


def test_jobs_of_an_earlier_command_are_waited_for_and_only_the_others_asked_for(queue):
    """Seed 1 ended while the machine that asked was off, seed 2 is running, seed 3 never was asked for."""
    runs = {seed: study.Study("S7/block3").seed_run(seed) for seed in (1, 2)}
    slurm_jobs = cluster.Slurm(study.ROOT / "jobs", "S7/block3", cluster.options("slurm"))
    jobs = {seed: slurm_jobs._job(run) for seed, run in runs.items()}
    jobs[1]()
    queue.states = {2: "RUNNING"}

    def then(asked):
        all_trained(asked | {2: jobs[2]})

    queue.then = then
    study.main([*ON_SLURM, "--seeds=3"])
    assert queue.asked == [[3]]
    assert [run["seed"] for run in records.runs(records.load("S7/block3"))] == [1, 2, 3]


def test_a_job_that_is_gone_without_a_result_is_asked_for_again_but_not_for_ever(queue):
    queue.then = lambda jobs: len(queue.asked) == 3 and all_trained(jobs)
    study.main([*ON_SLURM, "--seeds=1"])
    assert queue.asked == [[1], [1], [1]]
    queue.then = lambda jobs: None
    with pytest.raises(UserError, match="seed 2 was started 4 times and ended each time without a result"):
        study.main([*ON_SLURM, "--seeds=2"])
    assert queue.asked[3:] == [[2]] * cluster.STARTS


def test_nothing_is_asked_for_twice_while_the_controller_is_silent(queue, monkeypatch):
    answers = iter([None, {}, *[None] * 5, {1: "RUNNING"}, None])
    jobs = {}

    def answer(folder):
        said = next(answers, "over")
        if said == "over":
            all_trained(jobs)
        return None if said == "over" else said

    monkeypatch.setattr(cluster, "queue", answer)
    queue.then = jobs.update
    study.main([*ON_SLURM, "--seeds=1"])
    assert queue.asked == [[1]]


def test_a_script_that_fails_is_told_once_and_tried_again_by_the_next_command(queue, course):  # noqa: F811
    course(failing=2)
    queue.then = all_trained
    with pytest.raises(UserError, match="no luck\n.*seed 2 failed.*Other seeds go on"):
        study.main([*ON_SLURM, "--seeds=2"])
    assert queue.asked == [[1, 2]]
    course()
    study.main([*ON_SLURM, "--seeds=2"])
    assert [run["seed"] for run in records.runs(records.load("S7/block3"))] == [1, 2]


def test_what_slurm_tells_a_job_that_asks_does_not_reach_the_jobs_it_asks_for(queue, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4096")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    queue.then = all_trained
    study.main([*ON_SLURM, "--seeds=1"])
    assert [name for name in os.environ if name.startswith("SLURM_")] == ["SLURM_CONF"]


def test_a_second_command_for_the_same_study_is_refused(queue):
    folder = study.Study("S7/block3").folder / "jobs"
    with locks.exclusive_run_lock(folder), pytest.raises(UserError, match="Another run"):
        study.main([*ON_SLURM, "--seeds=1"])
    assert queue.asked == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_job_is_deaf_to_warnings_and_takes_its_script_along(course):  # noqa: F811
    """Slurm's SIGTERM reaches every process of a job; only the job's own program may act on it."""
    root = course(then="import os, signal; os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1)")
    run = study.Study("S7/block3").seed_run(1)
    job = cluster.SeedJob(run.title, run.script, run.options, run.out)
    job()
    assert job.is_over() and not job.failure.exists()
    course(then="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    job = cluster.SeedJob(run.title, run.script, run.options, root / "killed")
    with pytest.raises(KilledError):
        job.train(1, print)
    job()
    assert not job.is_over()
    course(then="time.sleep(600)")
    job = cluster.SeedJob(run.title, run.script, run.options, root / "requeued")

    def requeue(line):  # as submitit's handler does it
        raise SystemExit

    with pytest.raises(SystemExit):
        job.train(1, requeue)
    assert job.process.returncode == -signal.SIGKILL


def test_a_seed_of_another_kind_of_cpu_is_marked(course, capsys):  # noqa: F811
    course()
    one_by_one("--seeds=3")
    record = records.load("S7/block3")
    for run in record["runs"]:
        kind = "AMD EPYC" if run["seed"] == 2 else "Intel(R) Xeon(R) Processor"
        run |= {"device": "cpu", "machine": f"{kind}, 2 cores, Linux", "host": f"node{run['seed']}"}
    records.write(records.path_of("S7/block3"), record)
    capsys.readouterr()
    one_by_one("--seeds=4")
    said = "computed on another kind of processor than most, so with other roundings: seed 2 (AMD EPYC)"
    record = records.load("S7/block3")
    assert "seed 2 (AMD EPYC), 4 (unknown)" in capsys.readouterr().out
    assert record["summary"]["seeds_on_other_processors"] == [2, 4]
    assert said in records.recorded("S7/block3", ())
    alike = [run for run in record["runs"] if run["seed"] in (1, 3)]
    assert store.other_processors(alike) == {}


missing = sorted(set(slurm.NEEDED) - slurm.programs().keys())


@pytest.fixture
def two_nodes():
    """A real Slurm, in a folder with a short name: that of a socket may have 107 letters."""
    if missing:
        pytest.skip(f"Slurm is not installed (no {', '.join(missing)}); on Debian, slurm-wlm and munge bring it")
    pytest.importorskip("submitit", reason=f"submitit is not installed; {cluster.SUBMITIT} brings it")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        found = slurm.Cluster(Path(folder))
        try:
            found.start()
            yield found
        finally:
            found.stop()


ASKED = ("--limit=96", "--epochs=120", "--protocol=both")
SEEDS = 12
ASKING = f"""
import pathlib, sys
from common.experiments import cluster, study
from common.records import store
study.ROOT = store.ROOT = pathlib.Path(sys.argv[1])
cluster.QUESTION = 2
study.Study("S7/block3", asked={ASKED[:2]}).run({SEEDS}, on=cluster.options("slurm:time=10"))
"""


def test_twelve_seeds_on_a_slurm_that_loses_a_node_its_controller_and_a_job(tmp_path, two_nodes):
    lesson = tmp_path / "sessions" / "S7" / "block3.py"
    lesson.parent.mkdir(parents=True)
    lesson.write_bytes((ROOT / "tests" / "faults" / "small_lesson.py").read_bytes())
    folder = tmp_path / "runs" / "study" / "S7" / "block3"
    said = (tmp_path / "said").open("a+")
    environment = two_nodes.environment | {"PYTHONPATH": str(ROOT)}

    def ask() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", ASKING, str(tmp_path)], env=environment, stdout=said, stderr=subprocess.STDOUT
        )

    def trained_alone(seed: int) -> bytes:
        out = tmp_path / f"alone-{seed}"
        command = [sys.executable, str(lesson), *ASKED, f"--seed={seed}", f"--out={out}"]
        subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
        return (out / "weights.safetensors").read_bytes()

    def lines(seed: int) -> list[str]:
        """What the seed's job has said of its epochs, in all of its turns."""
        log = folder / "jobs" / f"1_{seed - 1}_0_log.out"
        return [line for line in log.read_text().splitlines() if line.startswith("epoch")] if log.exists() else []

    def train(*seeds: int) -> bool:
        return all(len(lines(seed)) > 2 and not (folder / f"seed-{seed}" / "record.json").exists() for seed in seeds)

    def one_that_trains() -> int | None:
        return next((seed for seed in range(5, SEEDS + 1) if train(seed)), None)

    asking = ask()
    two_nodes.wait(lambda: train(1, 2, 3, 4), "four seeds train, two on each node", 120)
    asking.kill()  # the machine that asked is switched off
    asking.wait()
    two_nodes.kill_node("two")
    two_nodes.restart_controller()
    urgent = ["sbatch", "--partition=urgent", "--nodelist=one", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1"]
    two_nodes.ask(*urgent)  # takes node one away from both of its jobs
    two_nodes.wait(lambda: not two_nodes.states()["two"].isalpha(), "node two is given up", 90)
    asking = ask()
    two_nodes.wait(lambda: two_nodes.states()["two"] == "down*", "no job is left on node two", 90)
    two_nodes.start_node("two")
    told = []

    def time_is_up() -> bool:
        """Tell one seed so that its time is up; Slurm refuses where the job has just ended, and `wait` tries again."""
        late = one_that_trains()
        if late:
            two_nodes.ask("scancel", "--signal=USR2", f"1_{late - 1}")
            told.append(late)
        return bool(told)

    two_nodes.wait(time_is_up, "another seed trains and hears that its time is up", 120)
    (late,) = told
    assert asking.wait(timeout=240) == 0, (tmp_path / "said").read_text()

    told, seeds = (tmp_path / "said").read_text(), list(range(1, SEEDS + 1))
    record = json.loads((tmp_path / "sessions" / "S7" / "records" / "block3.json").read_text())
    assert [(run["protocol"], run["seed"]) for run in record["runs"]] == [("held-out", seed) for seed in seeds]
    assert {run["host"] for run in record["runs"]} == {"one", "two"}
    assert sorted(told.count(f"seed {seed}: recorded") for seed in seeds) == [1] * SEEDS, told
    assert sorted(sum(json.loads((folder / "jobs" / "asked.json").read_text()).values(), [])) == seeds  # once each
    restarts = re.findall("Restarts=[1-9]", two_nodes.ask("scontrol", "show", "jobs"))
    assert len(restarts) >= 5  # two of a lost node, two that made room, one whose time was up
    for seed in (3, 4, late):
        assert lines(seed).count(lines(seed)[0]) >= 2  # it went on: the first epoch is told again, with its old seconds
    for seed in (3, late):  # one of the lost node, one whose time was up
        assert (folder / f"seed-{seed}" / "weights.safetensors").read_bytes() == trained_alone(seed)
