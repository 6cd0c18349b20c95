"""broken_core.py ROOT COPY MUTATION: writes a copy of the workspace in which one rule of the core is broken.

The mutation is one of raft-core/tests/mutations.txt, or two of them, joined by " + ", if either rule alone keeps the fault away. In the copy the simulator's observer says nothing, so that a run
goes on after the fault, and it is for the specification to find it. Files that are right already are not written anew,
so that cargo builds little.
"""

import pathlib
import re
import subprocess
import sys

root, copy, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]


def mutation(name):
    text = (root / "raft-core/tests/mutations.txt").read_text()
    blocks = [block for block in text.split("\n== ")[1:] if block.startswith(name + "\n")]
    assert len(blocks) == 1, f"{len(blocks)} mutations are named {name!r}"
    return dict(re.findall(r"^(file|in|find|put): *(.*?) *$", blocks[0], re.M))


def broken(text, rule):
    start = text.index(rule["in"]) if "in" in rule else 0
    before, rest = text[:start], text[start:]
    assert rule["find"] in rest, f"the mutation does not fit: {rule['find']}"
    return before + rest.replace(rule["find"], rule.get("put", ""), 1)


def silent(path, text):
    if path.name in ("turn.rs", "worker.rs"):
        return re.sub(r"^( *)(self\.observer\.\w+\(.*\))\?;$", r"\1let _ = \2;", text, flags=re.M)
    if path.name == "cluster.rs":
        begin = "let Err(violation) = verdict else { return };"
        assert text.count(begin) == 1, "the simulator keeps its verdict elsewhere"
        return text.replace(begin, begin + "\n        if self.failure.is_none() { return; }")
    return text


rules = [mutation(part) for part in name.split(" + ")]
files = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=True, text=True).stdout
for file in files.split("\0"):
    if not file or not (root / file).is_file():
        continue
    data = (root / file).read_bytes()
    if file.startswith("raft-core/src/"):
        text = data.decode()
        if file.startswith("raft-core/src/sim/"):
            text = silent(pathlib.Path(file), text)
        for rule in rules:
            if file == "raft-core/src/" + rule["file"]:
                text = broken(text, rule)
        data = text.encode()
    target = copy / file
    if not target.is_file() or target.read_bytes() != data:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
