"""Files of deploy/ and the Triton repository, as far as they can be tested without their platforms."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from hostile_requests import GOOD
from running_server import read_source

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.cli import main
from yolopose.config import option_specs
from yolopose.config.serve_options import TritonOptions
from yolopose.serve.triton import write_repository

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=[True, False], ids=["dynamic", "fixed"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    file = tmp_path_factory.mktemp("small") / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    model = YOLO(file)
    return Path(model.export(format="onnx", dynamic=request.param, imgsz=64, simplify=False, verbose=False))


# -- Dockerfile ---------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", read_source("Dockerfile")))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def stage(target: str) -> dict[str, str]:
    """The instructions of a target, after those of the stages that it is based on."""
    stages: dict[str, dict[str, str]] = {}
    name = ""
    for instruction, value in instructions():
        if instruction == "FROM":
            image, _, name = value.split()
            stages[name] = dict(stages.get(image, {}))
        else:
            stages[name][instruction] = value
    return stages[target]


def test_dockerfile_follows_the_rules_of_hadolint() -> None:
    lines = instructions()
    origins = [value.split() for name, value in lines if name == "FROM"]
    targets = {origin[2] for origin in origins}
    images = [image for image, _, _ in origins if image not in targets]
    assert all(re.search(r":\d", image) and not image.endswith(":latest") for image in images)  # DL3006, DL3007
    for target in ("serve", "cli"):
        assert int(stage(target)["USER"]) > 0  # DL3002; a number, as runAsNonRoot of Kubernetes needs
    assert not [name for name, _ in lines if name in ("ADD", "MAINTAINER")]  # DL3020, DL4000
    assert all(value.startswith("[") for name, value in lines if name in ("CMD", "ENTRYPOINT"))  # DL3025
    assert all(value.startswith("/") for name, value in lines if name == "WORKDIR")  # DL3000
    assert not [value for name, value in lines if name == "RUN" and ("apt-get" in value or "sudo" in value)]
    assert any("PIP_NO_CACHE_DIR=1" in value for name, value in lines if name == "ENV")  # DL3042
    assert not re.search(r"(?i)(key|secret|token|password)=", " ".join(value for _, value in lines))
    assert all(int(value) < 65536 for name, value in lines if name == "EXPOSE")  # DL3011
    for name, value in lines:
        if name == "COPY" and not value.startswith("--from"):
            assert all((ROOT / source).exists() for source in value.split()[:-1])


def test_dockerfile_installs_no_torch() -> None:
    (value,) = (value for name, value in instructions() if name == "ARG" and value.startswith("EXTRAS="))
    extras = value.partition("=")[2].strip('"').split(",")
    project = read_source("pyproject.toml")
    listed = {extra: re.search(rf"(?m)^{extra} = \[(.*)\]", project)[1] for extra in extras}
    assert "torch" not in json.dumps(listed)
    assert "serve" in extras
    assert read_source(".dockerignore").split()[0] == "*"


def test_context_of_the_build_contains_what_is_copied() -> None:
    included = {line[1:] for line in read_source(".dockerignore").split() if line.startswith("!")}
    copied = [value.split()[:-1] for name, value in instructions() if name == "COPY" and "--from" not in value]
    assert {source.split("/")[0] for sources in copied for source in sources} <= included


def test_last_target_is_the_command_line() -> None:
    last = [value.split()[2] for name, value in instructions() if name == "FROM"][-1]
    assert json.loads(stage(last)["ENTRYPOINT"]) == ["yolo"]
    assert "HEALTHCHECK" not in stage(last)


def test_entry_point_of_the_container(exported: Path) -> None:
    """It demands a key, and serves with one."""
    lines = stage("serve")
    command = [*json.loads(lines["ENTRYPOINT"]), f"model={exported}", "port=0"]
    assert all(word.split("=")[0] in option_specs("serve") for word in [*command[2:], *json.loads(lines["CMD"])])
    command[:1] = [sys.executable, "-m", "yolopose"]
    environment = {name: value for name, value in os.environ.items() if name != "YOLOPOSE_API_KEY"}
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert "no API key is set" in refused.stderr
    environment["YOLOPOSE_API_KEY"] = "k" * 32
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert any("http://0.0.0.0" in line for line in process.stdout)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


# -- systemd, Kubernetes, Ray Serve ----------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_unit(tmp_path: Path) -> None:
    text = read_source("deploy/yolopose.service")
    command = re.search(r"ExecStart=(.*)", text)[1].split()
    assert command[1] == "serve"
    assert all(word.split("=")[0] in option_specs("serve") for word in command[2:])
    unit = tmp_path / "yolopose.service"
    unit.write_text(text.replace(command[0], sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-500:]  # exposure of at most 2 of 10


def test_kubernetes_manifest() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all(read_source("deploy/kubernetes.yaml")))
    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)
    kinds = {document["kind"]: document for document in documents}
    assert set(kinds) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    template = kinds["Deployment"]["spec"]["template"]
    for selector in (
        kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        kinds["Service"]["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector == template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    port = stage("serve")["EXPOSE"]
    assert [str(entry["containerPort"]) for entry in container["ports"]] == [port]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {probe["path"] for probe in probes.values()} == {"/readyz", "/healthz"}
    assert probes["livenessProbe"]["path"] == "/healthz"  # a busy or stopping server is not restarted
    assert all(word.split("=")[0] in option_specs("serve") for word in container["args"])
    drain = option_specs("serve")["drain"].default
    grace = template["spec"]["terminationGracePeriodSeconds"]
    assert grace > drain + int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert template["spec"]["securityContext"]["runAsUser"] == int(stage("serve")["USER"])
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert kinds["NetworkPolicy"]["spec"]["egress"] == []


def test_ray_serve_example(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application that a replica builds answers; Ray itself is replaced."""
    serve = types.SimpleNamespace(deployments=[])

    def deployment(**options: Any) -> Any:
        def wrap(cls: type) -> Any:
            serve.deployments.append(options)
            return types.SimpleNamespace(bind=lambda: cls)

        return wrap

    def ingress(build: Any) -> Any:
        serve.build = build
        return lambda cls: cls

    serve.deployment, serve.ingress = deployment, ingress
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(serve=serve))
    monkeypatch.setenv("YOLOPOSE_MODEL", str(exported))
    spec = importlib.util.spec_from_file_location("ray_serve_example", ROOT / "deploy/ray_serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (options,) = serve.deployments
    assert options["max_ongoing_requests"] == option_specs("serve")["queue"].default
    app = serve.build()

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://any.name") as client:
            return await client.post("/predict", content=GOOD)

    assert asyncio.run(ask()).status_code == 200
    app.service.close()


# -- Triton -------------------------------------------------------------------------------------------------------


def triton_config(path: Path) -> Any:
    """Parse a config.pbtxt with Triton's own schema, which its client ships."""
    tritonclient = pytest.importorskip("tritonclient")
    text_format = pytest.importorskip("google.protobuf.text_format")
    file = Path(tritonclient.__file__).parent / "grpc/model_config_pb2.py"
    name = "triton_model_config_pb2"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return text_format.Parse(path.read_text(), sys.modules[name].ModelConfig())


class FakeTriton(types.ModuleType):
    """`triton_python_backend_utils` whose inference requests are computed by onnxruntime."""

    def __init__(self, repository: Path) -> None:
        super().__init__("triton_python_backend_utils")
        self._repository = repository
        self.batches: list[tuple[int, ...]] = []
        fake = self

        class Tensor:
            def __init__(self, name: str, array: np.ndarray) -> None:
                self.tensor_name, self._array = name, array

            def name(self) -> str:
                return self.tensor_name

            def as_numpy(self) -> np.ndarray:
                return self._array

        class InferenceResponse:
            def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
                self.tensors, self._error = list(output_tensors), error

            def has_error(self) -> bool:
                return self._error is not None

            def error(self) -> Any:
                return self._error

        class InferenceRequest:
            def __init__(self, model_name: str, requested_output_names: list[str], inputs: list[Any]) -> None:
                self._model, self._names, self._inputs = model_name, requested_output_names, inputs

            def exec(self) -> InferenceResponse:
                import onnxruntime

                session = onnxruntime.InferenceSession(str(fake._repository / self._model / "1/model.onnx"))
                feed = {tensor.name(): tensor.as_numpy() for tensor in self._inputs}
                fake.batches.append(feed["images"].shape)
                outputs = session.run(self._names, feed)
                return InferenceResponse(
                    [Tensor(name, array) for name, array in zip(self._names, outputs, strict=True)]
                )

        self.Tensor, self.InferenceRequest, self.InferenceResponse = Tensor, InferenceRequest, InferenceResponse
        self.TritonError = lambda text: types.SimpleNamespace(message=lambda: text)

    @staticmethod
    def get_input_tensor_by_name(request: Any, name: str) -> Any:
        return request.inputs[name]

    @staticmethod
    def get_output_tensor_by_name(response: Any, name: str) -> Any:
        return next(tensor for tensor in response.tensors if tensor.name() == name)


def test_triton_repository(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models"
    (repository / "mine").mkdir(parents=True)
    for _ in range(2):  # writing again replaces both models
        assert main(["triton", f"model={exported}", f"output={repository}", "name=small", "batch=2"]) == 0
    assert sorted(path.name for path in repository.iterdir()) == ["mine", "small", "small-images"]
    is_dynamic = YOLO(exported)._runtime().metadata.dynamic
    network, images = (triton_config(repository / name / "config.pbtxt") for name in ("small", "small-images"))
    assert (network.name, images.name) == ("small", "small-images")
    assert network.max_batch_size == (2 if is_dynamic else 0)
    assert list(network.input[0].dims) == ([3, -1, -1] if is_dynamic else [1, 3, 64, 64])
    assert network.HasField("dynamic_batching") == is_dynamic
    assert images.backend == "python"
    assert [output.name for output in images.output][-1] == "poses"

    fake = FakeTriton(repository)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake)
    spec = importlib.util.spec_from_file_location("triton_backend", repository / "small-images/1/model.py")
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    model = backend.TritonPythonModel()
    model.initialize({"model_name": "small-images", "model_version": "1"})
    data = np.array([GOOD, GOOD, GOOD], dtype=np.object_)
    requests = [
        types.SimpleNamespace(
            inputs={"image": fake.Tensor("image", data)}, parameters=lambda: '{"conf": 0, "max_det": 20}'
        ),
        types.SimpleNamespace(
            inputs={"image": fake.Tensor("image", np.array([b"text"], dtype=np.object_))}, parameters=lambda: ""
        ),
    ]
    answer, refused = model.execute(requests)
    assert "accepted format" in refused.error().message()
    arrays = {tensor.name(): tensor.as_numpy() for tensor in answer.tensors}
    (tmp_path / "good.png").write_bytes(GOOD)
    (expected,) = YOLO(exported)(tmp_path / "good.png", conf=0, max_det=20, imgsz=64, verbose=False)
    assert arrays["num_detections"].tolist() == [len(expected)] * 3
    assert len(expected) > 0
    np.testing.assert_allclose(arrays["boxes"][: len(expected)], expected.boxes.xyxy, atol=0.01)
    np.testing.assert_allclose(arrays["keypoints"][: len(expected)], expected.keypoints.data, atol=0.01)
    assert max(shape[0] for shape in fake.batches) == (2 if is_dynamic else 1)


@pytest.mark.parametrize("options", [{"model": "x.pt"}, {"model": "x.onnx", "name": "../x"}])
def test_impossible_triton_options(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_repository(TritonOptions(**options, output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    assert main(["triton", f"output={tmp_path / 'out'}"]) == 1
