"""The life of volumes under OpenStack: cinder's LightOS driver, unchanged, against a running server.

Everything that the driver sends goes over its own HTTP client to the server. What cinder's services would give it (options,
volume and snapshot objects, the connector of a compute host) is made here. Prints a line for each step and ends with an
error at the first that does not hold.

    life.py PORT STATE_FOLDER OWN_FOLDER
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
import uuid

from oslo_config import cfg

from cinder import context
from cinder import coordination
from cinder import exception
from cinder import objects
from cinder.volume import configuration
from cinder.volume.drivers import lightos

HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:6f0f5f5e-7a0e-4a86-9c2b-2d2f3c1b4a59"
HOST_IPS = ["192.0.2.7", "192.0.2.8"]


class Connector:
    """What os-brick tells of the host that cinder runs on; the driver takes the class by its name."""

    @classmethod
    def factory(cls, *_args, **_kwargs):
        return cls()

    def get_connector_properties(self, *_args, **_kwargs):
        return {"nqn": HOST_NQN, "found_dsc": "found", "host_ips": HOST_IPS}


class Server:
    """A look at the server beside the driver."""

    def __init__(self, port, token):
        self.base = f"https://127.0.0.1:{port}/api/v2"
        self.token = token
        self.trust = ssl._create_unverified_context()

    def send(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=body and json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, context=self.trust, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code

    def get(self, path):
        return self.send("GET", f"/projects/default{path}")

    def policy(self, name):
        limit = {"limitIOPS": {"readLimit": 1000, "writeLimit": 1000}}
        return self.send("POST", "/policies", {"name": name, "qoSRateLimitPolicy": limit})["UUID"]

    def volume(self, volume):
        return self.get(f"/volumes/?name=volume-{volume.name_id}")

    def snapshot(self, snapshot):
        return self.get(f"/snapshots/?Name=snapshot-{snapshot.id}")

    def names(self, kind):
        return sorted(one["name"] for one in self.get(f"/{kind}")[kind])


def configure(port, token, folder):
    """As an operator would: a file with a section for each backend."""
    path = f"{folder}/cinder.conf"
    backend = [
        "lightos_api_address = 127.0.0.1",
        f"lightos_api_port = {port}",
        "lightos_default_num_replicas = 1",
        "lightos_api_service_timeout = 10",
        "volume_backend_name = ferrule",
    ]
    lines = ["[oslo_concurrency]", f"lock_path = {folder}", "[coordination]", f"backend_url = file://{folder}"]
    lines += ["[ferrule]", f"lightos_jwt = {token}", *backend]
    lines += ["[stranger]", f"lightos_jwt = {token[:-8]}AAAAAAAA", *backend]
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    cfg.CONF(["--config-file", path], project="cinder")
    coordination.COORDINATOR.start()


def driver_of(section):
    options = configuration.Configuration(lightos.lightos_opts, config_group=section)
    options.initiator_connector = f"{__name__}.Connector"
    return lightos.LightOSVolumeDriver(configuration=options)


def new_volume(size, **specs):
    admin = context.get_admin_context()
    # This release of the driver can make no volume without a type.
    kind = objects.VolumeType(admin, id=str(uuid.uuid4()), name="plain", extra_specs={"compression": "<is> True", **specs})
    volume = objects.Volume(admin, id=str(uuid.uuid4()), size=size, provider_id=None, _name_id=None)
    volume.volume_type_id, volume.volume_type = kind.id, kind
    return volume


def new_snapshot(volume):
    snapshot = objects.Snapshot(context.get_admin_context(), id=str(uuid.uuid4()), volume_id=volume.id)
    snapshot.volume = volume
    return snapshot


def check(claim, holds, seen=None):
    if not holds:
        sys.exit(f"does not hold: {claim}: {seen!r}")
    print(f"holds: {claim}", flush=True)


def expect(claim, kind, call):
    try:
        call()
    except kind:
        return check(claim, True)
    except Exception as error:  # noqa: BLE001 - any other is the finding
        return check(claim, False, error)
    return check(claim, False, "no error")


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def main(port, state, folder):
    # The driver has a tenant's key, as in a cluster of several tenants.
    server = Server(port, read(f"{state}/system.jwt"))
    configure(port, read(f"{state}/default-admin.jwt"), folder)
    objects.register_all()
    driver = driver_of("ferrule")

    driver.do_setup(None)
    driver.check_for_setup_error()
    check("the cluster is known", driver.cluster.subsystemNQN.startswith("nqn."), driver.cluster.subsystemNQN)
    stats = driver.get_volume_stats(refresh=True)
    check("the backend says what it can", stats["storage_protocol"] and stats["driver_version"], stats)

    volume = new_volume(4)
    volume.update(driver.create_volume(volume))
    seen = server.volume(volume)
    check("a volume is made", (seen["state"], seen["size"]) == ("Available", str(4 << 30)), seen)
    check("nobody may use it yet", seen["acl"]["values"] == ["ALLOW_NONE"], seen)
    check("its place is noted", volume.provider_id == f"default {seen['UUID']}", volume.provider_id)
    again = driver.create_volume(volume)
    check("the same request again finds it", again["provider_id"] == volume.provider_id, again)

    driver.extend_volume(volume, 6)
    check("it grows", server.volume(volume)["size"] == str(6 << 30), server.volume(volume))

    slow, slower = server.policy("slow"), server.policy("slower")
    limited = new_volume(1, **{"lightos:qos_policy": slow})
    limited.update(driver.create_volume(limited))
    check("a type gives its policy", server.volume(limited)["qosPolicyUUID"] == slow, server.volume(limited))
    diff = {"extra_specs": {"lightos:qos_policy": (slow, slower)}}
    check("another type", driver.retype(None, limited, None, diff, None))
    check("gives another", server.volume(limited)["qosPolicyUUID"] == slower, server.volume(limited))

    connector = Connector().get_connector_properties()
    info = driver.initialize_connection(volume, connector)
    seen = server.volume(volume)
    check("the host may use it", seen["acl"]["values"] == [HOST_NQN], seen["acl"])
    check("from its addresses", sorted(seen["IPAcl"]["values"]) == HOST_IPS, seen["IPAcl"])
    data = info["data"]
    check("the host is told where it is", data["uuid"] == seen["UUID"] and data["lightos_nodes"], info)
    check("by which subsystem", data["subsysnqn"] == driver.cluster.subsystemNQN, info)
    other = dict(connector, nqn=HOST_NQN[:-1] + "a", host_ips=["192.0.2.9"])
    driver.initialize_connection(volume, other)
    check("a second host may use it, too", len(server.volume(volume)["acl"]["values"]) == 2, server.volume(volume))
    driver.terminate_connection(volume, other)
    check("the first one still may", server.volume(volume)["acl"]["values"] == [HOST_NQN], server.volume(volume))
    driver.terminate_connection(volume, connector)
    check("and then nobody", server.volume(volume)["acl"]["values"] == ["ALLOW_NONE"], server.volume(volume))

    snapshot = new_snapshot(volume)
    driver.create_snapshot(snapshot)
    check("a snapshot is taken", server.snapshot(snapshot)["state"] == "Available", server.snapshot(snapshot))
    driver.create_snapshot(snapshot)
    check("once", len(server.names("snapshots")) == 1, server.names("snapshots"))
    child = new_volume(6)
    child.update(driver.create_volume_from_snapshot(child, snapshot))
    check("a volume is made from it", server.volume(child)["state"] == "Available", server.volume(child))
    larger = new_volume(8)
    larger.update(driver.create_volume_from_snapshot(larger, snapshot))
    driver.extend_volume(larger, 8)
    check("and a larger one", server.volume(larger)["size"] == str(8 << 30), server.volume(larger))
    clone = new_volume(6)
    clone.update(driver.create_cloned_volume(clone, volume))
    check("a volume is cloned", server.volume(clone)["state"] == "Available", server.volume(clone))
    left = [name for name in server.names("snapshots") if name.startswith("for_clone_")]
    check("with nothing left between", not left, left)
    missing = new_volume(6)
    expect(
        "no volume comes from a snapshot that is not there",
        exception.VolumeBackendAPIException,
        lambda: driver.create_volume_from_snapshot(missing, new_snapshot(volume)),
    )
    driver.terminate_connection(clone, None, force=True)
    check("force shuts everybody out", server.volume(clone)["acl"]["values"] == ["ALLOW_NONE"], server.volume(clone))

    driver.delete_snapshot(snapshot)
    check("the snapshot is gone", server.snapshot(snapshot) == 404, server.snapshot(snapshot))
    for each in (child, larger, clone, limited, volume):
        driver.delete_volume(each)
        check("a volume is gone", server.volume(each) == 404, server.volume(each))
    driver.delete_volume(new_volume(1))
    check("to delete what is not there is no error", server.names("volumes") == [], server.names("volumes"))

    stranger = driver_of("stranger")
    expect("a wrong key is told", exception.InvalidAuthKey, lambda: stranger.do_setup(None))
    print("the whole life holds", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
