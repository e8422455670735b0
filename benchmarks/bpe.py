"""Learn 40,000 merges: `python -m benchmarks.bpe BOOKS [megabytes]` writes results/bpe.json.

BOOKS is a folder of .txt files; the first `megabytes` (default 50) of them are used. Each learner
runs in a process of its own, five times in turn with the others; the table shows medians.

* words, marks: white space and punctuation part words (`Whitespace` of `tokenizers`)
* words: only white space does (`WhitespaceSplit`)
* original: OpenAI's text pipeline (ftfy and spaCy); counting is timed apart, once

At the end the merges are compared: is it a tie wherever the two learners choose differently?
"""

import argparse
import heapq
import json
import os
import pickle
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

from minigpt.bpe import Pair, SymbolList, learn_merges, merge_everywhere

RESULTS = Path(__file__).parent / "results" / "bpe.json"
MERGES = 40_000
ROUNDS = 5
WORKERS = 2
MARKS = re.compile(r"\w+|[^\w\s]+")  # what the `Whitespace` of `tokenizers` splits at


# -- counting the words


def first_files(folder: str, megabytes: float) -> list[str]:
    """The .txt files below `folder`, in order, until they hold `megabytes`."""
    chosen, size = [], 0
    for path in sorted(Path(folder).rglob("*.txt")):
        if size >= megabytes * 1e6:
            break
        chosen.append(str(path))
        size += path.stat().st_size
    return chosen


def count_chunks(paths: list[str]) -> Counter:
    """Count what stands between white space, file by file."""
    chunks = Counter()
    for path in paths:
        chunks.update(Path(path).read_text(encoding="utf-8").split())
    return chunks


def count_original(paths: list[str]) -> Counter:
    from minigpt.tokenizer import split_words

    words = Counter()
    for path in paths:
        words.update(split_words(Path(path).read_text(encoding="utf-8")))
    return words


def count_in_parallel(count, paths: list[str]) -> Counter:
    """Share the files among processes; each holds one text at a time."""
    shares = [paths[first::WORKERS] for first in range(WORKERS)]
    with Pool(WORKERS) as pool:
        total, *others = pool.map(count, shares)
    for counts in others:
        total.update(counts)
    return total


def split_chunks(chunks: Counter, split) -> Counter:
    """Split every different chunk once, not as often as it occurs."""
    words = Counter()
    for chunk, count in chunks.items():
        for word in split(chunk):
            words[word] += count
    return words


def count_marks(paths: list[str]) -> Counter:
    return split_chunks(count_chunks(paths), lambda chunk: MARKS.findall(chunk.lower()))


def count_space(paths: list[str]) -> Counter:
    return split_chunks(count_chunks(paths), lambda chunk: [chunk.lower()])


COUNT = {"marks": count_marks, "space": count_space}


# -- the learners, each run in a process of its own: ours/theirs/learn KIND PATHS RESULT


def ours(kind: str, paths: list[str]) -> dict:
    begin = time.perf_counter()
    counts = count_in_parallel(COUNT[kind], paths)
    counted = time.perf_counter()
    merges = learn_merges(counts, MERGES)
    end = time.perf_counter()
    return {"counting": counted - begin, "learning": end - counted, "merges": merges}


