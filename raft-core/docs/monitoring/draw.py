#!/usr/bin/env python3
"""Draws what the panels of grafana.json show, from the answers of a Prometheus. Needs matplotlib and requests.

usage: draw.py PROMETHEUS CLUSTER SECONDS OUT [END]

The last SECONDS before END, which is in seconds since 1970; now if it is left out.
"""

import json
import pathlib
import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import requests
from matplotlib.ticker import EngFormatter, MaxNLocator

COLUMNS = 3
STEPS = 150
# Four scrapes of the run that is drawn.
RATE_INTERVAL = "10s"
UNITS = {"s": "s", "bytes": "B", "Bps": "B/s", "ops": "/s"}


def ask(prometheus, expression, seconds, end):
    answer = requests.get(
        f"{prometheus}/api/v1/query_range",
        {"query": expression, "start": end - seconds, "end": end, "step": seconds / STEPS},
        timeout=30,
    ).json()
    if answer["status"] != "success":
        sys.exit(f"{expression}: {answer['error']}")
    return answer["data"]["result"]


def draw(panel, axes, prometheus, cluster, seconds, end):
    curves = 0
    for target in panel["targets"]:
        expression = target["expr"].replace("$cluster", cluster).replace("$__rate_interval", RATE_INTERVAL)
        for one in ask(prometheus, expression, seconds, end):
            label = target["legendFormat"]
            for name, value in one["metric"].items():
                label = label.replace("{{%s}}" % name, value)
            points = [(float(at) - end, float(value)) for at, value in one["values"]]
            # What was zero all the time needs no line in the legend.
            label = label if any(value for _, value in points) else None
            axes.plot(*zip(*points), label=label, linewidth=1)
            curves += 1
    axes.set_title(panel["title"], loc="left", fontsize=9, fontweight="bold")
    axes.set_xlim(-seconds, 0)
    axes.set_ylim(0, 1.5 * max(axes.get_ylim()[1], 1e-9))
    axes.xaxis.set_major_formatter(lambda at, _: f"{at:.0f} s")
    unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], "")
    axes.yaxis.set_major_formatter(EngFormatter(unit))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=unit == ""))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _, labels = axes.get_legend_handles_labels()
    if labels:
        size = 6 if len(labels) <= 6 else 4.5
        axes.legend(fontsize=size, ncols=2, loc="upper left", framealpha=0.7).set_in_layout(False)
    return curves


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    prometheus, cluster, seconds, out = sys.argv[1:5]
    end = float(sys.argv[5]) if len(sys.argv) == 6 else time.time()
    dashboard = json.loads(pathlib.Path(__file__).with_name("grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if "targets" in panel]
    rows = -(-len(panels) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(15, 2.3 * rows), layout="constrained")
    for panel, axes in zip(panels, grid.flat):
        if not draw(panel, axes, prometheus, cluster, float(seconds), end):
            print(f"no data: {panel['title']}")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(out, dpi=90)


main()
