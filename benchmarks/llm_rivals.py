"""Other data makers' clients on the same wire, each in an environment of its own: Curator and DataDesigner, as their users call them.

    python benchmarks/llm_rivals.py --make curator           make its environment under the user's cache folder (minutes, 1 GB)
    PYTHON_OF_THAT benchmarks/llm_rivals.py curator URL CALLS     one measured run, printed as one line of JSON

`benchmarks/llm.py` runs what is there and skips, with a reason, what is not.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LANES = 64
PACKAGES = {"curator": "bespokelabs-curator==0.1.31", "designer": "data-designer==0.9.6"}
TOKENIZERS = "lib/python{}.{}/site-packages/litellm/litellm_core_utils/tokenizers".format(*sys.version_info)
HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "zhiling-bench"


def prompt(i: int) -> str:
    return f"Prompt number {i}: say in one sentence whether this instruction is clear and why. Instruction: translate the sentence below."


def python(name: str) -> Path:
    """The rival's interpreter, whether it is there or not."""
    return HOME / name / "bin" / "python"


def make(name: str) -> None:
    """Make the rival's environment."""
    subprocess.run([sys.executable, "-m", "venv", str(HOME / name)], check=True)
    subprocess.run([str(python(name)), "-m", "pip", "install", "--quiet", PACKAGES[name]], check=True, timeout=600)


def curator(url: str, calls: int, folder: str) -> int:
    """Curator's LLM over a dataset of prompts; how many rows have an answer."""
    from bespokelabs import curator
    from datasets import Dataset

    params = {
        "base_url": url,
        "max_concurrent_requests": LANES,
        "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 10_000_000_000,
        "max_retries": 10,
        "require_all_responses": False,
        "api_key": "none",
    }

    class Asker(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, str]) -> str:
            return row["prompt"]

        def parse(self, row: dict[str, str], answer: str) -> dict[str, str]:
            return {"answer": answer}

    settings = {"max_tokens": 64, "temperature": 0}
    llm = Asker(model_name="bench", backend="openai", backend_params=params, generation_params=settings)
    rows = Dataset.from_dict({"prompt": [prompt(i) for i in range(calls)]})
    found = llm(rows, working_dir=folder)
    return len(getattr(found, "dataset", found))


def designer(url: str, calls: int, folder: str) -> int:
    """One text column of DataDesigner; how many rows came out."""
    import data_designer.config as dd
    from data_designer.interface import DataDesigner

    provider = dd.ModelProvider(name="loop", endpoint=url, provider_type="openai", api_key="none")
    inference = dd.ChatCompletionInferenceParams(max_tokens=64, temperature=0.0, max_parallel_requests=LANES)
    model = dd.ModelConfig(alias="m", model="bench", provider="loop", inference_parameters=inference)
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.add_column(
        dd.SamplerColumnConfig(name="number", sampler_type=dd.SamplerType.UUID, params=dd.UUIDSamplerParams())
    )
    config.add_column(dd.LLMTextColumnConfig(name="answer", model_alias="m", prompt=prompt(0) + " {{ number }}"))
    made = DataDesigner(artifact_path=folder, model_providers=[provider])
    return len(made.create(config, num_records=calls).load_dataset())


def main() -> None:
    if sys.argv[1] == "--make":
        make(sys.argv[2])
        return
    name, url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for variable, value in {
        "TELEMETRY_ENABLED": "false",
        "NEMO_TELEMETRY_ENABLED": "false",
        "OPENAI_API_KEY": "none",
    }.items():
        os.environ.setdefault(variable, value)
    # litellm, which Curator brings, carries the encoding that Curator would fetch from the network
    if (encodings := python(name).parent.parent / TOKENIZERS).is_dir():
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(encodings))
    run = {"curator": curator, "designer": designer}[name]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CURATOR_CACHE_DIR"] = folder
        run(url, 8, folder + "/warm")  # imports and first connections are not counted
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        rows = run(url, calls, folder + "/run")
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"client": name, "calls": calls, "rows": rows, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)}
    print(json.dumps({**found, "rss_mb": round(after.ru_maxrss / 1024, 1)}))


if __name__ == "__main__":
    main()
