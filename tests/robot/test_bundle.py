"""ControllerBundle: what is written is what runs, and anything else is refused with a sentence."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from robot import bundle, cli, config, machine, signature
from robot.bundle import BundleRefused
from robot.config import ConfigError
from robot.driver import DriverError, StaleState
from robot.observation import Observation, signals_of
from robot.spec import RobotSpec
from robot.state import Joints, Sample
from tests.robot.fakes import ACTION, OBSERVATION, make_bundle, network

ALL = (*bundle.FILES, "signature.json")


@pytest.fixture
def made(tmp_path: Path, two_link: RobotSpec) -> Path:
    return make_bundle(tmp_path / "bundle", two_link)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A private key, its public key, and somebody else's public key, as PEM files."""
    folder = tmp_path_factory.mktemp("keys")
    private, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "private.pem").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "public.pem").write_bytes(private.public_key().public_bytes(pem, form))
    (folder / "other.pem").write_bytes(other.public_key().public_bytes(pem, form))
    return folder / "private.pem", folder / "public.pem", folder / "other.pem"


def sample(spec: RobotSpec, seed: int = 0, **more: object) -> Sample:
    rng, n = np.random.default_rng(seed), len(spec.joints)
    position, velocity, effort = rng.normal(size=(3, n))
    joints = Joints(names=spec.joint_names, t_ns=5, position=position, velocity=velocity, effort=effort)
    return Sample(t_ns=7, joints=joints, **more)  # type: ignore[arg-type]


def test_loaded_controller_does_what_the_network_says(made: Path, two_link: RobotSpec) -> None:
    controller = bundle.load(made)
    assert (controller.spec, controller.period_ns, controller.task) == (two_link, 10_000_000, "hold_still")
    encoder = Observation(two_link, OBSERVATION, ACTION)
    for seed in range(4):
        reading = sample(two_link, seed)
        inputs = encoder.encode(signals_of(reading, two_link))
        expected = encoder.decode(controller.infer(dict(inputs))["action"])[0]
        command = controller.act(reading)
        np.testing.assert_array_equal(command.effort, expected)
        assert command.names == two_link.joint_names and command.t_ns == 7
    first = controller.act(sample(two_link)).effort
    controller.reset()
    again = controller.act(sample(two_link)).effort
    controller.reset()
    np.testing.assert_array_equal(controller.act(sample(two_link)).effort, again)
    assert not np.array_equal(first, again)  # the previous action is part of what it sees


def test_same_arguments_give_the_same_bytes(tmp_path: Path, two_link: RobotSpec, keys: tuple[Path, ...]) -> None:
    a, b = (make_bundle(tmp_path / name, two_link, key=keys[0]) for name in "ab")
    for name in ALL:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("signed", [False, True])
def test_one_byte_changed_anywhere_is_refused_by_name(
    tmp_path: Path, two_link: RobotSpec, keys: tuple[Path, ...], name: str, signed: bool
) -> None:
    made = make_bundle(tmp_path / "bundle", two_link, key=keys[0] if signed else None)
    whole = (made / name).read_bytes()
    rng = np.random.default_rng(len(whole))
    few = name != "signature.json"
    places = rng.integers(0, len(whole), 3) if few else range(0, len(whole), 1 if signed else 4)
    for place in places:
        damaged = bytearray(whole)
        # changing the case of a letter writes the same hex digit in another way: that too is a changed byte
        damaged[place] ^= 0x20 if chr(whole[place]).isalpha() and place % 2 else 0x01
        (made / name).write_bytes(damaged)
        with pytest.raises(BundleRefused, match=re.escape(name)):
            bundle.load(made)
    (made / name).write_bytes(whole)
    bundle.load(made)


