"""Why a build failed: rules over what the failing step printed, the most particular first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mlstudio.images.own_dockerfile import split_instructions
from mlstudio.model.image import Diagnosis

LAST_LINES = 12
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_MAX_TEXT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One cause: a pattern, and what is said where it matches. ``{name}`` stands for the pattern's groups."""

    name: str
    pattern: re.Pattern[str]
    title: str
    why: str
    try_this: str
    check: Callable[[str, Mapping[str, str]], bool] = lambda text, groups: True


def _rule(
    name: str,
    pattern: str,
    *,
    title: str,
    why: str,
    try_this: str,
    check: Callable[[str, Mapping[str, str]], bool] = lambda text, groups: True,
) -> Rule:
    return Rule(
        name=name,
        pattern=re.compile(pattern, re.IGNORECASE | re.MULTILINE),
        title=title,
        why=why,
        try_this=try_this,
        check=check,
    )


def _never_reached(text: str, groups: Mapping[str, str]) -> bool:
    """pip finds no version at all both for a name that does not exist and where it reached no index."""
    return bool(re.search(r"(?i)connection (?:broken|refused|aborted)|newconnectionerror|failed to establish|timed out"
                          r"|name or service not known|temporary failure in name|network is unreachable", text))  # fmt: skip


def _fetched_lists(text: str, groups: Mapping[str, str]) -> bool:
    """apt-get update only warns about a mirror that is away; every package is unknown then."""
    return not re.search(r"(?m)^W: (?:Failed to fetch|Some index files failed)", text)


def _builds_package(text: str, groups: Mapping[str, str]) -> bool:
    """Whether a package's own build wanted the module, not a program that was to run in the image."""
    return bool(
        re.search(r"metadata-generation-failed|subprocess-exited-with-error|requirements to build", text)
    )


def _other_python(text: str, groups: Mapping[str, str]) -> bool:
    """Whether the version that was asked for is among those that pip left out because of this Python."""
    return "ignored" not in groups or bool(_python_needed(groups))


def _python_needed(groups: Mapping[str, str]) -> str:
    """The Python that the newest fitting one of the ignored versions asks for; empty where none would do."""
    try:
        allowed = Requirement(groups["wanted"]).specifier
    except InvalidRequirement:
        return ""
    found: list[tuple[Version, str]] = []
    for entry in groups["ignored"].split(";"):
        version, _, needs = entry.strip().partition(" Requires-Python ")
        try:
            if needs and allowed.contains(version):
                found.append((Version(version), needs.strip()))
        except InvalidVersion:
            continue
    return max(found)[1] if found else ""


