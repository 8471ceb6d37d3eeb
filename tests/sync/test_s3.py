"""The same over S3: a real server of its protocol, moto's, on a port of this machine."""

import gzip

import httpx
import pytest

from data.adapters import WEIGHTS
from tests.support.factories import add_reply
from tests.support.hosts import Host, rounds, said_everything
from tests.sync.test_crashes import free_leases, killed_round

BUCKET = "ratings"


@pytest.fixture
def s3(monkeypatch):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"http://{host}:{port}/moto-api/reset")         # what it holds is the process's, not the server's
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir(BUCKET)
    yield files
    server.stop()


def test_two_hosts_a_learner_a_version_and_a_deletion_over_s3(s3, tmp_path):
    url = f"s3://{BUCKET}/chat"
    a, b, learner = Host(tmp_path / "a", url), Host(tmp_path / "b", url), Host(tmp_path / "learner", url, learner=True)
    first, _ = said_everything(a)
    said_everything(b)
    rounds(a, b, learner)
    assert learner.trained() == {**a.trained(), **b.trained()} and len(learner.trained()) == 4
    number = learner.publish()
    rounds(learner, a, b)
    assert a.store.live_version("base") == b.store.live_version("base") == number and a.registry.verify(number)
    a.store.delete_everything("me")
    kept = add_reply(a.store, "me")
    a.store.add_rating(kept.id, "me", "thumb", 1)
    before = s3.find(f"{BUCKET}/chat/feedback/{a.store.host_id()}")
    rounds(a, learner)
    s3.invalidate_cache()
    after = s3.find(f"{BUCKET}/chat/feedback/{a.store.host_id()}")
    assert first.id not in learner.trained() and learner.trained() == {**a.trained(), **b.trained()}
    assert len(after) == 2 and not set(before) & set(after)              # what was deleted is gone there, not only marked
    for _ in range(2):
        learner.publish()
    assert learner.registry.remove_old("base", 2) == [number]
    newcomer = Host(tmp_path / "newcomer", a.url)
    rounds(learner, newcomer)
    assert s3.size(f"{BUCKET}/chat/adapters/{learner.store.version(number).folder}/{WEIGHTS}") == 0
    assert newcomer.store.version(number).removed_at and newcomer.registry.verify(newcomer.store.live_version("base"))


def test_a_host_and_a_learner_may_be_killed_before_a_request_that_changes_the_bucket_and_lose_and_repeat_nothing(s3, tmp_path):
    """Two such requests of each, and a removal among them; before every step of all there are in test_sync_crashes.py, on a local folder."""
    url = f"s3://{BUCKET}/chat"
    a, learner = Host(tmp_path / "a", url), Host(tmp_path / "learner", url, learner=True)
    rounds(learner)
    for who, request in ((a, 1), (a, 2), (learner, 1), (learner, 2)):
        first, _ = said_everything(a, rater := f"person {who.folder.name} {request}")
        if who is learner:
            rounds(a)
            learner.publish()
        died = killed_round(who, request, counted="requests")
        free_leases(a, learner)
        a.store.delete_everything(rater)
        kept = add_reply(a.store, rater)
        a.store.add_rating(kept.id, rater, "thumb", 1)
        assert killed_round(who, request, counted="requests") or died, f"{rater}: nothing was killed"
        free_leases(a, learner)
        rounds(a, learner, a)
        assert learner.trained() == a.trained() and kept.id in learner.trained() and first.id not in learner.trained(), rater
        s3.invalidate_cache()
        shards = s3.find(f"{BUCKET}/chat/feedback")
        assert shards and not any(b"better so" in gzip.decompress(s3.cat_file(path)) for path in shards)
        assert [v.folder for v in a.store.versions("base")] == [v.folder for v in learner.store.versions("base")]
    assert len(learner.trained()) == 4 and len(learner.store.versions("base")) == 2