@pytest.mark.parametrize("name", ALL)
def test_verify_and_run_refuse_a_changed_byte(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data = bytearray((made / name).read_bytes())
    data[len(data) // 2] ^= 1
    (made / name).write_bytes(data)
    assert cli.main(["verify", f"bundle={made}", f"out={tmp_path / 'v'}"]) == 4
    assert name in capsys.readouterr().out
    failed = [c for c in json.loads((tmp_path / "v" / "result.json").read_text())["checks"] if not c["ok"]]
    assert len(failed) == 1 and str(made / name) in failed[0]["detail"]
    assert cli.main(["run", f"bundle={made}", "driver=sim", "seconds=1", f"out={tmp_path / 'r'}"]) == 4
    error = capsys.readouterr().err
    assert str(made / name) in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "r").exists()


def test_missing_extra_and_linked_files_are_refused(made: Path, tmp_path: Path) -> None:
    (made / "extra.py").write_text("print()")
    with pytest.raises(BundleRefused, match=r"extra\.py: does not belong"):
        bundle.load(made)
    (made / "extra.py").unlink()
    moved = (made / "monitor.npz").rename(tmp_path / "elsewhere.npz")
    with pytest.raises(BundleRefused, match=r"monitor\.npz: is missing"):
        bundle.load(made)
    (made / "monitor.npz").symlink_to(moved)
    with pytest.raises(BundleRefused, match=r"monitor\.npz: is a link"):
        bundle.load(made)
    with pytest.raises(BundleRefused, match="no bundle here"):
        bundle.load(tmp_path / "nowhere")
    (made / "signature.json").unlink()
    with pytest.raises(BundleRefused, match=r"signature\.json: is missing"):
        bundle.load(made)


def resign(folder: Path, **changes: bytes) -> None:
    """Change files and make the digests right again, as somebody without a key can."""
    contents = {name: (folder / name).read_bytes() for name in bundle.FILES}
    for name, data in changes.items():
        contents[name.replace("__", ".")] = data
    for name, data in contents.items():
        if name in bundle.FILES:
            (folder / name).write_bytes(data)
    (folder / "signature.json").write_bytes(signature.sign(contents))


def test_path_outside_the_folder_cannot_be_listed(made: Path) -> None:
    contents = {name: (made / name).read_bytes() for name in bundle.FILES}
    for name in ("../evil.py", "/etc/passwd", "sub/policy.onnx"):
        (made / "signature.json").write_bytes(signature.sign({**contents, name: b""}))
        with pytest.raises(BundleRefused, match=re.escape(name)):
            bundle.load(made)


def test_unknown_schemas_are_refused(made: Path) -> None:
    text = (made / "manifest.yaml").read_text()
    for schema in ("9", "0", "'2'", "null"):
        resign(made, manifest__yaml=text.replace("schema: 2", f"schema: {schema}", 1).encode())
        with pytest.raises(BundleRefused, match=rf"manifest\.yaml: schema {schema.replace('null', 'None')} is unknown"):
            bundle.load(made)
    resign(made, manifest__yaml=text.encode())
    document = json.loads((made / "signature.json").read_text())
    (made / "signature.json").write_text(json.dumps({"schema": 9}))
    with pytest.raises(BundleRefused, match=r"signature\.json: schema 9"):
        bundle.load(made)
    (made / "signature.json").write_text(json.dumps(document | {"mediaType": "application/x"}))
    with pytest.raises(BundleRefused, match=r"signature\.json: media type 'application/x' is unknown"):
        bundle.load(made)


def test_other_robot_is_refused_by_both_names(made: Path, two_link: RobotSpec, tmp_path: Path) -> None:
    other = dataclasses.replace(two_link, name="three_link")
    with pytest.raises(BundleRefused, match=r"manifest\.yaml: made for robot 'two_link'.*this is 'three_link'"):
        bundle.load(made, spec=other)
    assert bundle.load(made, spec=two_link).spec == two_link
    config.save(tmp_path / "other.yaml", {"spec": other})
    for words in (["verify"], ["run", "driver=sim", "seconds=1"]):
        assert cli.main([*words, f"bundle={made}", f"robot={tmp_path / 'other.yaml'}", f"out={tmp_path / 'o'}"]) == 4


def test_spec_that_does_not_match_its_fingerprint_is_refused(made: Path) -> None:
    text = (made / "manifest.yaml").read_text()
    resign(made, manifest__yaml=text.replace("effort_limit: 2.0", "effort_limit: 9.0").encode())
    with pytest.raises(BundleRefused, match="fingerprint"):
        bundle.load(made)


def test_network_that_computes_something_else_is_refused(made: Path, two_link: RobotSpec) -> None:
    size = Observation(two_link, OBSERVATION, ACTION).size
    resign(made, policy__onnx=network({"observation": (size,)}, 2, seed=5))
    with pytest.raises(BundleRefused, match=r"golden\.npz: replayed, '(action|command)' differs by"):
        bundle.load(made)
    names = [c["name"] for c in bundle.checks(made)]
    assert names[-1] == "golden" and [c["ok"] for c in bundle.checks(made)] == [True] * (len(names) - 1) + [False]


def test_privileged_input_is_refused(made: Path, two_link: RobotSpec, tmp_path: Path) -> None:
    size = Observation(two_link, OBSERVATION, ACTION).size
    with pytest.raises(BundleRefused, match=r"policy\.onnx: wants 'base_velocity', which robot 'two_link' cannot"):
        make_bundle(tmp_path / "b", two_link, onnx=network({"observation": (size,), "base_velocity": (3,)}, 2))
    with pytest.raises(BundleRefused, match="'observation' has shape"):
        make_bundle(tmp_path / "b", two_link, onnx=network({"observation": (size + 1,)}, 2))
    with pytest.raises(BundleRefused, match="no output 'action' of 2"):
        make_bundle(tmp_path / "b", two_link, onnx=network({"observation": (size,)}, 3))
    assert not (tmp_path / "b").exists()


def test_failed_write_keeps_the_bundle_that_was_there(made: Path, two_link: RobotSpec) -> None:
    before = {p.name: p.read_bytes() for p in made.iterdir()}
    wrong = {"action": np.zeros((20, 2), np.float32)}
    with pytest.raises(BundleRefused, match="differs by") as caught:
        make_bundle(made, two_link, golden_outputs=wrong)
    assert str(caught.value).startswith(f"{made / 'golden.npz'}: ")  # not the temporary folder's name
    assert {p.name: p.read_bytes() for p in made.iterdir()} == before
    assert [p.name for p in made.parent.iterdir()] == ["bundle"]


def test_pinned_key_accepts_its_owner_alone(tmp_path: Path, two_link: RobotSpec, keys: tuple[Path, ...]) -> None:
    private, public, other = keys
    signed = make_bundle(tmp_path / "signed", two_link, key=private)
    plain = make_bundle(tmp_path / "plain", two_link)
    assert bundle.load(signed, key=public).digest == bundle.load(plain).digest
    with pytest.raises(BundleRefused, match=r"signature\.json: signed by another key"):
        bundle.load(signed, key=other)
    with pytest.raises(BundleRefused, match=r"signature\.json: the bundle is not signed"):
        bundle.load(plain, key=public)
    resign(signed, README__md=b"changed by somebody without the key")
    assert bundle.load(signed).task == "hold_still"  # whole, but no longer signed
    with pytest.raises(BundleRefused, match="not signed"):
        bundle.load(signed, key=public)


def test_signature_of_another_bundle_does_not_fit(tmp_path: Path, two_link: RobotSpec, keys: tuple[Path, ...]) -> None:
    signed = make_bundle(tmp_path / "signed", two_link, key=keys[0])
    other = make_bundle(tmp_path / "other", two_link, key=keys[0], task="something_else")
    document, foreign = (json.loads((folder / "signature.json").read_text()) for folder in (other, signed))
    document["dsseEnvelope"]["signatures"] = foreign["dsseEnvelope"]["signatures"]
    (other / "signature.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    with pytest.raises(BundleRefused, match="ECDSA signature is not valid"):
        bundle.load(other)


def test_wrong_key_file_is_a_usage_error(made: Path, keys: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no key")
    signed = make_bundle(tmp_path / "signed", bundle.load(made).spec, key=keys[0])
    for key in (tmp_path / "no.pem", tmp_path / "missing.pem", keys[0]):
        with pytest.raises(ConfigError, match="key=") as caught:
            bundle.load(signed, key=key)
        assert caught.value.exit_code == 2


def test_shutil_copy_of_a_bundle_still_loads(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    (tmp_path / "current").symlink_to(tmp_path / "copy")
    assert bundle.load(tmp_path / "current").digest == bundle.load(made).digest


def test_history_images_and_state_reach_the_network(tmp_path: Path, two_link: RobotSpec) -> None:
    observation = dataclasses.replace(OBSERVATION, history=4, cameras=("side",))
    made = make_bundle(tmp_path / "b", two_link, observation, state=3)
    controller = bundle.load(made)
    with pytest.raises(StaleState, match="'side' has given no image yet"):
        controller.act(sample(two_link))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8, 10, 3), dtype=np.uint8) for _ in range(3)]
    encoder = Observation(two_link, observation, ACTION)
    controller.reset()
    memory = np.zeros((1, 3), np.float32)
    for k, image in enumerate([images[0], None, images[1], images[2]]):
        reading = sample(two_link, k, images={} if image is None else {"side": (k, image)})
        shown = images[0] if image is None else image  # a camera slower than the loop: its newest image stays
        inputs = dict(encoder.encode(signals_of(reading, two_link))) | {
            "image_side": shown.transpose(2, 0, 1)[None],
            "state_memory": memory,
        }
        outputs = bundle.load(made).infer(inputs)
        memory = outputs["state_memory_next"]
        np.testing.assert_array_equal(controller.act(reading).effort, encoder.decode(outputs["action"])[0])
    assert controller.action is not None and np.abs(memory).sum() > 0


def test_image_of_another_size_is_cut_and_resized(tmp_path: Path, two_link: RobotSpec) -> None:
    from robot.controller import resized

    image = np.zeros((24, 40, 3), np.uint8)
    image[:, 5:35] = (10, 20, 30)  # the middle 30 columns are what an 8 x 10 view keeps
    fitted = resized(image, (8, 10))
    assert fitted.shape == (8, 10, 3) and fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted.reshape(-1, 3), np.tile([10, 20, 30], (80, 1)))
    with pytest.raises(DriverError, match="uint8"):
        resized(np.zeros((8, 10), np.uint8), (8, 10))


