"""The engine in memory: what tests of other floors rely on."""

from __future__ import annotations

import time
import uuid

import pytest

from mlstudio.engines.engine import CanBuild, CanListGpus, Engine
from mlstudio.engines.fake import FakeEngine
from mlstudio.model.errors import EngineAway
from mlstudio.model.host import EngineTrouble, Gpu
from mlstudio.model.launch import LaunchSpec, Phase
from mlstudio.probe.wire import Decoder


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(gpus=(Gpu(index=0, uuid="GPU-1", name="Imaginary 1000"),))


def launch(engine: FakeEngine) -> str:
    return engine.launch(LaunchSpec(run_id=uuid.uuid4().hex, image="any", command=("train",)))


def test_it_can_do_everything(engine: FakeEngine) -> None:
    assert isinstance(engine, Engine)
    assert isinstance(engine, CanBuild)
    assert isinstance(engine, CanListGpus)
    assert engine.gpus()[0].name == "Imaginary 1000"


def test_its_frames_are_real_ones(engine: FakeEngine) -> None:
    handle = launch(engine)
    container = engine.container(handle)
    container.write_frame({"events": [{"type": "start"}]}, log=b"hello\n")
    assert container.skip_frame() == 1
    container.write_frame(log=b"in mid-line")
    container.finish(3)
    decoder = Decoder()
    frames = [frame for chunk in engine.follow(handle) for frame in decoder.feed(chunk.data)]
    assert [(frame.seq, frame.log, frame.intact) for frame in frames] == [
        (0, b"hello\n", True),
        (2, b"in mid-line", True),
    ]
    assert engine.inspect(handle).exit_code == 3


def test_rotation(engine: FakeEngine) -> None:
    handle = launch(engine)
    container = engine.container(handle)
    for number in range(5):
        container.write(b"%d" % number)
    following = engine.follow(handle)
    first = next(following)
    container.rotate(keep=2)
    container.finish()
    assert [chunk.data for chunk in engine.follow(handle, first.position)] == [b"3", b"4"]
    container.rotate(keep=0)
    assert list(engine.follow(handle)) == []


def test_going_away_and_coming_back(engine: FakeEngine) -> None:
    handle = launch(engine)
    container = engine.container(handle)
    container.write(b"one")
    following = engine.follow(handle)
    first = next(following)
    engine.go_away(EngineTrouble.NOT_PERMITTED)
    assert engine.check().trouble is EngineTrouble.NOT_PERMITTED
    with pytest.raises(EngineAway):
        next(following)
    with pytest.raises(EngineAway):
        engine.inspect(handle)
    container.write(b"two")  # Containers go on without their engine.
    container.finish()
    engine.come_back()
    assert engine.check().usable
    assert [chunk.data for chunk in engine.follow(handle, first.position)] == [b"two"]


def test_losing_a_container(engine: FakeEngine) -> None:
    handle = launch(engine)
    engine.lose(handle)
    assert engine.inspect(handle).phase is Phase.GONE


def test_the_rate(engine: FakeEngine) -> None:
    handle = launch(engine)
    engine.container(handle).write(b"x" * 100)
    engine.container(handle).finish()
    engine.rate_bytes_per_s = 500.0
    began = time.monotonic()
    assert len(list(engine.follow(handle))) == 1
    assert time.monotonic() - began >= 0.2


def test_hanging_on_a_stop(engine: FakeEngine) -> None:
    handle = launch(engine)
    engine.container(handle).ignores_stop = True
    engine.stop(handle, grace_s=0.05)
    assert engine.container(handle).stop_requests == 1
    assert engine.inspect(handle).exit_code == 137
