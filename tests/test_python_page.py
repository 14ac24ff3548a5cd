"""docs/python.md runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_runs_as_it_stands(tmp_path):
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert code.count("import dgpo") == code.count("import rewards") == code.count("import benchmarks") == 1
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    script = tmp_path / "page.py"
    script.write_text(f'if __name__ == "__main__":\n    exec({code!r})\n')
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "finished 2 [" in done.stdout
    assert "share of the quoted text" in done.stdout
    assert "imagestats.dark@1" in done.stdout
    assert (tmp_path / "results/summary.csv").is_file()


def test_importing_the_three_costs_nothing():
    code = "import sys, dgpo, rewards, benchmarks; print('torch' in sys.modules or 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