def test_goal_is_part_of_what_the_policy_sees(tmp_path: Path, two_link: RobotSpec) -> None:
    observation = dataclasses.replace(OBSERVATION, features=("joint_velocity", "goal"), goal=("x",))
    controller = bundle.load(make_bundle(tmp_path / "b", two_link, observation))
    at_zero = controller.act(sample(two_link)).effort
    controller.goal = np.array([2.0])
    assert not np.array_equal(controller.act(sample(two_link)).effort, at_zero)


def test_permuted_reading_gives_the_same_command(made: Path, two_link: RobotSpec) -> None:
    straight = sample(two_link)
    j = straight.joints
    swapped = Joints(
        names=j.names[::-1], t_ns=5, position=j.position[::-1], velocity=j.velocity[::-1], effort=j.effort[::-1]
    )
    a, b = bundle.load(made), bundle.load(made)
    np.testing.assert_array_equal(a.act(straight).effort, b.act(dataclasses.replace(straight, joints=swapped)).effort)


def test_pages_for_people_say_what_it_is(made: Path) -> None:
    card = (made / "README.md").read_text()
    assert "hold_still on two_link" in card and "success" in card and "terrafirma verify" in card
    assert "<title>hold_still on two_link</title>" in (made / "report.html").read_text()


def test_npz_with_objects_is_not_unpickled(made: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, command=np.array([{"x": 1}], dtype=object))
    resign(made, golden__npz=stream.getvalue())
    with pytest.raises(BundleRefused, match=r"golden\.npz: cannot be replayed"):
        bundle.load(made)


