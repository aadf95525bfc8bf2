"""Engines: the same results whatever runs them; a dead worker is one clear line."""

import pytest

from zhiling.engine import Job, open_engine
from zhiling.errors import DataError, EngineError, RecipeError

JOBS = [Job(f"k{i}", "builtins:dict", {"value": i, "text": "指令"}) for i in range(25)]
EXPECTED = {f"k{i}": {"value": i, "text": "指令"} for i in range(25)}


@pytest.mark.parametrize("workers", [1, 3])
def test_local_processes_give_every_result_once(workers):
    engine = open_engine("local", workers)
    found = list(engine.run(JOBS))
    engine.close()
    assert len(found) == 25 and dict(found) == EXPECTED


def test_an_error_of_a_job_comes_out_whole():
    engine = open_engine("local", 2)
    jobs = [Job("k", "zhiling.data:rows", {"path": __import__("pathlib").Path("none.csv")})]
    with pytest.raises(DataError, match="no such file"):
        list(engine.run(jobs))
    engine.close()


def test_a_worker_that_dies_is_one_clear_line():
    engine = open_engine("local", 2)
    with pytest.raises(EngineError, match="a worker process died — it was killed, perhaps for memory"):
        list(engine.run([Job("k", "os:_exit", {"status": 9})]))
    assert dict(engine.run(JOBS[:2])) == {
        key: EXPECTED[key] for key in ("k0", "k1")
    }  # and the next batch gets new workers
    engine.close()


def test_a_long_list_of_jobs_is_not_read_ahead():
    taken = []

    def jobs():
        for job in JOBS:
            taken.append(job.key)
            yield job

    engine = open_engine("local", 2)
    next(stream := engine.run(jobs()))
    assert len(taken) <= 5
    stream.close()
    engine.close()


def test_an_unknown_engine_is_named():
    with pytest.raises(RecipeError, match="unknown engine 'spark'"):
        open_engine("spark")


@pytest.mark.slow
def test_ray_gives_the_same():
    pytest.importorskip("ray")
    engine = open_engine("ray", 2)
    try:
        assert dict(engine.run(JOBS)) == EXPECTED
        with pytest.raises(DataError, match="no such file"):
            list(engine.run([Job("k", "zhiling.data:rows", {"path": __import__("pathlib").Path("none.csv")})]))
    finally:
        engine.close()
