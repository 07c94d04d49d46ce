"""Running the command under test, and the table of verdicts."""

import collections
import fnmatch
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np


class Failed(Exception):
    """A check that did not hold; the message says what was measured."""


class Known(Exception):
    """A bound that is not met for a reason that README.md explains, and nothing else; neither passed nor failed."""


class Skipped(Exception):
    """A check that could not be put to the command; the message says why."""


class Lacking(Exception):
    """A check that this machine cannot run; the message says what it lacks. Listed at the end, never counted as passed."""


class Bitnet:
    """The command, a scratch folder, and one call per job."""

    def __init__(self, binary, scratch, timeout):
        self.binary, self.scratch, self.timeout = str(binary), pathlib.Path(scratch), timeout
        self.count = 0

    def path(self, suffix):
        self.count += 1
        return self.scratch / f"{self.count:05d}{suffix}"

    def call(self, *arguments, environment=None, stdin=b""):
        """(exit code, stdout bytes, stderr text). A timeout counts as exit 124."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("BITNET_")}
        env.update(environment or {}, NO_COLOR="1")
        try:
            done = subprocess.run([self.binary, *map(str, arguments)], input=stdin, capture_output=True, env=env, timeout=self.timeout)
        except subprocess.TimeoutExpired:
            return 124, b"", f"no answer in {self.timeout} s"
        return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")

    def must(self, *arguments, **more):
        code, out, err = self.call(*arguments, **more)
        if code != 0:
            raise Failed(f"exit {code}: {short(err) or short(out.decode('utf-8', 'replace'))}")
        return out

    def refusal(self, *arguments):
        """The sentence of a call that must be refused. A panic, a signal or a silent exit is a failure."""
        code, out, err = self.call(*arguments)
        if code == 0:
            raise Failed("accepted what it should refuse")
        return self.sentence(code, err)

    def sentence(self, code, err):
        if code < 0 or code >= 124:
            raise Failed(f"ended by a signal or timeout (exit {code}): {short(err)}")
        if "panicked" in err or "RUST_BACKTRACE" in err:
            raise Failed(f"panic: {short(err)}")
        if len(err.strip()) < 20 or " " not in err.strip():
            raise Failed(f"refused without a sentence (exit {code}): {err.strip()!r}")
        return short(err)

    def ids_file(self, ids):
        path = self.path(".json")
        path.write_text(json.dumps(list(ids)))
        return path

    def logits(self, model, ids, *options, environment=None):
        out = self.path(".npy")
        self.must("logits", model, "--ids-file", self.ids_file(ids), "--out", out, *options, environment=environment)
        try:
            values = np.load(out)
        finally:
            out.unlink(missing_ok=True)
        if values.dtype != np.float32 or values.ndim != 2 or values.shape[0] != len(ids):
            raise Failed(f"npy is {values.dtype} {values.shape}, expected float32 [{len(ids)}, vocabulary]")
        return values

    def greedy(self, model, ids, steps, *options):
        arguments = ["run", model, "--ids-file", self.ids_file(ids), "--greedy", "--max-new-tokens", steps, "--ignore-eos", "--print", "ids"]
        out = self.must(*arguments, *options)
        answer = json.loads(out)
        if not isinstance(answer, list) or not all(isinstance(i, int) for i in answer):
            raise Failed(f"stdout is no array of ids: {short(out.decode())}")
        return answer

    def encode(self, model, text, *options):
        path = self.path(".txt")
        path.write_bytes(text.encode("utf-8"))
        try:
            return json.loads(self.must("tokenize", model, "--file", path, *options))
        finally:
            path.unlink(missing_ok=True)

    def decode(self, model, ids, *options):
        return self.must("tokenize", model, json.dumps(list(ids)), "--decode", *options).decode("utf-8")


def short(text, limit=300):
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def difference(got, expected):
    """(max, rms) of the difference; a shape mismatch or a non-finite value is a failure of its own."""
    if got.shape != expected.shape:
        raise Failed(f"shape {got.shape}, expected {expected.shape}")
    if not np.isfinite(got).all():
        raise Failed(f"{int((~np.isfinite(got)).sum())} values are not finite")
    d = got.astype(np.float64) - expected.astype(np.float64)
    return float(np.abs(d).max()), float(np.sqrt((d * d).mean()))


class Table:
    """Prints one row a case as it is known, and counts."""

    def __init__(self, only, verbose):
        self.only, self.verbose = only, verbose
        self.passed, self.skipped, self.known, self.failures = 0, 0, 0, []
        self.lacking = collections.Counter()
        self.started = time.monotonic()

    def wants(self, case):
        return self.only is None or self.only in case or fnmatch.fnmatch(case, self.only)

    def row(self, case, measured, bound, verdict):
        print(f"{verdict:<5} {case:<64} {measured:<40} {bound}", flush=True)

    def run(self, case, bound, check):
        """`check()` returns what was measured, or raises Failed, Skipped, Known or Lacking."""
        if not self.wants(case):
            return None
        try:
            measured = check()
        except Skipped as why:
            self.skipped += 1
            self.row(case, str(why), bound, "skip")
            return None
        except Lacking as why:
            self.lacking[str(why)] += 1
            self.row(case, str(why), bound, "lacks")
            return None
        except Known as why:
            self.known += 1
            self.row(case, str(why), bound, "known")
            return None
        except Failed as why:
            self.failures.append((case, str(why), bound))
            self.row(case, str(why), bound, "FAIL")
            return None
        except (OSError, ValueError, KeyError) as why:
            self.failures.append((case, f"{type(why).__name__}: {why}", bound))
            self.row(case, f"{type(why).__name__}: {short(str(why))}", bound, "FAIL")
            return None
        self.passed += 1
        self.row(case, str(measured), bound, "ok")
        return measured

    def close(self):
        if self.failures:
            print("\nfailures:")
            for case, why, bound in self.failures:
                print(f"  {case}\n      measured: {why}\n      bound:    {bound}")
        if self.known:
            print(f"\n{self.known} known deviations: README.md says why")
        print(f"\n{time.monotonic() - self.started:.0f} s")
        print(f"{self.passed} passed, {len(self.failures)} failed, {self.skipped} skipped, {sum(self.lacking.values())} not possible on this machine")
        # The words by which .ci/run finds them in the output of any step.
        for why, cases in sorted(self.lacking.items()):
            print(f"NOT CHECKED: {cases} black-box cases: {why}")
        return 1 if self.failures else 0


def scratch_folder():
    return tempfile.TemporaryDirectory(prefix="bitnet-check-")


def load_json(path):
    return json.loads(pathlib.Path(path).read_text())


def warn(text):
    print(text, file=sys.stderr)