def theirs(kind: str, paths: list[str]) -> dict:
    """Train with the library; `kind` also says how many letters come before the merges."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    kind, pieces = kind.split("+")
    begin = time.perf_counter()
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Whitespace if kind == "marks" else pre_tokenizers.WhitespaceSplit
    tokenizer.pre_tokenizer = split()
    trainer = trainers.BpeTrainer(
        vocab_size=MERGES + int(pieces),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train(paths, trainer)
    end = time.perf_counter()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {"together": end - begin, "merges": [tuple(pair) for pair in merges]}


def learn(kind: str, paths: list[str]) -> dict:
    """Learn from the counts of the original pipeline, pickled in the file `paths[0]`."""
    counts = pickle.loads(Path(paths[0]).read_bytes())
    begin = time.perf_counter()
    merges = learn_merges(counts, MERGES)
    return {"learning": time.perf_counter() - begin, "merges": merges}


def gib_of(process) -> float:
    """Memory of a process and its children now, in GiB (shared pages are counted once)."""
    import psutil

    used = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            used += one.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return used / 2**30


def measured(learner: str, kind: str, paths: list[str]) -> dict:
    """Run one learner in a fresh process; add its peak memory, children included."""
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.pickle")
        command = [sys.executable, "-m", "benchmarks.bpe", "--run", learner, kind, str(answer)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        process.stdin.write("\n".join(paths))
        process.stdin.close()
        watched, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, gib_of(watched))
            time.sleep(0.2)
        if process.returncode:
            raise RuntimeError(f"{learner} {kind} ended with code {process.returncode}")
        return pickle.loads(answer.read_bytes()) | {"gib": peak}


def run_one(learner: str, kind: str, answer: str) -> None:
    paths, before = sys.stdin.read().split("\n"), sum(os.times()[:4])
    result = globals()[learner](kind, paths)
    result["processor"] = sum(os.times()[:4]) - before  # all cores, children too
    Path(answer).write_bytes(pickle.dumps(result))


# -- what differs


def their_words(kind: str, paths: list[str]) -> Counter:
    """The words as `tokenizers` itself splits them."""
    from tokenizers import normalizers, pre_tokenizers

    split = pre_tokenizers.Whitespace() if kind == "marks" else pre_tokenizers.WhitespaceSplit()
    lower = normalizers.Lowercase()
    return split_chunks(
        count_in_parallel(count_chunks, paths),
        lambda chunk: [word for word, _ in split.pre_tokenize_str(lower.normalize_str(chunk))],
    )


def not_ties(word_counts: Counter, merges: list[Pair]) -> list[int]:
    """Replay `merges`: the steps at which another pair was more frequent than the one chosen."""
    words, wrong = SymbolList(word_counts), []
    heap = [(-count, pair) for pair, count in words.pair_counts.items()]
    heapq.heapify(heap)
    for step, chosen in enumerate(merges):
        while -heap[0][0] != words.pair_counts[heap[0][1]]:  # bring the top of the heap up to date
            _, pair = heapq.heappop(heap)
            heapq.heappush(heap, (-words.pair_counts[pair], pair))
        if words.pair_counts[chosen] != -heap[0][0]:
            wrong.append(step)
        for pair in merge_everywhere(words, chosen):
            heapq.heappush(heap, (-words.pair_counts[pair], pair))
    return wrong


def compare(kind: str, paths: list[str], mine: list[Pair], other: list[Pair]) -> dict:
    pairs = list(zip(mine, other, strict=False))
    first = next((step for step, (a, b) in enumerate(pairs) if a != b), None)
    words = their_words(kind, paths)
    own = count_in_parallel(COUNT[kind], paths)
    return {
        "merges": [len(mine), len(other)],
        "in both": len(set(mine) & set(other)),
        "at the same place": sum(a == b for a, b in pairs),
        "first difference at merge": first,
        "words split otherwise": ((own - words).total(), own.total()),
        "steps of theirs that are no tie": len(not_ties(words, other)),
        "steps of ours that are no tie": len(not_ties(own, mine)),
    }


def count_letters(kind: str, paths: list[str]) -> int:
    """How many pieces `tokenizers` has before the first merge: letters, and final letters."""
    words = their_words(kind, paths)
    return len(set("".join(words))) + len({word[-1] for word in words})


# -- the table


def median_of(runs: list[dict]) -> dict:
    names = [name for name in runs[0] if name != "merges"]
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in names}


def main(books: str, megabytes: float) -> None:
    import tokenizers

    paths = first_files(books, megabytes)
    begin = time.perf_counter()
    counts = count_in_parallel(count_original, paths)
    counting = time.perf_counter() - begin
    marks, space = (f"{kind}+{count_letters(kind, paths)}" for kind in ("marks", "space"))
    with tempfile.TemporaryDirectory() as folder:
        pickled = Path(folder, "counts.pickle")
        pickled.write_bytes(pickle.dumps(counts))
        jobs = {
            "minigpt, words and marks": ("ours", "marks", paths),
            "tokenizers, words and marks": ("theirs", marks, paths),
            "minigpt, white space": ("ours", "space", paths),
            "tokenizers, white space": ("theirs", space, paths),
            "minigpt, original counts": ("learn", "original", [str(pickled)]),
        }
        runs = {name: [] for name in jobs}
        for _ in range(ROUNDS):  # in turn, so that a busy moment hits them alike
            for name, job in jobs.items():
                runs[name].append(measured(*job))
    table = {name: median_of(samples) for name, samples in runs.items()}
    for row in table.values():
        if "counting" in row:
            row["together"] = round(row["counting"] + row["learning"], 2)
    merges = {name: samples[0]["merges"] for name, samples in runs.items()}
    result = {
        "command": f"python -m benchmarks.bpe BOOKS {megabytes:g}",
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "versions": {"python": platform.python_version(), "tokenizers": tokenizers.__version__},
        "text": {
            "files": len(paths),
            "megabytes": round(sum(Path(path).stat().st_size for path in paths) / 1e6, 1),
            "different words, original pipeline": len(counts),
            "counting with the original pipeline, seconds": round(counting, 1),
        },
        "seconds and GiB, median of 5": table,
        "same every time": {
            name: all(run["merges"] == samples[0]["merges"] for run in samples)
            for name, samples in runs.items()
        },
        "merges compared": {
            name: compare(kind, paths, merges[f"minigpt, {name}"], merges[f"tokenizers, {name}"])
            for name, kind in {"words and marks": "marks", "white space": "space"}.items()
        },
    }
    for name, row in table.items():
        print(f"{name:30}", *(f"{key} {value:6.2f}" for key, value in row.items()), sep="  ")
    print(json.dumps({key: result[key] for key in ("text", "same every time")}, indent=1))
    print(json.dumps(result["merges compared"], indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_one(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
        parser.add_argument("books", help="a folder of .txt files")
        parser.add_argument("megabytes", type=float, nargs="?", default=50)
        main(**vars(parser.parse_args()))