def test_period_must_be_a_multiple_of_the_robots(tmp_path: Path, two_link: RobotSpec) -> None:
    assert bundle.load(make_bundle(tmp_path / "b", two_link, control_period_s=0.02)).period_ns == 20_000_000
    with pytest.raises(ConfigError, match="whole multiple"):
        make_bundle(tmp_path / "c", two_link, control_period_s=0.015)


def test_other_control_rate_is_refused(made: Path, tmp_path: Path) -> None:
    assert bundle.load(made, rate_hz=100.0).period_ns == 10_000_000
    with pytest.raises(BundleRefused, match=r"manifest\.yaml: made for a control rate of 100 Hz, not 200 Hz"):
        bundle.load(made, rate_hz=200.0)
    for words in (["verify"], ["run", "driver=sim", "seconds=1"]):
        assert cli.main([*words, f"bundle={made}", "rate=200", f"out={tmp_path / 'o'}"]) == 4


@pytest.mark.parametrize(("opset", "domain"), [(99, ""), (7, ""), (1, "com.example")])
def test_operators_that_not_every_runtime_has_are_refused(made: Path, opset: int, domain: str) -> None:
    model = onnx.load(made / "policy.onnx")
    if domain:
        model.opset_import.append(onnx.helper.make_opsetid(domain, opset))
    else:
        model.opset_import[0].version = opset
    resign(made, policy__onnx=model.SerializeToString())
    with pytest.raises(BundleRefused, match=r"policy\.onnx: wants (opset|operators)"):
        bundle.load(made)