RULES: tuple[Rule, ...] = (
    _rule(
        "disk-full",
        r"no space left on device|\[Errno 28\]|ENOSPC|disk quota exceeded|You don't have enough free space",
        title="The disk is full.",
        why="The builder had no room left for what this step writes.",
        try_this="Free some space: mlstudio images lists images that can go; docker builder prune empties the build cache.",
    ),
    _rule(
        "out-of-memory",
        r"signal: killed|exit code: 137|Killed\s*$|MemoryError|Cannot allocate memory|virtual memory exhausted",
        title="The step ran out of memory.",
        why="The kernel ended it.",
        try_this="Close other programs, give the engine more memory, or use wheels instead of building from source.",
    ),
    _rule(
        "certificate",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|certificate verify failed|server certificate verification failed",
        title="A server's certificate is not trusted inside the build.",
        why="A company proxy that opens encrypted connections does this: its certificate must be known in the build.",
        try_this="Give the proxy's CA bundle: mlstudio settings set pip.ca_bundle FILE, or --cert FILE.",
    ),
    _rule(
        "proxy",
        r"ProxyError|Cannot connect to proxy|Tunnel connection failed: (?P<code>\d+)|407 Proxy Authentication",
        title="The proxy refused the connection.",
        why="pip was told to go through a proxy that does not let it.",
        try_this="Check the proxy: mlstudio settings get pip.proxy, or give another with --proxy.",
    ),
    _rule(
        "name-resolution",
        r"Temporary failure (?:in name resolution|resolving '?(?P<host>[\w.\-]*))|Name or service not known|Could not resolve"
        r" ?(?:host:? ?)?'?(?P<host2>[\w.\-]*)|NameResolutionError|lookup (?P<host3>[\w.\-]{1,255}).{0,200}?: no such host",
        title="A server's name could not be looked up.",
        why="The build has no network, or its name server does not answer.",
        try_this="Check the network; behind a proxy give it with --proxy. Docker's own DNS is set in /etc/docker/daemon.json.",
        check=lambda text, groups: (
            not re.search(r"(?i)failed to resolve source metadata|registry-1|auth\.docker", text)
        ),
    ),
    _rule(
        "base-image-not-found",
        r"(?:pull access denied for (?P<image>\S+?),"
        # A reference with its registry and tag, as the builder writes it: no program that a shell does not find.
        r"|(?<!\S)(?P<image2>(?:localhost|\w[\w\-]*[.:][\w.\-:]+)/[\w.\-/]+(?::[\w.\-]+|@sha256:\w+)): not found\s*$"
        r"|manifest (?:for (?P<image3>\S+) )?(?:not found|unknown)"
        r"|No such image: (?P<image4>\S+)|repository (?P<image5>[\w./:\-]+) not found)",
        title="A base image was not found.",
        why="Neither this engine nor the registry has {image}.",
        try_this="Check its name and tag in the FROM line, or log in to its registry (docker login).",
    ),
    _rule(
        "registry-away",
        r"failed to (?:do request|resolve source metadata|fetch (?:anonymous|oauth) token)|registry-1\.docker\.io|"
        r"error getting credentials|dial tcp .{0,200}?(?:i/o timeout|connection refused|no such host)",
        title="The image registry could not be reached.",
        why="The base image is not on this engine, and fetching it failed.",
        try_this="Check the network, or let a local image stand in for it: mlstudio settings set base_images.",
    ),
    _rule(
        "hash-mismatch",
        r"THESE PACKAGES DO NOT MATCH THE HASHES|Hashes are required in --require-hashes mode",
        title="A downloaded package does not have the expected hash.",
        why="The file on the index differs from what the lock file says, or a hash is missing.",
        try_this="Make the lock file anew, and be wary if the index is not your own.",
    ),
    _rule(
        "index-not-reached",
        r"Could not find a version that satisfies the requirement (?P<package>[\w.\-\[\]]+)",
        title="The package index could not be reached.",
        why="pip could not connect, so that it knows no version of {package}.",
        try_this="Check the network; behind a proxy set --proxy and --cert, or give your own index with --index-url.",
        check=_never_reached,
    ),
    _rule(
        "no-such-package",
        r"Could not find a version that satisfies the requirement (?P<package>[\w.\-\[\]]+)[^\n]*\(from versions: none\)",
        title="No package named “{package}” was found.",
        why="The package index has no {package}, or none for this Python.",
        try_this="Check the spelling in the requirements. A package of your own needs its index (--extra-index-url).",
    ),
    _rule(
        "python-version",
        r"requires a different Python: (?P<have>\S+) not in '?(?P<needs>[^'\n]+)"
        r"|require a different python version: (?P<ignored>[^\n]+)\n(?:[^\n]*\n){0,3}?[^\n]*satisfies the requirement (?P<wanted>\S+)",
        title="A package does not support this Python.",
        why="It asks for Python {needs}.",
        try_this="Choose another Python version, or another version of the package.",
        check=_other_python,
    ),
    _rule(
        "no-such-version",
        r"Could not find a version that satisfies the requirement (?P<wanted>\S+)[^\n]*\(from versions: (?P<versions>[^)\n]+)\)",
        title="There is no version {wanted}.",
        why="The index has other versions: … {newest}.",
        try_this="Change the version in the requirements, or choose another Python, for which there may be more.",
    ),
    _rule(
        "no-matching-distribution",
        r"No matching distribution found for (?P<package>\S+)",
        title="No file of {package} fits this image.",
        why="There is none for this Python or processor.",
        try_this="Choose another version of the package or of Python.",
    ),
    _rule(
        "conflict",
        r"ResolutionImpossible|(?:Cannot install (?P<packages>[^\n]{1,1000}?) because these package versions have conflicting)",
        title="The requirements contradict each other.",
        why="{packages} cannot be installed together.",
        try_this="Loosen one of the versions; the lines above name the two that clash.",
    ),
    _rule(
        "invalid-requirement",
        r"Invalid requirement: ['\"]?(?P<line>[^'\"\n]+)",
        title="A requirement cannot be read: “{line}”.",
        why="It is not of the form name==version.",
        try_this="Mend that line of the requirements.",
    ),
    _rule(
        "compiler-missing",
        r"(?:error: command '(?P<program>gcc|cc|g\+\+|x86_64-linux-gnu-gcc|c\+\+)' failed: No such file|unable to execute '(?P<p2>gcc|cc|g\+\+)'"
        r"|(?P<p3>gcc|cc|g\+\+|make|cmake|ninja): (?:command )?not found|No CMAKE_C(?:XX)?_COMPILER|Microsoft Visual C\+\+|error: can't find Rust compiler"
        r"|CMake must be installed|Unknown compiler\(s\))",
        title="A package must be compiled, and the image has no compiler.",
        why="There is no ready-made wheel of it for this Python.",
        try_this="Add build-essential (and cmake, where asked for) to the system packages, or choose a version with wheels.",
    ),
    _rule(
        "header-missing",
        r"fatal error: (?P<header>[\w/.\-+]+\.h(?:pp)?): No such file",
        title="A package must be compiled and lacks the header {header}.",
        why="The development files of a library are not in the image.",
        try_this="Add the Debian package with that header (its name ends in -dev) to the system packages.",
    ),
    _rule(
        "nvcc-missing",
        r"nvcc[^\n]{0,200}?(?:not found|was not found|No such file)|CUDA_HOME environment variable is not set|Could not find CUDA",
        title="A package must be compiled with CUDA's compiler, which is not in the image.",
        why="The wheels bring CUDA's libraries, not its compiler.",
        try_this="Choose a version of the package with ready-made wheels, or your own Dockerfile on a CUDA devel image.",
    ),
    _rule(
        "shared-library-missing",
        r"(?:ImportError|OSError): (?P<library>lib[\w.+\-]+\.so[\w.]*): cannot open shared object file",
        title="The library {library} is missing in the image.",
        why="A package needs it from the system.",
        try_this="Add the Debian package that holds it to the system packages (libGL.so.1: libgl1, libgomp.so.1: libgomp1).",
    ),
    _rule(
        "build-needs-module",
        r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'",
        title="A package's own build needs “{module}”, which it does not ask for.",
        why="pip builds each package apart from all others, so that installing {module} before it does not help.",
        try_this="Choose a version with ready-made wheels for this Python, or your own Dockerfile with pip's --no-build-isolation.",
        check=_builds_package,
    ),
    _rule(
        "smoke-import-failed",
        r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'",
        title="The package “{module}” is missing.",
        why="It is imported, but nothing installs it.",
        try_this="Add it to the requirements.",
    ),
    _rule(
        "apt-package-unknown",
        r"E: Unable to locate package (?P<package>\S+)|E: Package '(?P<package2>\S+)' has no installation candidate",
        title="Debian has no package named “{package}”.",
        why="The name is not in the package lists of the base image's release.",
        try_this="Check its spelling at packages.debian.org; names differ between releases. In your own Dockerfile, "
        "let apt-get update come before it in the same RUN line.",
        check=_fetched_lists,
    ),
    _rule(
        "apt-version-unknown",
        r"E: Version '(?P<version>[^']+)' for '(?P<package>[^']+)' was not found",
        title="Debian has no version {version} of {package}.",
        why="Mirrors keep only the newest version.",
        try_this="Leave the version out.",
    ),
    _rule(
        "apt-lists",
        r"E: (?:Failed to fetch|The repository '[^']*' (?:is not signed|does not have a Release file)|Some index files failed)"
        # Reached only where the lists are missing: see `_fetched_lists`.
        r"|^E: (?:Unable to locate package|Package '[^']*' has no installation candidate)",
        title="Debian's package lists could not be fetched.",
        why="The mirror did not answer, or the base image's release is no longer kept there.",
        try_this="Check the network and proxy, or choose a newer base image.",
    ),
    _rule(
        "git-missing",
        r"Cannot find command 'git'|git: not found|No such file or directory: 'git'",
        title="A requirement comes from Git, and the image has no git.",
        why="pip needs the program to fetch it.",
        try_this="Add git to the system packages.",
    ),
    _rule(
        "git-access",
        r"fatal: (?:could not read Username|Authentication failed|repository '(?P<url>[^']+)' (?:not found|does not exist))|Permission denied \(publickey\)",
        title="A Git repository could not be read.",
        why="It needs a login, which a build does not have, or it does not exist.",
        try_this="Make a wheel of it and give it through a wheelhouse (--find-links).",
    ),
    _rule(
        "copy-missing",
        r"(?:failed to compute cache key|COPY failed|failed to calculate checksum)[^\n]{0,200}?\"?(?P<path>/?[\w./\-*]{1,300})\"?: (?:not found|no such file)"
        r"|\"(?P<path2>/[^\"\n]+)\" not found: not found"
        r"|lstat /var/lib/docker/(?:overlay2/\w+/merged|tmp/[\w\-]+)(?P<path3>/[^:\n]+): no such file",
        title="The Dockerfile copies “{path}”, which is not there.",
        why="The file is not in the folder of the code, or .dockerignore leaves it out.",
        try_this="Check the path in the COPY line and the .dockerignore file.",
    ),
    _rule(
        "dockerfile-syntax",
        r"dockerfile parse error(?: on)? line (?P<number>\d+): (?P<what>[^\n]+)|unknown instruction: (?P<word>\S+)|failed to parse stage name"
        r"|Unknown flag: (?P<flag>\S+)|failed to create LLB definition: (?P<what2>[^\n]+)",
        title="The Dockerfile cannot be read.",
        why="{what}",
        try_this="Mend that line of the Dockerfile.",
    ),
    _rule(
        "user-exists",
        r"useradd: (?:user '(?P<user>[^']+)' already exists|UID (?P<uid>\d+) is not unique)",
        title="The base image already has a user of that name or number.",
        why="ML Studio makes the user “mlstudio” with the number 1000.",
        try_this="Choose another base image, or your own Dockerfile.",
    ),
    _rule(
        "venv-missing",
        r"virtual environment was not created successfully because ensurepip is not|No module named venv",
        title="The base image has no module for virtual environments.",
        why="Debian keeps it in a package of its own, python3-venv.",
        try_this="Choose a base image with all of Python, such as python:3.11-slim-bookworm.",
    ),
    _rule(
        "file-missing",
        r"Could not open requirements file: [^\n]*?'(?P<path>[^'\n]+)'|can't open file '(?P<path2>[^'\n]+)'",
        title="A step needs the file {path}, which is not in the image.",
        why="Nothing copied it there before this step.",
        try_this="Copy it in an earlier line of the Dockerfile, and check that .dockerignore does not leave it out.",
    ),
    _rule(
        "permission",
        r"\[Errno 13\] Permission denied: '(?P<path>[^']+)'|cannot create directory[^\n]{0,1000}Permission denied|Read-only file system|(?<![\w/])(?P<p2>/\S+): Permission denied",
        title="A step may not write where it wants to.",
        why="No permission for {path}.",
        try_this="In your own Dockerfile, do this before the USER line.",
    ),
    _rule(
        "timeout",
        r"ReadTimeoutError|Read timed out|Connection timed out|timed out\.?\s*$",
        title="A download took too long.",
        why="The server stopped answering.",
        try_this="Build again: what was fetched is kept. A mirror nearby may help (--index-url).",
    ),
    _rule(
        "network",
        r"NewConnectionError|Failed to establish a new connection|Network is unreachable|Connection refused|ConnectionResetError"
        r"|IncompleteRead|Connection broken|Failed to connect to \S+ port \d+|Could not connect to \S+",
        title="The network failed.",
        why="A server could not be reached, or the connection broke.",
        try_this="Check the network and build again; behind a proxy set --proxy and --cert.",
    ),
    _rule(
        "package-build-failed",
        r"(?:Failed building wheel for|Could not build wheels for|Failed to build(?: installable wheels for)?):? '?(?P<package>[\w.\-]+)",
        title="A package could not be built from its sources.",
        why="Its own build failed: {package}.",
        try_this="Choose a version with ready-made wheels for this Python (often a newer one).",
    ),
    _rule(
        "package-build-failed",
        r"error: metadata-generation-failed|error: subprocess-exited-with-error",
        title="A package could not be built from its sources.",
        why="Its own build failed: {package}.",
        try_this="Choose a version with ready-made wheels for this Python (often a newer one).",
    ),
    _rule(
        "command-not-found",
        r"(?:/bin/sh: \d+: |sh: |bash: )(?P<program>[\w./\-]+): (?:command )?not found|exec: \"(?P<program2>[^\"]+)\": (?:executable file|stat)",
        title="The program “{program}” is not in the image.",
        why="A step of the Dockerfile calls it.",
        try_this="Install it in an earlier step (system packages).",
    ),
)


