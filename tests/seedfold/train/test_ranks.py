import subprocess
import sys
from pathlib import Path

from seedfold.train.ranks import gathered

RANK = """
import sys
import torch.distributed as dist
from seedfold.train.ranks import gathered

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
print(gathered([("rank", rank)] * rank + [("all", rank)]))
dist.destroy_process_group()
"""


def test_one_process_has_what_it_has():
    assert gathered([1, 2]) == [1, 2]


def test_every_rank_has_the_items_of_all(tmp_path: Path):
    words = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*words, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0].decode().strip() for process in ranks]
    assert said == ["[('all', 0), ('rank', 1), ('all', 1)]"] * 2