def test_opsets_are_read_as_the_onnx_package_reads_them(made: Path) -> None:
    data = (made / "policy.onnx").read_bytes()
    assert machine.opsets_of(data) == {o.domain: o.version for o in onnx.load_from_string(data).opset_import}
    rng = np.random.default_rng(0)
    for _ in range(2000):
        with contextlib.suppress(ValueError):  # nothing else may come of garbage
            machine.opsets_of(rng.bytes(int(rng.integers(0, 60))))


def test_network_whose_weights_lie_outside_the_file_is_refused(made: Path) -> None:
    model = onnx.load(made / "policy.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    tensor.ClearField("raw_data")
    resign(made, policy__onnx=model.SerializeToString())
    with pytest.raises(BundleRefused, match=r"policy\.onnx: onnxruntime cannot load it"):
        bundle.load(made)


def test_golden_outputs_are_held_to_the_tolerance_of_this_class_of_processor(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(made / "golden.npz") as archive:
        golden = dict(archive)
    golden["output.action"] = golden["output.action"] + np.float32(4e-5)
    golden["command"] = golden["command"] + 4e-5
    resign(made, golden__npz=npz(golden))
    with pytest.raises(BundleRefused, match=rf"differs by .*\(allowed 1e-05 on {machine.cpu_class()}\)"):
        bundle.load(made)
    monkeypatch.setattr("robot.verification.cpu_class", lambda: "riscv64")
    assert bundle.load(made).task == "hold_still"  # within ten times that, on a processor that rounds otherwise
    golden["command"] = golden["command"] + 2e-4
    resign(made, golden__npz=npz(golden))
    with pytest.raises(BundleRefused, match=r"allowed 0\.0001 on riscv64"):
        bundle.load(made)


def test_quantized_bundle_runs_on_the_class_of_processor_it_was_recorded_on(
    tmp_path: Path, two_link: RobotSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle(tmp_path / "b", two_link, variant="int8")
    monkeypatch.setattr("robot.verification.cpu_class", lambda: "riscv64")
    with pytest.raises(BundleRefused, match="int8 network rounds as its processor does"):
        bundle.load(made)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def as_schema_1(folder: Path, key: Path | None) -> None:
    """Turn a bundle into what the first version of the schema was, file by file."""
    data = yaml.safe_load((folder / "manifest.yaml").read_text())
    for name in ("tolerance", "variant", "licence"):
        del data[name]
    data["schema"] = 1
    (folder / "manifest.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    with np.load(folder / "monitor.npz") as archive:
        old = {n.removeprefix("observation."): archive[n] for n in archive.files if n.startswith("observation.")}
    (folder / "monitor.npz").write_bytes(npz(old))
    digests = {n: signature.sha256((folder / n).read_bytes()) for n in bundle.FILES}
    digest = signature.sha256(json.dumps({"schema": 1, "files": digests}, sort_keys=True).encode())
    document: dict[str, object] = {"schema": 1, "files": digests, "digest": digest, "ecdsa": None}
    if key is not None:
        private = signature.private_key(key)
        signed = private.sign(digest.encode(), ec.ECDSA(hashes.SHA256()))
        document["ecdsa"] = {"public_key": signature.der(private.public_key()).hex(), "signature": signed.hex()}
    (folder / "signature.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def test_bundle_of_schema_1_is_migrated_and_its_signature_checked(
    made: Path, keys: tuple[Path, ...], two_link: RobotSpec
) -> None:
    before = bundle.load(made)
    as_schema_1(made, keys[0])
    after = bundle.load(made, key=keys[1])
    assert before.monitor is not None and after.monitor is not None
    assert after.monitor.observation.limit == before.monitor.observation.limit and after.monitor.context is None
    np.testing.assert_array_equal(after.act(sample(two_link)).effort, before.act(sample(two_link)).effort)
    told = {c["name"]: c["detail"] for c in bundle.checks(made)}
    assert "migrated from schema 1" in told["manifest"]
    with pytest.raises(BundleRefused, match="signed by another key"):
        bundle.load(made, key=keys[2])
    whole = (made / "signature.json").read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x20 if chr(whole[place]).isalpha() else 0x01
        (made / "signature.json").write_bytes(damaged)
        with pytest.raises(BundleRefused):
            bundle.load(made)


def test_signature_is_an_openssf_model_signature(tmp_path: Path, two_link: RobotSpec, keys: tuple[Path, ...]) -> None:
    """The layers by hand: sigstore bundle, DSSE envelope, in-toto statement, and what each has to say."""
    made = make_bundle(tmp_path / "bundle", two_link, key=keys[0])
    document = json.loads((made / "signature.json").read_text())
    assert document["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    envelope = document["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    assert document["verificationMaterial"]["publicKey"]["hint"] == signature.sha256(keys[1].read_bytes())
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    public = serialization.load_pem_public_key(keys[1].read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), encoded, ec.ECDSA(hashes.SHA256()))
    statement = json.loads(payload)
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    resources = {r["name"]: r["digest"] for r in statement["predicate"]["resources"]}
    assert resources == {n: signature.sha256((made / n).read_bytes()) for n in bundle.FILES}
    digests = b"".join(bytes.fromhex(resources[n]) for n in sorted(resources))
    assert statement["subject"][0]["digest"]["sha256"] == signature.sha256(digests)


def test_model_signing_verifies_our_signature(tmp_path: Path, two_link: RobotSpec, keys: tuple[Path, ...]) -> None:
    verifying = pytest.importorskip("model_signing.verifying", reason="needs model-signing: pip install model-signing")
    made = make_bundle(tmp_path / "bundle", two_link, key=keys[0])

    def verify(key: Path) -> None:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(made, made / "signature.json")

    verify(keys[1])
    with pytest.raises(ValueError):
        verify(keys[2])
    (made / "README.md").write_text("changed")
    with pytest.raises(ValueError):
        verify(keys[1])
