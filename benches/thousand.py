"""Writes an OCI layout with 1,000 images n1 … n1000 that differ in one label: thousand.py BUSYBOX-LAYOUT TARGET."""

import hashlib
import json
import pathlib
import shutil
import sys


def blob(target, value):
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (target / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def main():
    source, target = map(pathlib.Path, sys.argv[1:])
    shutil.copytree(source, target)
    path = lambda digest: target / "blobs" / digest.replace(":", "/")
    index = json.loads((target / "index.json").read_text())
    manifest = json.loads(path(index["manifests"][0]["digest"]).read_text())
    config = json.loads(path(manifest["config"]["digest"]).read_text())
    index["manifests"] = []
    for number in range(1, 1001):
        config.setdefault("config", {})["Labels"] = {"number": str(number)}
        manifest["config"].update(blob(target, config))
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **blob(target, manifest)}
        index["manifests"].append({**entry, "annotations": {"org.opencontainers.image.ref.name": f"n{number}"}})
    (target / "index.json").write_text(json.dumps(index))


main()
