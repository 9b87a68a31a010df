"""Print the table of datasets in docs/datasets.md.

Usage: python docs/datasets.py
"""

import mtmsa_lightning
from mtmsa_lightning.data.audit.published_counts import PUBLISHED
from mtmsa_lightning.data.datasets import CLASSES, RELEASES

HEADER = (
    "| `--data` | labels and images | published size | protocols, the default first |\n" + "| --- " * 4 + "|"
)


def row(name: str) -> str:
    """Return the row of a dataset: its class's summary, the published number of faces and its protocols."""
    datamodule = getattr(mtmsa_lightning, CLASSES[name])
    summary = " ".join(datamodule.__doc__.partition("\n\n")[0].split())
    prefixes = ("imdb+wiki ",) if name == "imdb_wiki" else (f"{name} ",)
    counts = [count for rule, count in PUBLISHED.items() if rule.startswith(prefixes)]
    faces = max((count.get("faces", count.get("rows read", 0)) for count in counts), default=0)
    default = datamodule(root=".").protocol
    protocols = [default, *(each for each in datamodule.protocols if each != default)]
    return f"| `{name}` | {summary} | {faces:,} | {', '.join(f'`{each}`' for each in protocols)} |"


def table() -> str:
    """Return the table as Markdown."""
    return "\n".join([HEADER, *map(row, RELEASES)])


if __name__ == "__main__":
    print(table())
