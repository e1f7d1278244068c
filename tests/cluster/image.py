#!/usr/bin/env python3
"""Makes an OCI image archive of a few files, without a builder and without a registry.

The cluster's own images (pause, coredns, busybox) are made by this; the project's images by ./build-images.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
MEDIA = "application/vnd.oci.image."


class Layer:
    """A tar in memory that makes missing parent folders."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w")
        self.folders = set()

    def folder(self, path, mode=0o755):
        path = path.strip("/")
        if path and path not in self.folders:
            self.folder(os.path.dirname(path))
            self.folders.add(path)
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            self.tar.addfile(entry)

    def file(self, path, data, mode=0o755):
        self.folder(os.path.dirname(path))
        entry = tarfile.TarInfo(path.strip("/"))
        entry.size, entry.mode = len(data), mode
        self.tar.addfile(entry, io.BytesIO(data))

    def link(self, path, target):
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(entry)

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def described(kind, data):
    return {"mediaType": MEDIA + kind, "digest": digest(data), "size": len(data)}


def layer_of(options):
    layer = Layer()
    layer.folder("/tmp", 0o1777)
    layer.file("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", 0o644)
    layer.file("/etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)
    for file in options.files:
        source, path = file.split("=", 1)
        with open(source, "rb") as data:
            layer.file(path, data.read())
    if options.applets:
        for name in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
            if name != "busybox":
                layer.link("/bin/" + name, "busybox")
    return layer.bytes()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("out", help="the archive to write")
    options.add_argument("name", help="NAME:TAG")
    options.add_argument("files", nargs="*", metavar="SOURCE=/PATH")
    options.add_argument("--entrypoint", action="append")
    options.add_argument("--cmd", action="append")
    options.add_argument("--applets", action="store_true", help="link busybox's names to /bin/busybox")
    options = options.parse_args()

    plain = layer_of(options)
    packed = gzip.compress(plain, 1, mtime=0)
    config = json.dumps({
        "architecture": ARCHITECTURE, "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Entrypoint": options.entrypoint, "Cmd": options.cmd, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
        "history": [{"created_by": "tests/cluster/image.py"}],
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA + "manifest.v1+json",
        "config": described("config.v1+json", config), "layers": [described("layer.v1.tar+gzip", packed)],
    }).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [described("manifest.v1+json", manifest) | {
        "platform": {"architecture": ARCHITECTURE, "os": "linux"},
        "annotations": {"io.containerd.image.name": options.name,
                        "org.opencontainers.image.ref.name": options.name.rsplit(":", 1)[1]},
    }]}).encode()

    with tarfile.open(options.out + ".part", "w") as archive:
        members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
        members |= {"blobs/sha256/" + digest(blob)[7:]: blob for blob in (config, packed, manifest)}
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    os.replace(options.out + ".part", options.out)


if __name__ == "__main__":
    main()
