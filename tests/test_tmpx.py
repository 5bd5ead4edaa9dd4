from pathlib import Path
def test_a(run_folder: Path) -> None:
    import subprocess
    print(subprocess.run(f"find {run_folder} -type f | sort; cat {run_folder}/train/dev.jsonl {run_folder}/bundle/pipeline.json {run_folder}/bundle/manifest.json {run_folder}/evaluation/metrics.json {run_folder}/mine/manifest.json; head -3 {run_folder}/mine/dev.trec {run_folder}/train/steps.jsonl", shell=True, capture_output=True,text=True).stdout)
