"""Prints the steps of a counter-example that TLC found: of each, what it changed."""

import re
import sys

# Of no use to a reader: what the next step does anyway, or what only repeats another variable.
HIDDEN = {"stands", "decided", "match"}


def states(log):
    """The states of the counter-example, each as a dictionary from variable to value."""
    found = []
    for line in log.splitlines():
        if line.startswith("State ") and ": " in line:
            found.append({})
        elif found and (begun := re.match(r"/\\ (\w+) = (.*)", line)):
            name = begun[1]
            found[-1][name] = begun[2]
        elif found and line.startswith(" "):
            found[-1][name] += " " + line.strip()
    return found


def parts(value):
    """A function on servers as a dictionary; any other value as it is."""
    if not (value.startswith("(") and ":>" in value):
        return {"": value}
    found, depth, part = {}, 0, ""
    for piece in re.split(r"(@@|<<|>>|[(){}\[\]])", value.strip()[1:-1]):
        if piece == "@@" and depth == 0:
            key, _, its = part.partition(":>")
            found[f"[{key.strip()}]"], part = its, ""
            continue
        depth += (piece in ("<<", "(", "{", "[")) - (piece in (">>", ")", "}", "]"))
        part += piece
    key, _, its = part.partition(":>")
    return found | {f"[{key.strip()}]": its}


def short(value):
    value = re.sub(r"\s+", " ", value).strip()
    value = re.sub(r'\[ ?term \|-> (\d+), value \|-> Nil, kind \|-> "noop" ?\]', r"noop of \1", value)
    value = re.sub(r'\[ ?term \|-> (\d+), value \|-> (\w+), kind \|-> "command" ?\]', r"\2 of \1", value)
    return value.replace("|->", "=").replace("[ ", "[").replace(" ]", "]")


trace = states(open(sys.argv[1]).read().split("The behavior up to this point is:")[-1])
for number, (before, after) in enumerate(zip(trace, trace[1:]), 1):
    changes = []
    for name in after:
        if name in HIDDEN or after[name] == before[name]:
            continue
        old, new = parts(before[name]), parts(after[name])
        changes += [f"{name}{at} = {short(new[at])}" for at in new if short(new[at]) != short(old.get(at, ""))]
    print(f"    {number:3} " + "\n        ".join(changes))