def diagnose(step_name: str, log_text: str, exit_text: str, dockerfile: str) -> Diagnosis:
    """The likely cause of a failed step, from what it printed (`log_text`) and the builder's own words (`exit_text`)."""
    log = _ANSI.sub("", log_text)[-_MAX_TEXT:]
    text = f"{log}\n{exit_text}"
    lines = tuple(line.rstrip() for line in log.splitlines() if line.strip())[-LAST_LINES:]
    line = _dockerfile_line(step_name, dockerfile)
    for rule in RULES:
        match = rule.pattern.search(text)
        if match is None:
            continue
        groups = {name.rstrip("0123456789"): value for name, value in match.groupdict().items() if value}
        groups["0"] = match.group(0)
        if not rule.check(text, groups):
            continue
        number = groups.get("number", "")
        return Diagnosis(
            rule=rule.name,
            title=_words(rule.title, groups),
            why=_words(rule.why, groups),
            try_this=_words(rule.try_this, groups),
            step=step_name,
            dockerfile_line=int(number) if number.isdigit() else line,
            last_lines=lines or tuple(exit_text.splitlines()[-LAST_LINES:]),
        )
    return Diagnosis(
        rule="unknown",
        title="A step of the build failed.",
        why=exit_text.strip().splitlines()[-1][:300] if exit_text.strip() else "It did not say why.",
        try_this="Its last lines usually name the cause.",
        step=step_name,
        dockerfile_line=line,
        last_lines=lines or tuple(exit_text.splitlines()[-LAST_LINES:]),
    )


