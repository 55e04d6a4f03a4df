"""The engine of a Ray cluster: what a node does with paths and keys, and the driver on a cluster of this process."""

import contextlib
import json
import math
import sys
import time
from concurrent.futures import Future

import pytest
from tests.sweeps.test_sweeps import GRID, TRAINING, numbers, rows_of

from insitu.budget import limited
from insitu.errors import InputError
from insitu.sweeps import cluster, read_sweep
from insitu.sweeps.cluster import Cluster, do_jobs
from insitu.work import run_jobs

PLAN = f"""
test = 16
together = 3
task = {{ kind = "LinearRegression", law = {{ kind = "Gaussian", dim = 2 }} }}
network = {{ kind = "Transformer", layers = 1, width = 8, heads = 1 }}
training = {{ {", ".join(f"{name} = {json.dumps(value)}" for name, value in TRAINING["training"].items())} }}
[grid]
{"".join(f"{json.dumps(name)} = {json.dumps(values)}" + chr(10) for name, values in GRID.items())}
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


class Node:
    """Ray with one node, this process, that loses some tasks for good."""

    def __init__(self, lost=()):
        self.lost = set(lost)

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, function):
        return Remote(self, function)

    def wait(self, tasks, timeout):
        return tasks[:1], tasks[1:]

    def get(self, task):
        return task.result()

    def cancel(self, task, force=False):
        task.cancel()


class Remote:
    """A function on the node."""

    def __init__(self, node, function):
        self.node, self.function = node, function

    def options(self, *, num_cpus, num_gpus, memory, max_retries, name):
        assert (num_cpus, num_gpus, max_retries) == (1, 0, 3)
        assert memory > 0
        return self

    def remote(self, plan, folder, device, keys, end):
        assert {type(one) for one in (plan, folder, device, *keys)} == {str}, "paths are passed, never objects"
        future = Future()
        if keys[0] in self.node.lost:
            future.set_exception(RuntimeError("the node died"))
        else:
            future.set_result(self.function(plan, folder, device, keys, end))
        return future


@pytest.fixture
def fake(monkeypatch):
    return lambda node: monkeypatch.setattr(cluster, "connected", lambda address: contextlib.nullcontext(node))


def test_a_cluster_gives_the_bits_of_this_machine(plan, tmp_path, fake):
    fake(Node())
    chosen = read_sweep(plan)
    jobs = chosen.jobs(tmp_path / "cluster", "cpu")
    engine = Cluster("auto", plan, tmp_path / "cluster", "cpu").run
    records = {e.job.key: e.record for e in run_jobs(jobs, workers=1, resume=False, engine=engine)}
    _, whole = rows_of(tmp_path / "here", chosen)
    assert numbers(chosen.rows(jobs, [records[job.key] for job in jobs])) == numbers(whole)
    assert not (tmp_path / "cluster" / "unfinished").exists()


def test_a_task_that_is_lost_for_good_is_an_error_and_the_others_go_on(plan, tmp_path, fake):
    jobs = read_sweep(plan).jobs(tmp_path, "cpu")
    fake(Node(lost=[jobs[1].key]))
    engine = Cluster("auto", plan, tmp_path, "cpu").run
    errors = [bool(e.record.error) for e in run_jobs(jobs, workers=1, resume=False, engine=engine)]
    assert sorted(errors) == [False, False, False, True]
    assert "the node died" in jobs[1].stored().error


def test_a_node_of_another_version_says_so(plan, tmp_path):
    assert "no job 0123" in do_jobs(str(plan), str(tmp_path), "cpu", ["0123"], math.inf)


def test_a_node_stops_at_the_end_of_the_time(plan, tmp_path):
    keys = [job.key for job in read_sweep(plan).jobs(tmp_path, "cpu")]
    assert do_jobs(str(plan), str(tmp_path), "cpu", keys, time.time() - 1) == "the time is over"
    assert not (tmp_path / "records").exists()
    with limited():
        assert do_jobs(str(plan), str(tmp_path), "cpu", keys[:1], math.inf) == ""


class Silent:
    """Ray that waits for a cluster for ever."""

    def init(self, **given):
        while True:
            time.sleep(0.01)

    def shutdown(self):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "nowhere.invalid:6379"])
def test_an_address_at_which_nothing_listens_is_refused_at_once(address, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", Silent())
    with pytest.raises(InputError, match=r"there is no cluster .* Start one with: ray start --head"):
        cluster.connected(address).__enter__()


def test_a_cluster_that_does_not_answer_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", Silent())
    monkeypatch.setattr(cluster, "CONNECT", 0.1)
    with pytest.raises(InputError, match=r"--ray auto: there is no cluster \(none answered within"):
        cluster.connected("auto").__enter__()
