#!/usr/bin/env python3
"""Writes an OCI archive (image-spec 1.1) of one layer from files: the sample image, and images for tests.

    oci_image.py OUT.tar --ref NAME:TAG --file /bin/hello=build/hello [--file …] [--link /bin/sh=busybox]
                 [--entrypoint /bin/hello]… [--cmd ARG]… [--env A=b]… [--user 1000] [--workdir /]
"""
import argparse
import gzip
import hashlib
import io
import json
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def layer_of(files, links):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        made = set()
        for path, source in [*files, *links]:
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder not in made:
                    made.add(folder)
                    info = tarfile.TarInfo(folder)
                    info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                    tar.addfile(info)
            info = tarfile.TarInfo("/".join(parts))
            if (path, source) in links:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, source, 0o777
                tar.addfile(info)
                continue
            with open(source, "rb") as f:
                data = f.read()
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--ref", required=True)
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--link", action="append", default=[])
    for name in ("entrypoint", "cmd", "env"):
        parser.add_argument("--" + name, action="append", default=[])
    parser.add_argument("--user", default="")
    parser.add_argument("--workdir", default="/")
    args = parser.parse_args()

    tar = layer_of([tuple(f.split("=", 1)) for f in args.file], [tuple(f.split("=", 1)) for f in args.link])
    blobs = {}

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    layer = blob(gzip.compress(tar, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    settings = {"Env": args.env, "WorkingDir": args.workdir, "User": args.user}
    if args.entrypoint:
        settings["Entrypoint"] = args.entrypoint
    if args.cmd:
        settings["Cmd"] = args.cmd
    config = blob(json.dumps({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]},
    }).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": [layer]}).encode(), "application/vnd.oci.image.manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": args.ref}
    with tarfile.open(args.out, "w") as archive:
        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for digest, data in blobs.items():
            add("blobs/sha256/" + digest, data)


main()