def _words(template: str, groups: Mapping[str, str]) -> str:
    known = dict(groups)
    if "ignored" in known:
        known["needs"] = _python_needed(known)
    if "versions" in known:
        known["newest"] = ", ".join([entry.strip() for entry in known["versions"].split(",")[-3:]])
    known.setdefault("image", "it")
    known.setdefault("needs", "another version")
    known.setdefault("packages", "Two of them")
    known.setdefault("package", "see its last lines")
    known.setdefault("what", "It has an instruction that does not exist.")
    known.setdefault("path", "that place")
    known.setdefault("library", "a library")
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found.group(1), "").strip()[:160], template)


def _dockerfile_line(step_name: str, dockerfile: str) -> int:
    """The line (1-based) of the instruction that a step's name repeats; 0 if it is not found."""
    name = _plain(re.sub(r"^\[[^\]]*\]\s*", "", step_name))
    if not name:
        return 0
    position = 0
    for _, instruction in split_instructions(dockerfile):
        begin = dockerfile.find(instruction, position)
        position = begin + len(instruction)
        if _plain(instruction)[:120] == name[:120] or (
            len(name) > 20 and _plain(instruction).startswith(name[:80])
        ):
            return dockerfile.count("\n", 0, begin) + 1
    return 0


def _plain(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())
