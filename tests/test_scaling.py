"""How the benchmark of several GPUs reads a profile; its option `--dry` runs everything."""

from benchmarks import scaling


def test_the_time_of_a_step_is_cut_into_computing_communication_and_waiting(monkeypatch):
    monkeypatch.setattr(scaling, "PROFILED", 2)
    spans = [(0, 4, "gemm"), (1, 3, "add"), (3, 8, "ncclDevKernel_AllReduce"), (9, 12, "adam")]
    trace = [
        {"cat": "kernel", "name": n, "ts": 1000 * a, "dur": 1000 * (b - a)} for a, b, n in spans
    ]
    trace.append({"cat": "gpu_user_annotation", "name": "nccl:all_reduce", "ts": 0, "dur": 1e9})
    found = scaling.split_time(trace, *scaling.KERNELS)  # milliseconds of two steps
    assert found == {"computing": 3.5, "communication": 2.5, "exposed": 2.0, "idle": 0.5}
