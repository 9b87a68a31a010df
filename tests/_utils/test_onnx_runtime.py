import subprocess
import sys

DETECTOR = "from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace; TinyRetinaFace()"


def test_onnx_runtime_writes_no_telemetry(tmp_path, monkeypatch):
    """A process of its own: the telemetry starts at the import, with the environment of that moment."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    subprocess.run([sys.executable, "-c", DETECTOR], check=True, timeout=120)
    assert list(tmp_path.rglob("*")) == []
