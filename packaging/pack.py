#!/usr/bin/env python3
"""Makes every package of a release from a folder of programs: npm packages, wheels, bundles, archives, the context of
the container file, checksums and the registry's server.json.

  packaging/pack.py PROGRAMS OUT           packages of the programs that are there
  packaging/pack.py --all PROGRAMS OUT     the same; fails if the program of a platform is missing

PROGRAMS holds TARGET/callingbox-mcp for targets of platforms.json, as packaging/build.sh leaves them. The version is
that of Cargo.toml. Needs Python 3.11 and npm, which brings the official mcpb command. It publishes nothing.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "callingbox-mcp"
NPM_SCOPE = "@callingbox-mcp"
MCPB = "@anthropic-ai/mcpb@2.1.2"
# The oldest time that zip can write: the same programs make the same packages.
TIME = (1980, 1, 1, 0, 0, 0)

CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())
VERSION = CARGO["workspace"]["package"]["version"]
REPOSITORY = CARGO["workspace"]["package"]["repository"]
LICENSE = CARGO["workspace"]["package"]["license"]
DESCRIPTION = CARGO["package"]["description"]
KEYWORDS = CARGO["package"]["keywords"]


def read_json(path):
    return json.loads((ROOT / path).read_text())


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def program_name(platform):
    return NAME + (".exe" if platform["npm"]["os"] == "win32" else "")


class Program:
    """The program of one platform."""

    def __init__(self, platform, folder):
        self.platform = platform
        self.target = platform["target"]
        self.name = program_name(platform)
        self.path = folder / self.target / self.name


def npm_pack(folder, out):
    subprocess.run(["npm", "pack", "--silent", "--pack-destination", out, folder], check=True, stdout=subprocess.DEVNULL)


def npm_manifest(name, description, **fields):
    return {
        "name": name,
        "version": VERSION,
        "description": description,
        "license": LICENSE,
        "repository": {"type": "git", "url": f"git+{REPOSITORY}.git"},
        "homepage": f"{REPOSITORY}#readme",
        **fields,
    }


def npm_name(platform):
    return f"{NPM_SCOPE}/{platform['npm']['name']}"


def pack_npm_program(program, stage, out):
    npm = program.platform["npm"]
    folder = stage / npm["name"]
    folder.mkdir(parents=True)
    shutil.copy(program.path, folder / program.name)
    (folder / program.name).chmod(0o755)
    shutil.copy(ROOT / "LICENSE", folder)
    system = " ".join([npm["os"], *npm["cpu"], *([npm["libc"]] if "libc" in npm else [])])
    (folder / "README.md").write_text(f"The program of [{NAME}]({REPOSITORY}) for {system}. Install `{NAME}` instead.\n")
    conditions = {"os": [npm["os"]], "cpu": npm["cpu"]}
    if "libc" in npm:
        conditions["libc"] = [npm["libc"]]
    manifest = npm_manifest(
        npm_name(program.platform), f"{NAME} for {system}", **conditions, files=[program.name], preferUnplugged=True
    )
    write_json(folder / "package.json", manifest)
    npm_pack(folder, out)


def pack_npm_launcher(platforms, stage, out):
    folder = stage / NAME
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "packaging/npm/callingbox-mcp.js", folder)
    shutil.copy(ROOT / "LICENSE", folder)
    shutil.copy(ROOT / "README.md", folder)
    table = [
        {"name": npm_name(one), "program": program_name(one)}
        | {key: one["npm"][key] for key in ("os", "cpu", "libc") if key in one["npm"]}
        for one in platforms
    ]
    write_json(folder / "platforms.json", table)
    manifest = npm_manifest(
        NAME,
        DESCRIPTION,
        keywords=KEYWORDS,
        mcpName=read_json("packaging/server.json")["name"],
        bin={NAME: "callingbox-mcp.js"},
        files=["callingbox-mcp.js", "platforms.json"],
        engines={"node": ">=18"},
        optionalDependencies={npm_name(one): VERSION for one in platforms},
    )
    write_json(folder / "package.json", manifest)
    npm_pack(folder, out)


def add_to_zip(archive, name, data, mode=0o644):
    entry = zipfile.ZipInfo(name, TIME)
    entry.external_attr = (0o100000 | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def pack_wheel(program, out):
    package = NAME.replace("-", "_")
    info = f"{package}-{VERSION}.dist-info"
    tags = [f"py3-none-{platform}" for platform in program.platform["wheel"].split(".")]
    wheel = "".join(["Wheel-Version: 1.0\nGenerator: pack.py\nRoot-Is-Purelib: false\n", *(f"Tag: {tag}\n" for tag in tags)])
    metadata = (
        f"Metadata-Version: 2.4\nName: {NAME}\nVersion: {VERSION}\nSummary: {DESCRIPTION}\n"
        f"License-Expression: {LICENSE}\nLicense-File: LICENSE\nKeywords: {','.join(KEYWORDS)}\n"
        f"Project-URL: Repository, {REPOSITORY}\nRequires-Python: >=3.8\n"
        f"Description-Content-Type: text/markdown\n\n{(ROOT / 'README.md').read_text()}"
    )
    files = [
        (f"{package}-{VERSION}.data/scripts/{program.name}", program.path.read_bytes(), 0o755),
        (f"{info}/METADATA", metadata.encode(), 0o644),
        (f"{info}/WHEEL", wheel.encode(), 0o644),
        (f"{info}/licenses/LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644),
    ]
    record = ""
    for name, data, _ in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode(), 0o644))
    with zipfile.ZipFile(out / f"{package}-{VERSION}-py3-none-{program.platform['wheel']}.whl", "w") as archive:
        for name, data, mode in files:
            add_to_zip(archive, name, data, mode)


def pack_archive(program, out):
    stem = f"{NAME}-{VERSION}-{program.target}"
    files = [(program.name, program.path.read_bytes(), 0o755)]
    files += [(name, (ROOT / name).read_bytes(), 0o644) for name in ("README.md", "LICENSE")]
    if program.name.endswith(".exe"):
        with zipfile.ZipFile(out / f"{stem}.zip", "w") as archive:
            for name, data, mode in files:
                add_to_zip(archive, name, data, mode)
        return
    with open(out / f"{stem}.tar.gz", "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w") as archive:
            for name, data, mode in files:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), mode
                archive.addfile(entry, io.BytesIO(data))


def install_mcpb(folder):
    """The official command that packs bundles; npm keeps it between runs."""
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, MCPB], check=True)
    return folder / "node_modules/@anthropic-ai/mcpb/dist/cli/cli.js"


def run_mcpb(mcpb, *arguments):
    # Node 20 sometimes hangs at its exit, after the work is done: two of its threads wait for each other.
    for attempt in (1, 2):
        try:
            done = subprocess.run(["node", mcpb, *arguments], capture_output=True, text=True, timeout=240)
        except subprocess.TimeoutExpired:
            if attempt == 2:
                raise
            continue
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        return


def bundle_name(platform):
    return f"{NAME}-{VERSION}-{platform['bundle']}.mcpb"


def pack_bundle(program, mcpb, stage, out):
    folder = stage / f"mcpb-{program.platform['bundle']}"
    (folder / "server").mkdir(parents=True)
    shutil.copy(program.path, folder / "server")
    (folder / "server" / program.name).chmod(0o755)
    shutil.copy(ROOT / "LICENSE", folder)
    manifest = read_json("packaging/mcpb/manifest.json")
    manifest["version"] = VERSION
    server = manifest["server"]
    server["entry_point"] = f"server/{program.name}"
    server["mcp_config"] = {"command": f"${{__dirname}}/server/{program.name}", **server["mcp_config"]}
    # A bundle holds the program of one platform, and says so.
    manifest["compatibility"] = {"platforms": [program.platform["bundle"]]}
    write_json(folder / "manifest.json", manifest)
    run_mcpb(mcpb, "validate", folder / "manifest.json")
    run_mcpb(mcpb, "pack", folder, out / bundle_name(program.platform))


def registry_entry(platforms, out):
    """server.json of this version, with the checksum of each bundle that was packed."""
    text = (ROOT / "packaging/server.json").read_text()
    server = json.loads(text.replace("${version}", VERSION))
    bundles = {bundle_name(one): out / bundle_name(one) for one in platforms if "bundle" in one}
    for package in server["packages"]:
        if package["registryType"] == "mcpb":
            name = package["identifier"].rsplit("/", 1)[1]
            if bundles[name].exists():
                package["fileSha256"] = sha256(bundles[name])
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("programs", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    programs_folder, out = args.programs.resolve(), args.out.resolve()
    platforms = read_json("packaging/platforms.json")
    programs = [Program(platform, programs_folder) for platform in platforms]
    missing = [program.target for program in programs if not program.path.is_file()]
    if missing and (args.all or len(missing) == len(programs)):
        sys.exit(f"no program for {', '.join(missing)} in {programs_folder}")

    shutil.rmtree(out, ignore_errors=True)
    stage, npm, wheels, release = (out / name for name in ("stage", "npm", "wheels", "release"))
    for folder in (stage, npm, wheels, release):
        folder.mkdir(parents=True)
    mcpb = install_mcpb(ROOT / "target/packaging/npm")
    for program in programs:
        if program.target in missing:
            print(f"left out: {program.target}, which has no program")
            continue
        pack_npm_program(program, stage, npm)
        pack_wheel(program, wheels)
        pack_archive(program, release)
        if "bundle" in program.platform:
            pack_bundle(program, mcpb, stage, release)
    pack_npm_launcher(platforms, stage, npm)
    write_json(release / "server.json", registry_entry(platforms, release))
    shutil.rmtree(stage)
    files = sorted(path for path in release.iterdir())
    (release / "SHA256SUMS").write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>11,}  {path.relative_to(out)}")


main()
